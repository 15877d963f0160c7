#!/bin/bash
# Run a benchmark, by hand: "make bench-media", "bench-wer", "bench-requests" or
# "bench-queue".
#
#   run.sh media [--rounds N] [PART...]
#   run.sh wer
#   run.sh requests [--rounds N] [PART...]
#   run.sh queue [--rounds N] [PART...]
#
# The programs are those of the current directory, where make has built them;
# for requests and queue the tree is built anew, into a private PostgreSQL that
# is removed at the end.
# Recordings, Python environments and the peers of queue are kept in the cache
# (see test/lib/common.sh).  What is measured depends on the machine, and on
# what else it does meanwhile: look at the ratios.

set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/test/lib/common.sh"

kind=${1:-}
[ $# = 0 ] || shift

absent=
if command -v dpkg-query > /dev/null
then
    absent=$(missing ffmpeg pocketsphinx-testdata python3-venv)
fi
# Those of the distribution may be too old: go.mod says which Go it has to be,
# and npm brings the Node that is used.
if [ "$kind" = queue ]
then
    for command in go npm
    do
        command -v $command > /dev/null || absent="$absent $command"
    done
fi
if [ -n "$absent" ]
then
    echo "to be installed first:" $absent >&2
    exit 1
fi

case $kind in
    media)
        python=$("$root/test/whisper/venv.sh" "$cache/pydub" \
            "$root/test/bench/requirements.txt")
        "$python" "$root/test/bench/recordings.py" "$cache/bench"
        exec "$python" "$root/test/bench/media.py" "$cache/bench" "$@"
        ;;
    wer)
        python=$("$root/test/whisper/venv.sh" "$cache/whisper")
        exec "$python" "$root/test/bench/heard.py" "$@"
        ;;
    requests)
        python=$("$root/test/whisper/venv.sh" "$cache/service" \
            "$root/test/bench/service-requirements.txt")
        "$python" "$root/test/bench/recordings.py" "$cache/bench"
        throwaway bench
        trap clean_up EXIT
        trap 'exit 130' INT TERM HUP
        build
        "${make[@]}" test/bench/bin/spare
        start_postgresql > "$work/start.log" 2>&1 || { cat "$work/start.log"; exit 1; }
        cd "$work/src"
        as_user "$python" test/bench/jobs.py "$cache/bench" "$bin/psql" "$work" "$@"
        ;;
    queue)
        "$root/test/bench/peers/install.sh" "$cache/peers"
        throwaway bench
        trap clean_up EXIT
        trap 'exit 130' INT TERM HUP
        build
        "${make[@]}" test/bench/bin/instant
        as_user install "$work/src/test/bench/bin/instant" \
            "$("$bin/pg_config" --pkglibdir)/transcribe_agent"
        start_postgresql > "$work/start.log" 2>&1 || { cat "$work/start.log"; exit 1; }
        cd "$work/src"
        as_user python3 test/bench/queueing.py "$work" "$cache/peers" "$@"
        ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
