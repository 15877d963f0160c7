#!/bin/bash
# Run ./check.sh on several releases of Debian, each in a system of its own.
#
#   test/matrix.sh                      all tests, on each
#   test/matrix.sh tap 040_crash        what ./check.sh takes
#   RELEASES="trixie sid" test/matrix.sh
#   MATRIX_DIR=DIR test/matrix.sh       keeps the systems there, for next time
#
# Each release brings its own PostgreSQL, FFmpeg and libcurl; what came of each
# is printed at the end.  Needs root and debootstrap.  The systems are made from
# the mirror of this one, if it has one of Debian, and take over its settings of
# apt and pip.  They are entered as a container is, by pivot_root in namespaces of
# their own, and not by chroot, in which tests could make no namespaces.  The mounts
# and whatever still runs go with the namespaces, however this ends.
#
# Exit status: 0 if everything passed everywhere.

set -u
source=$(cd "$(dirname "$0")/.." && pwd)
releases=${RELEASES:-bookworm trixie sid}

fail() { echo "$0: $*" >&2; exit 2; }

[ "$(id -u)" = 0 ] || fail "needs root"
command -v debootstrap > /dev/null || fail "needs debootstrap"

if [ -n "${MATRIX_DIR:-}" ]
then
    mkdir -p "$MATRIX_DIR" && dir=$(cd "$MATRIX_DIR" && pwd) || exit 2
else
    dir=$(mktemp -d "${TMPDIR:-/tmp}/transcribe-matrix.XXXXXX") || exit 2
    # Nothing is mounted below it in this namespace.
    trap 'rm -rf --one-file-system "$dir"' EXIT
fi
trap 'exit 130' INT TERM HUP

# The mirror that this system has Debian's packages from; nothing where it has none.
mirror()
{
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' \
        2>/dev/null | head -n 1
}

# Makes the system of a release, or uses the one that is there.
make_system()
{
    local release=$1 root=$dir/$1 uri

    uri=$(mirror)
    if [ ! -e "$root/etc/transcribe-matrix" ]
    then
        rm -rf --one-file-system "$root"
        debootstrap --variant=minbase "$release" "$root" ${uri:+"$uri"} &&
        touch "$root/etc/transcribe-matrix" || return
    fi

    # As this system reaches network, packages and pip's packages.
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/" &&
    apt-config dump | grep -E '^Acquire::(Check-|ftp|http|https|Retries)' \
        > "$root/etc/apt/apt.conf.d/90matrix"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
    # Certificates and wheels go to where the new system has nothing.
    pip_env=()
    if certificates=$(pip_setting cert) && [ -f "$certificates" ]
    then
        cp -L "$certificates" "$root/opt/pip-cert.crt"
        pip_env+=(PIP_CERT=/opt/pip-cert.crt)
    fi
    if wheels=$(pip_setting find-links) && [ -d "$wheels" ]
    then
        rm -rf "$root/opt/pip-wheels"
        cp -rL "$wheels" "$root/opt/pip-wheels"
        pip_env+=(PIP_FIND_LINKS=/opt/pip-wheels)
    fi

    # The source tree, as check.sh itself takes it.
    rm -rf "$root/srv/transcribe"
    mkdir -p "$root/srv/transcribe"
    (cd "$source" && git ls-files -coz --exclude-standard) |
        tar -C "$source" --null --ignore-failed-read -cf - -T - 2>/dev/null |
        tar -C "$root/srv/transcribe" --no-same-owner -xf -
}

# Prints a setting of pip: from the environment, else from its files.
pip_setting()
{
    local variable=PIP_${1^^}

    variable=${variable//-/_}
    if [ -n "${!variable:-}" ]
    then
        echo "${!variable}"
    else
        sed -n "s/^$1 *= *//p" /etc/pip.conf 2>/dev/null | grep -m 1 .
    fi
}

# Runs a command in a system, with nothing of the environment but what tests and
# pip read.
enter()
{
    local root=$1 name passed=()

    shift
    for name in $(compgen -e | grep -E '^(PIP|FUZZ|BATTERY|TRANSCRIBE_TEST|PG_TEST)_')
    do
        passed+=("$name=${!name}")
    done
    unshare --mount --pid --fork --kill-child bash -euc '
        root=$1
        shift
        mount --bind "$root" "$root"
        cd "$root"
        mount -t proc proc proc
        mount -t sysfs sysfs sys
        mount --bind /dev dev
        mount -t devpts devpts dev/pts
        mkdir -p dev/shm old
        mount -t tmpfs -o mode=1777 tmpfs dev/shm
        pivot_root . old
        exec chroot . sh -c "umount -l /old; exec \"\$@\"" sh "$@"
    ' bash "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        "${passed[@]}" "${pip_env[@]}" "$@"
}

# Prints the newest version of the packages of a pattern that a system has.
version()
{
    dpkg-query --admindir="$dir/$1/var/lib/dpkg" -W -f '${db:Status-Abbrev} ${Version}\n' \
        "$2" 2>/dev/null | sed -n 's/^ii *//p' | sed 's/^[0-9]*://; s/[-+].*//' |
        sort -V | tail -n 1
}

# All of it is read before anything runs, so that the file may change meanwhile.
main()
{
    local release log begun result status table

    status=0
    table=$(printf '%-10s %-11s %-8s %-8s %s' release PostgreSQL FFmpeg libcurl result)
    for release in $releases
    do
        printf '\n==== %s\n' "$release"
        log=$dir/$release.log
        begun=$SECONDS
        if make_system "$release"
        then
            enter "$dir/$release" /srv/transcribe/check.sh "$@" < /dev/null 2>&1 | tee "$log"
            [ "${PIPESTATUS[0]}" = 0 ] || status=1
            result=$(tail -n 1 "$log")
        else
            status=1
            result="no system could be made"
        fi
        table+=$(printf '\n%-10s %-11s %-8s %-8s %s, %d min' "$release" \
            "$(version "$release" 'postgresql-[1-9]*')" "$(version "$release" 'libavcodec-dev')" \
            "$(version "$release" 'libcurl4-openssl-dev')" "$result" $(((SECONDS - begun) / 60)))
    done
    printf '\n%s\n' "$table"
    return "$status"
}
main "$@"; exit
