#!/bin/bash
# See transcribe at work: real speech, a real Whisper, a throwaway PostgreSQL.
#
#   ./demo.sh [--keep] [FILE...]
#
# Transcribes some sentences of a LibriVox reading, or the given recordings.
# --keep leaves the server up, and says how to connect and how to stop it.
#
# Works on a fresh Debian or Ubuntu: missing packages are installed, with sudo
# where not root.  PostgreSQL is a private copy on a Unix socket, Whisper
# listens on loopback; both live in a directory that is removed at the end.
# What is kept: the packages, and the Whisper environment in the cache (half a
# gigabyte, see test/lib/common.sh), so that the second run is quick.

set -u
root=$(cd "$(dirname "$0")" && pwd)
. "$root/test/lib/common.sh"

keep=
case ${1:-} in
    --keep) keep=yes; shift ;;
    -*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
files=()
for file in "$@"
do
    [ -f "$file" ] || { echo "no such file: $file"; exit 1; }
    files+=("$(realpath "$file")")
done

throwaway demo
whisper_pid=

leave()
{
    [ -z "$whisper_pid" ] || ! in_directory "$whisper_pid" "$work" || kill "$whisper_pid"
    clean_up
}
trap leave EXIT
trap 'exit 130' INT TERM HUP

# Runs a step: says what, keeps its noise in a log, shows that if it fails.
step()
{
    local began=$SECONDS what=$1

    shift
    printf '%-46s' "$what"
    if ! "$@" > "$work/step.log" 2>&1
    then
        echo "failed"
        tail -n 50 "$work/step.log"
        [ ! -f "$work/postgresql.log" ] || tail -n 20 "$work/postgresql.log"
        exit 1
    fi
    printf '%3d s\n' $((SECONDS - began))
}

# psql on the throwaway server.
sql()
{
    as_user "$bin/psql" -X -q -h "$work" -d postgres -v ON_ERROR_STOP=1 \
        -P pager=off "$@"
}

# Shows a query to the reader, and its result: query, then psql's options.
show()
{
    printf '\n%s\n\n' "$1"
    sql -P footer=off "${@:2}" -c "$1"
}

# Starts Whisper and waits for its port.
start_whisper()
{
    local tries

    # In a session of its own, because --keep lets it outlive the terminal; in
    # $work, which is how it is known before it is killed.
    (cd "$work" && exec setsid "${run[@]}" "$python" src/test/whisper/whisper_server.py) \
        < /dev/null > "$work/whisper.out" 2> "$work/whisper.log" &
    whisper_pid=$!
    for tries in {1..600}
    do
        port=$(sed -n 's/^listening on //p' "$work/whisper.out")
        [ -z "$port" ] || return 0
        kill -0 "$whisper_pid" || break
        sleep 0.1
    done
    cat "$work/whisper.log"
    return 1
}

# The recordings: those of the tests, or the user's, as a directory or a copy
# that the server's user can read.
prepare_recordings()
{
    local file copy

    if [ ${#files[@]} = 0 ]
    then
        as_user "$work/src/test/audio/make.sh" "$work/audio" || return
        for file in austen-0870.wav austen-0880.wav austen-0890.m4a \
            austen-0920.flac austen-0870.mp3 austen-0930.mp4 silence-inside.wav
        do
            recordings+=("$work/audio/$file")
        done
        return
    fi
    for file in "${files[@]}"
    do
        if ! as_user test -r "$file"
        then
            # For the server and nobody else; two files may have one name.
            copy=$work/copy-${#recordings[@]}
            mkdir -m 700 "$copy" && cp "$file" "$copy/" &&
                chown -R "$user:" "$copy" || return
            file=$copy/${file##*/}
        fi
        recordings+=("$file")
    done
}

# Enqueues all of them in one statement; the session is the file's name.
enqueue()
{
    local values= file

    for file in "${recordings[@]}"
    do
        file=${file//\'/\'\'}
        values+="${values:+, }('${file##*/}', '$file')"
    done
    sql -c "SELECT transcribe_enqueue(session_id => v.name, path => v.path)
            FROM (VALUES $values) AS v (name, path)"
}

# Prints how the jobs stand, every second, until all have ended.
watch_jobs()
{
    local counts unfinished

    while
        counts=$(sql -At -c "SELECT string_agg(n || ' ' || status, ', ' ORDER BY status)
            FROM (SELECT status, count(*) AS n FROM transcribe_jobs GROUP BY 1) AS s")
        unfinished=$(sql -At -c "SELECT count(*) FROM transcribe_jobs
            WHERE status IN ('queued', 'preprocessing', 'transcribing')")
        printf '\n%s\n' "$counts"
        [ "$unfinished" -gt 0 ]
    do
        sql -P footer=off -c "SELECT session_id, status, percent, message,
            chunk, chunks FROM transcribe_progress ORDER BY job_id"
        sleep 1
    done
}

# Writes the script that ends what --keep leaves.
write_stop()
{
    cat > "$work/stop" <<STOP
#!/bin/bash
# Ends the demonstration in $work and removes it.
root='$root'
. '$work/src/test/lib/common.sh'
work='$work'
! in_directory $whisper_pid '$work' || kill $whisper_pid
clean_up
STOP
    chmod +x "$work/stop"
}

recordings=()
step "Packages" install_packages
step "Building transcribe, private PostgreSQL" build
step "Whisper (tiny, English) and its environment" whisper
step "Starting Whisper" start_whisper
step "Starting PostgreSQL" start_postgresql
step "Recordings" prepare_recordings

show "CREATE EXTENSION transcribe;" || exit
show "SELECT step, ok, detail
FROM transcribe_setup('http://127.0.0.1:$port/v1', model => 'tiny.en');" || exit

printf '\nOther kinds of servers take no more.  Of these only "gpu" will be asked, and\n'
printf 'nobody listens there, so that the next server of the list takes over.\n'
show "CREATE SERVER openai FOREIGN DATA WRAPPER transcribe
    OPTIONS (profile 'openai', model 'whisper-1');
CREATE SERVER azure FOREIGN DATA WRAPPER transcribe
    OPTIONS (profile 'azure', url 'https://example.openai.azure.com', model 'whisper');
CREATE SERVER cpp FOREIGN DATA WRAPPER transcribe OPTIONS (profile 'whisper.cpp');
CREATE SERVER gpu FOREIGN DATA WRAPPER transcribe OPTIONS (url 'http://127.0.0.1:9/v1');
ALTER DATABASE postgres SET transcribe.server = gpu, whisper;" || exit

printf 'Enqueueing %s recordings, all at once.\n' "${#recordings[@]}"
step "SELECT transcribe_enqueue(...)" enqueue
watch_jobs

show "SELECT job_id, session_id, segment_no AS n, start_s, end_s, text
FROM transcribe_segments ORDER BY job_id, segment_no;"
last=$(sql -At -c "SELECT replace(session_id, '''', '''''')
    FROM transcribe_jobs ORDER BY status <> 'completed', id DESC LIMIT 1")
show "SELECT jsonb_pretty(transcribe_result('$last'));" -At
show "SELECT transcribe_srt('$last');" -At
show "SELECT session_id, status, served_by, round(duration_s::numeric, 2) AS duration_s,
       round(speech_s::numeric, 2) AS speech_s,
       round(extract(epoch FROM finished_at - created_at), 2) AS took_s,
       coalesce(error, '') AS error
FROM transcribe_jobs ORDER BY id;"
show "SELECT server, state, error FROM transcribe_servers ORDER BY server;"
show "SELECT item, ok, detail FROM transcribe_check(servers => false);"

[ "$(sql -At -c "SELECT count(*) FROM transcribe_jobs WHERE status <> 'completed'")" = 0 ]
status=$?

if [ -n "$keep" ]
then
    write_stop
    trap - EXIT
    disown "$whisper_pid"
    printf '\nStill running.  Connect:  %s -h %s -U %s postgres\nStop and remove:  %s\n' \
        "$bin/psql" "$work" "$user" "$work/stop"
fi
exit $status
