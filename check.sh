#!/bin/bash
# Run every test of transcribe, on this machine, touching nothing of it.
#
#   ./check.sh                          all
#   ./check.sh unit|fuzz|regress|isolation|tap [FILE...]
#                                       one kind, or some files of it
#
# Works on a fresh Debian or Ubuntu: missing packages are installed, with sudo
# where not root.  The source tree is copied, built with assertions and
# -Werror, and installed in a private copy of PostgreSQL, all in a directory
# that is removed at the end; tests run as a user that is not root, on
# servers that listen on sockets and loopback only.  What is kept: the
# packages, the Whisper environment in the cache (test/lib/common.sh), and
# what a fuzzer finds.  FUZZ_SECONDS (20) is how long each of them looks.
#
# The last line is "N passed, N failed"; the exit status is 0 if none failed.

set -u
root=$(cd "$(dirname "$0")" && pwd)
. "$root/test/lib/common.sh"

# For fuzzing; the demonstration does without.
packages="$packages clang libclang-rt-dev"

passed=0
failed=0

# What hangs is ended, long after the slowest is through; a TAP test ends itself
# before that (test/perl/TranscribeTest.pm).
limit=1800

heading() { printf '\n== %s\n' "$*"; }

# Adds to the totals, and to the failures if a run failed that counted none.
count()
{
    local status=$1 good=${2:-0} bad=${3:-0}

    [ "$status" = 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + good))
    failed=$((failed + bad))
}

# What still runs of our programs when all tests are over is a failure too.
# Two seconds are for what was told to end a moment ago.
left_behind()
{
    local tries found

    for tries in 1 2 3 4
    do
        found=$(find /proc/[0-9]*/exe -lname "$work/*" \
            -printf '%p -> %l\n' 2>/dev/null)
        [ -n "$found" ] || return 0
        sleep 0.5
    done
    heading "processes that were left behind"
    echo "$found"
    count 1
}

finish()
{
    printf '\n%s passed, %s failed\n' "$passed" "$failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}

# A step without which nothing else makes sense.
need()
{
    "$@" && return
    echo "could not go on: $* failed"
    count 1
    finish
}

# The names of tests: the arguments without directory and ending.
names()
{
    local file

    for file in "$@"
    do
        file=${file##*/}
        echo "${file%.*}"
    done
}

# Runs TAP tests: jobs, then files.
prove()
{
    local status

    rm -f "$work/counts"
    as_user timeout --foreground "$limit" \
        "$work/src/test/lib/prove.pl" "$work/counts" "$@"
    status=$?
    count $status $(head -n 1 "$work/counts" 2>/dev/null)
    return $status
}

# Runs pg_regress through make: which kind, then make's arguments.  It says
# "test name ... ok" before PostgreSQL 16, and TAP from then on.
pg_regress()
{
    local out=$1 status

    shift
    as_user timeout --foreground "$limit" "${make[@]:1}" installcheck "$@" 2>&1 |
        as_user tee "$work/$out.out"
    status=${PIPESTATUS[0]}
    count "$status" \
        "$(grep -cE '^((test)? +[^ ]+ +\.\.\. ok|ok )' "$work/$out.out")" \
        "$(grep -cE '^((test)? +[^ ]+ +\.\.\. FAILED|not ok )' "$work/$out.out")"
    return "$status"
}

# Prints the ends of what a failed test leaves: differences and logs.
post_mortem()
{
    local file

    for file in "$@"
    do
        [ -s "$file" ] || continue
        heading "${file#"$work"/src/}"
        tail -n 100 "$file"
    done
}

unit()
{
    heading "unit tests"
    # One that does not compile stops no other.
    "${make[@]}" -k unit || count 1
    cd "$work/src" || return
    if [ $# -gt 0 ]
    then
        prove "$(nproc)" $(names "$@" | sed 's,^,test/unit/bin/,')
    else
        prove "$(nproc)" test/unit/bin/*
    fi
}

regress()
{
    local wanted test tests=

    heading "regression tests"
    # Each goes on where the one before it ended, so those run as well.
    wanted=$(names "$@")
    for test in ${1:+$(sed -n 's/^REGRESS = //p' "$work/src/Makefile")}
    do
        tests="$tests $test"
        wanted=$(grep -vx "$test" <<< "$wanted") || break
    done
    tests=$(xargs <<< "$tests $wanted")
    pg_regress regress ISOLATION= TAP_TESTS= ${1:+REGRESS="$tests"} ||
        post_mortem "$work"/src/{regression.diffs,log/postmaster.log}
}

fuzz()
{
    heading "fuzzing"
    "${make[@]}" -k fuzz || count 1
    cd "$work/src" || return
    FUZZ_TARGETS="$(names "$@" | xargs)" prove 1 test/fuzz/run.sh
}

isolation()
{
    heading "isolation tests"
    pg_regress isolation REGRESS= TAP_TESTS= ${1:+ISOLATION="$(names "$@" | xargs)"} ||
        post_mortem "$work"/src/output_iso/{regression.diffs,log/postmaster.log}
}

tap()
{
    local pgxs test

    heading "TAP tests"
    need "${make[@]}" test/sandbox/attempt
    need as_user "$work/src/test/audio/make.sh" "$work/audio"
    need whisper
    need subtitles
    cd "$work/src" || return
    rm -rf tmp_check
    as_user mkdir -p tmp_check

    # As PGXS's prove_installcheck sets it, and what TranscribeTest.pm reads.
    pgxs=$(dirname "$("$bin/pg_config" --pgxs)")
    export TESTDIR=$work/src TESTDATADIR=$work/src/tmp_check
    export TESTLOGDIR=$TESTDATADIR/log PATH="$bin:$work/src:$PATH" PGPORT=65432
    export PG_REGRESS=$pgxs/../test/regress/pg_regress
    export PERL5LIB=$pgxs/../test/perl:$work/src/test/perl
    export TRANSCRIBE_TEST_AUDIO=$work/audio TRANSCRIBE_TEST_PYTHON=$python
    export TRANSCRIBE_TEST_SUBTITLES=$subtitles
    export PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-120}
    if [ $# -gt 0 ]
    then
        prove 2 $(names "$@" | sed 's,.*,test/t/&.pl,')
    else
        prove 2 test/t/*.pl
    fi && return
    for test in $(sed '1d; s,.*/,,; s,\.pl$,,' "$work/counts")
    do
        post_mortem tmp_check/log/*"$test"*
    done
}

case ${1:-} in
    ''|unit|fuzz|regress|isolation|tap) ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

throwaway check
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

need install_packages
heading "building"
need build COPT="-Werror -DUSE_ASSERT_CHECKING=1 -DTRANSCRIBE_FAILPOINTS"

if [ $# -gt 0 ]
then
    "$@"
else
    unit
    fuzz
    regress
    isolation
    tap
fi
left_behind
finish
