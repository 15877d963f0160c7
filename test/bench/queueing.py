"""What the queue itself costs, and what others do: enqueueing, carrying, and
doing nothing.

    queueing.py SOCKETS PEERS [--rounds N] [PART...]

Run by "make bench-queue", which has started a server of its own, with
PostgreSQL's settings and ours as they are by default, has put instant.c in the
place of the agent, and has installed other queues in PEERS.  The parts are
enqueue, latency, throughput, full and idle; all, if none is named.

No file is read and no audio server is asked.  So what is left of a job of ours
is a row that is claimed, a request that is noted, a chunk and a segment that
are saved, and a row that completes.  The others' jobs do nothing.  Each round
runs ours and all of them one after another, on the same server, which has an
empty database for each; ratios are taken within a round.

Times are those of CLOCK_MONOTONIC in all programs, but for how long we carry
many jobs, which their rows tell.  An enqueue is measured by its client: ours is
libpq with a prepared statement, the others' their own, of which River's prepares
its statements, too.
"""

import contextlib
import os
import random
import time

from peer import PROGRAMS, Peer
from session import Session
from tables import Failed, heading, limit, main, note, row, rows

RECORDING = "current_setting('data_directory') || '/PG_VERSION'"

# Finished jobs that are in the tables for long.
OLD = 1000000

# Jobs that wait where throughput is measured, or are enqueued in a statement;
# and those that are enqueued one by one where nobody waits for them.
MANY = 10000
ALONE = 2000

# Recordings that the worker may have read at the same time.  By default there
# are few, since each has a process; here none has.
MEDIA_PROCESSES = 64

# Jobs whose latency is taken, and least ms between two of them.
JOBS = 200
GAP = 20

# What the others are set to: concurrency and batch.  Without batches pg-boss
# takes a job each time that it polls.
WARM = {
    "graphile-worker": ("graphile-worker", 1, 0),
    "graphile-worker, local queue": ("graphile-worker", 10, 11),
    "pg-boss": ("pg-boss", 1, 1),
    "River": ("River", 10, 0),
    "procrastinate": ("procrastinate", 1, 0),
}
BATCHED = {
    "graphile-worker, 10, queue of 50": ("graphile-worker", 10, 50),
    "pg-boss, 4 x 100": ("pg-boss", 4, 100),
    "River, 100": ("River", 100, 0),
}
SINGLE = {
    "graphile-worker": ("graphile-worker", 10, 0),
    "River": ("River", 10, 0),
    "procrastinate": ("procrastinate", 10, 0),
}

# Two servers for one list, of which none gets jobs ahead of its requests: so
# that there are ten in the worker.
TEN = ("five", "other_five")


class Ours:
    """Our queue, in a database of its own."""

    def __init__(self, sockets, database):
        self.sockets = sockets
        self.database = database
        self.session = Session(sockets, database)
        self.session.query("CREATE EXTENSION transcribe")
        recording, = self.session.query(f"SELECT quote_literal({RECORDING})")
        self.session.prepare(
            "enqueue", f"SELECT transcribe_enqueue($1::text, {recording})")
        self.server("whisper", 0)
        for name in TEN:
            self.server(name, 5)
        self.old = False

    def server(self, name, requests):
        """A server that may be asked so much at the same time."""
        self.session.query(
            f"CREATE SERVER {name} FOREIGN DATA WRAPPER transcribe OPTIONS "
            f"(url 'http://127.0.0.1:9/v1', max_requests '{requests}')")

    def setting(self, name, value):
        """Change a setting of all databases."""
        self.session.query(f"ALTER SYSTEM SET {name} = {value}")
        self.session.query("SELECT pg_reload_conf()")

    def enqueue(self, name):
        """Enqueue a job."""
        self.session.execute(b"enqueue", str(name).encode())

    def fill(self, count, more=""):
        """Enqueue many in a statement."""
        self.session.query(
            f"SELECT count(transcribe_enqueue('many ' || n, {RECORDING}{more}))"
            f" FROM generate_series(1, {count}) n")

    def wait(self):
        """Wait until all that are due are done; it shall cost little."""
        self.session.wait(
            "SELECT NOT EXISTS (SELECT FROM transcribe_jobs WHERE "
            "status = 'queued' AND run_at <> 'infinity') AND NOT EXISTS "
            "(SELECT FROM transcribe_jobs "
            "WHERE status IN ('preprocessing', 'transcribing'))", 0.1)

    def begin(self):
        """With a worker that is there."""
        self.session.query("CHECKPOINT")
        self.enqueue("first")
        self.wait()

    def clear(self):
        """Remove all but the old jobs."""
        failed = self.session.number(
            "SELECT count(*) FROM transcribe_jobs "
            "WHERE status NOT IN ('queued', 'completed')")
        if failed:
            raise Failed(f"{failed:.0f} jobs have not completed")
        self.session.query("TRUNCATE transcribe_chunks, "
                           "transcribe_chunk_segments, transcribe_attempts")
        if self.old:
            self.session.query("DELETE FROM transcribe_jobs "
                               "WHERE NOT starts_with(session_id, 'old')")
            self.session.query("VACUUM transcribe_jobs")
        else:
            self.session.query("TRUNCATE transcribe_jobs")

    def age(self):
        """Put many finished jobs into the tables, to stay there."""
        self.begin()
        self.session.query(
            "INSERT INTO transcribe_jobs (session_id, path, server, owner, "
            "status, progress, attempts, language, duration_s, created_at, "
            "started_at, finished_at, home) "
            "SELECT 'old ' || n, path, server, owner, status, progress, "
            "attempts, language, duration_s, created_at, started_at, "
            "finished_at, home "
            f"FROM transcribe_jobs, generate_series(1, {OLD}) n")
        self.old = True
        self.clear()
        self.session.query("VACUUM ANALYZE transcribe_jobs")

    def rate(self, count):
        """Rows a second, one in a transaction."""
        started = time.monotonic()
        for number in range(count):
            self.enqueue(number)
        return count / (time.monotonic() - started)

    def latency(self, count, gap):
        """For each job the times of its call, its return, and its OPEN in
        the agent."""
        times = []
        self.begin()
        for number in range(count):
            called = time.monotonic()
            self.enqueue(number)
            times.append((called, time.monotonic()))
            time.sleep(gap * random.uniform(1, 2) / 1000)
        self.wait()
        opened = dict(pair.split() for pair in self.session.query(
            "SELECT session_id || ' ' || text FROM transcribe_segments "
            "WHERE session_id ~ '^[0-9]+$'"))
        return [(*pair, float(opened[str(number)]))
                for number, pair in enumerate(times)]

    def throughput(self, count, servers=("whisper",)):
        """Jobs a second, of many that wait already: from the first claim
        until the last job has completed."""
        self.begin()
        for name in servers:
            self.session.query(f"ALTER SERVER {name} OPTIONS (ADD hold 'on')")
        self.fill(count, f", server => '{','.join(servers)}'")
        self.session.query("VACUUM ANALYZE transcribe_jobs")
        for name in servers:
            self.session.query(f"ALTER SERVER {name} OPTIONS (DROP hold)")
        self.wait()
        if self.session.number(
                "SELECT count(*) FROM transcribe_segments "
                "WHERE starts_with(session_id, 'many')") != count:
            raise Failed("a segment is missing")
        return count / self.session.number(
            "SELECT extract(epoch FROM max(finished_at) - min(started_at)) "
            "FROM transcribe_jobs WHERE starts_with(session_id, 'many')")


# What a latency counts from.
CALL, RETURN = 0, 1


def portion(times, since, part):
    """So many of the jobs were handled within this, in ms; or within a
    microsecond, if that was before the client had its reply."""
    waits = sorted(1000 * (each[2] - each[since]) for each in times)
    return max(waits[int(len(waits) * part)], 0.001)


def enqueue(ours, peers, rounds):
    """Rows into the queue, while nobody takes any out."""
    alone, together = [], []
    theirs = {name: [] for name in peers}
    ours.setting("transcribe.enabled", "off")
    for _ in range(rounds):
        alone.append(ours.rate(ALONE))
        started = time.monotonic()
        ours.fill(MANY)
        together.append(MANY / (time.monotonic() - started))
        ours.clear()
        for name, peer in peers.items():
            theirs[name].append(peer.rate(ALONE))
    ours.setting("transcribe.enabled", "DEFAULT")
    heading("Enqueue, one client, one row in a transaction", "rows/s")
    rows(alone, theirs, 2, least=True)
    heading(f"Enqueue, {MANY} rows in a statement", "rows/s")
    limit("transcribe_enqueue", together, 50000, least=True)


def latency(ours, peers, rounds):
    """From an enqueue that commits by itself to who does the job, with a
    worker that is idle."""
    measured = {"ours": [], **{name: [] for name in WARM}}
    for _ in range(rounds):
        measured["ours"].append(ours.latency(JOBS, GAP))
        ours.clear()
        for name, (peer, *settings) in WARM.items():
            measured[name].append(peers[peer].latency(JOBS, GAP, *settings))

    def median(name, since):
        return [portion(times, since, 0.5) for times in measured[name]]

    heading("From the return of an enqueue to the handler, median", "ms")
    best = rows(median("ours", RETURN),
                {name: median(name, RETURN) for name in WARM}, 1 / 3)
    row("99 % of ours, median of the best",
        [portion(times, RETURN, 0.99) for times in measured["ours"]],
        median(best, RETURN), 1)
    heading("From the call of an enqueue to the handler, median", "ms")
    for name in WARM:
        row(name, median("ours", CALL), median(name, CALL))


def throughput(ours, peers, rounds):
    """Jobs through one worker, by one process of it."""
    many, ten = [], []
    theirs = {name: [] for name in BATCHED | SINGLE}
    ours.setting("transcribe.media_processes", MEDIA_PROCESSES)
    for number in range(rounds):
        many.append(ours.throughput(MANY))
        ours.clear()
        ten.append(ours.throughput(MANY, TEN))
        ours.clear()
        for name, (peer, *settings) in (BATCHED | SINGLE).items():
            # It takes longer than all the others.
            if number == 0 or name != "procrastinate":
                theirs[name].append(peers[peer].throughput(MANY, *settings))
    ours.setting("transcribe.media_processes", "DEFAULT")
    heading(f"{MANY} jobs that wait, one worker", "jobs/s")
    rows(many, {name: theirs[name] for name in BATCHED}, 1, least=True)
    note("ours: transcribe.jobs_per_worker = 200, "
         f"transcribe.media_processes = {MEDIA_PROCESSES}")
    heading("The same, ten at a time and no batches", "jobs/s")
    rows(ten, {name: theirs[name] for name in SINGLE}, 1.5, least=True)


def full(ours, _peers, rounds):
    """Many finished jobs in the tables, and an old snapshot that keeps all
    that is done to others from being forgotten."""
    ours.session.query("CREATE DATABASE old")
    old = Ours(ours.sockets, "old")
    old.age()
    carried = {ours: [], old: []}
    taken = {ours: [], old: []}
    ours.setting("transcribe.media_processes", MEDIA_PROCESSES)
    for _ in range(rounds):
        for queue in carried:
            if queue.old:
                snapshot = Session(ours.sockets, queue.database)
                snapshot.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
                snapshot.query("SELECT 1")
            carried[queue].append(queue.throughput(MANY))
            if queue.old:
                queue.fill(MANY, ", run_at => 'infinity'")
            else:
                queue.clear()
            taken[queue].append(queue.latency(JOBS, GAP))
            if queue.old:
                snapshot.close()
            queue.clear()
    ours.setting("transcribe.media_processes", "DEFAULT")
    old.session.close()
    ours.session.query("DROP DATABASE old WITH (FORCE)")
    heading(f"With {OLD} finished jobs, {MANY} that wait, and an old snapshot; "
            "peer: without", "ms")
    for name, since, part in (
            ("from the call to the handler, median", CALL, 0.5),
            ("from the return to the handler, median", RETURN, 0.5)):
        row(name, [portion(times, since, part) for times in taken[old]],
            [portion(times, since, part) for times in taken[ours]], 1.5)
    heading("The same", "jobs/s")
    row(f"{MANY} jobs", carried[old], carried[ours], 1 / 1.5, least=True)


def cpu(pid):
    """Seconds of a processor that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_later(ours):
    """Databases with jobs that are due, or to be removed, tomorrow."""
    ours.setting("transcribe.retain_failed", "'1d'")
    for number in range(3):
        ours.session.query(f"CREATE DATABASE later{number}")
        later = Session(ours.sockets, f"later{number}")
        later.query("CREATE EXTENSION transcribe")
        later.query("CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe "
                    "OPTIONS (url 'http://127.0.0.1:9/v1')")
        later.query(f"SELECT transcribe_enqueue('s', {RECORDING}, "
                    "run_at => now() + '1 day')")
        later.query("SELECT transcribe_cancel(transcribe_enqueue('c', "
                    f"{RECORDING}, run_at => now() + '1 day'))")


def idle(ours, _peers, _rounds):
    """Nothing to do, for a minute; looked at from a database of its own, and
    without autovacuum, whose transactions would be counted too."""
    ours.setting("autovacuum", "off")
    busy_later(ours)
    ours.session.query("CREATE DATABASE looking")
    other = Session(ours.sockets, "looking")
    other.wait("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE "
               "backend_type IN ('transcribe worker', 'autovacuum worker'))")
    launcher = int(other.number("SELECT pid FROM pg_stat_activity "
                                "WHERE backend_type = 'transcribe launcher'"))
    ours.session.query("SELECT pg_stat_force_next_flush()")
    counted = ("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database "
               "WHERE datname IS DISTINCT FROM 'looking'")
    # Sessions that rest tell what they have done after ten seconds.
    time.sleep(12)
    before = (other.number(counted), cpu(launcher))
    time.sleep(60)
    after = (other.number(counted), cpu(launcher))
    workers = other.number("SELECT count(*) FROM pg_stat_activity "
                           "WHERE backend_type = 'transcribe worker'")
    other.close()
    ours.setting("autovacuum", "DEFAULT")
    heading("Idle for a minute", "")
    limit("workers", [workers], 0)
    limit("transactions", [after[0] - before[0]], 0)
    limit("ms of a processor, by the launcher",
          [(after[1] - before[1]) * 1000], 0)


PARTS = {"enqueue": enqueue, "latency": latency, "throughput": throughput,
         "full": full, "idle": idle}


@contextlib.contextmanager
def prepared(sockets, installed):
    """Ours, and the others."""
    ours = Ours(sockets, "postgres")
    yield ours, {name: Peer(ours.session, sockets, installed, name)
                 for name in PROGRAMS}


if __name__ == "__main__":
    main(__doc__, ("sockets", "peers"), PARTS, prepared)
