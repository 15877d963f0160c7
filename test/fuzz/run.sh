#!/bin/bash
# Run the fuzzers of test/fuzz/bin, as a TAP test.
#
#   run.sh [TARGET...]
#
# FUZZ_TARGETS may name them instead; without either, all are run.
# Each file of regress/TARGET must pass, and then the target itself for
# FUZZ_SECONDS (20), on the seeds of seeds.sh.  What it finds is kept, and
# named; "bin/TARGET FILE" shows it again.

set -u
shopt -s nullglob
fuzz=$(cd "$(dirname "$0")" && pwd)
seconds=${FUZZ_SECONDS:-20}
tests=0
failed=0

# An input may take a minute on a busy machine, and memory as in the sandbox.
options=(-timeout=60 -rss_limit_mb=3000)

# FFmpeg's code does not tell which seeds are worth keeping: all are.
search=(-max_total_time="$seconds" -keep_seed=1 -len_control=0
    -max_len=100000 -print_final_stats=1)

work=$(mktemp -d "${TMPDIR:-/tmp}/transcribe-fuzz.XXXXXX") || exit
clean_up()
{
    rm -rf "$work/seeds" "$work/corpus" "$work/log"
    rmdir "$work" 2>/dev/null
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# A test: its name, and the command whose log tells more if it fails.
holds()
{
    local name=$1 status

    shift
    nice "$@" > "$work/log" 2>&1
    status=$?
    tests=$((tests + 1))
    if [ $status = 0 ]
    then
        echo "ok $tests - $name"
    else
        echo "not ok $tests - $name"
        failed=$((failed + 1))
        tail -n 60 "$work/log" | sed 's/^/# /'
    fi
    return $status
}

[ $# -gt 0 ] || set -- ${FUZZ_TARGETS:-$(cd "$fuzz/bin" && ls)}
"$fuzz/seeds.sh" "$work/seeds" || exit
for target in "$@"
do
    for file in "$fuzz/regress/$target"/*
    do
        holds "$target: ${file##*/}" "$fuzz/bin/$target" "${options[@]}" "$file"
    done
    mkdir -p "$work/corpus/$target"
    if holds "$target: nothing found in $seconds s" \
        "$fuzz/bin/$target" "${options[@]}" "${search[@]}" \
        -artifact_prefix="$work/$target-" "$work/corpus/$target" \
        "$work/seeds/$target"
    then
        sed -n 's/^stat::number_of_executed_units: */# runs: /p' "$work/log"
    else
        echo "# found: $(ls "$work/$target"-* 2>/dev/null | xargs)"
    fi
done
echo "1..$tests"
exit $((failed > 0))
