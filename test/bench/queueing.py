"""What the queue itself costs: enqueueing, carrying, and doing nothing.

    queueing.py SOCKETS [--rounds N] [PART...]

Run by "make bench-queue", which has started a server of its own, with
PostgreSQL's and our settings as they are by default, and has put instant.c in
the place of the agent: no file is read and no server is asked.  So what is
left of a job is a row that is claimed, a request that is noted, a chunk and a
segment that are saved, and a row that completes.  The parts are enqueue,
latency, throughput and idle; all, if none is named.

Clients are sessions of libpq, and their times are those of CLOCK_MONOTONIC,
as the agent's are.
"""

import argparse
import ctypes
import ctypes.util
import os
import random
import statistics
import sys
import time

from tables import Failed, note

RECORDING = "current_setting('data_directory') || '/PG_VERSION'"


class Session:
    """A connection to a database."""

    libpq = ctypes.CDLL(ctypes.util.find_library("pq"))
    libpq.PQconnectdb.restype = ctypes.c_void_p
    libpq.PQexec.restype = ctypes.c_void_p
    libpq.PQgetvalue.restype = ctypes.c_char_p
    libpq.PQresultErrorMessage.restype = ctypes.c_char_p

    def __init__(self, sockets, database):
        self.connection = ctypes.c_void_p(self.libpq.PQconnectdb(
            f"host={sockets} dbname={database}".encode()))

    def query(self, sql):
        """Run a statement; the first column of its rows."""
        result = ctypes.c_void_p(
            self.libpq.PQexec(self.connection, sql.encode()))
        error = self.libpq.PQresultErrorMessage(result).decode()
        values = [self.libpq.PQgetvalue(result, row, 0).decode()
                  for row in range(self.libpq.PQntuples(result))]
        self.libpq.PQclear(result)
        if error:
            raise Failed(error)
        return values

    def number(self, sql):
        """The number that a query returns."""
        return float(self.query(sql)[0])

    def wait(self, sql):
        """Wait until a query returns true."""
        while self.query(sql) != ["t"]:
            time.sleep(0.01)

    def drain(self):
        """Wait until all jobs are done, and begin with empty tables."""
        self.wait("SELECT NOT EXISTS (SELECT FROM transcribe_jobs WHERE "
                  "status IN ('queued', 'preprocessing', 'transcribing'))")
        failed = self.number("SELECT count(*) FROM transcribe_jobs "
                             "WHERE status <> 'completed'")
        if failed:
            raise Failed(f"{failed} jobs have not completed")
        self.query("TRUNCATE transcribe_jobs, transcribe_chunks, "
                   "transcribe_chunk_segments, transcribe_attempts")


def setting(session, name, value):
    """Change a setting of the server."""
    session.query(f"ALTER SYSTEM SET {name} = {value}")
    session.query("SELECT pg_reload_conf()")


def figure(name, values, unit):
    """A line: the median of all rounds."""
    note(f"{name:58}{statistics.median(values):10.0f} {unit}")


def enqueue(session, _sockets, rounds):
    """Rows into the queue; none of them is due."""
    alone, together = [], []
    for _ in range(rounds):
        started = time.monotonic()
        for number in range(5000):
            session.query(f"SELECT transcribe_enqueue({number}, {RECORDING}, "
                          "run_at => 'infinity')")
        alone.append(5000 / (time.monotonic() - started))
        started = time.monotonic()
        session.query(f"SELECT count(transcribe_enqueue('n' || n, {RECORDING},"
                      " run_at => 'infinity')) FROM generate_series(1, 10000) n")
        together.append(10000 / (time.monotonic() - started))
        session.query("TRUNCATE transcribe_jobs")
    print("\nEnqueue, one client")
    figure("one row in a transaction", alone, "rows/s")
    figure("10,000 rows in a statement", together, "rows/s")


def latency(session, _sockets, rounds):
    """From an enqueue to the agent, with a worker that is idle.

    The worker is woken by the commit itself, so that it may be sooner than
    the client's reply: then the second of the two is negative."""
    called, returned, opened = {}, {}, {}
    for number in range(200 * rounds + 1):
        called[number] = time.monotonic()
        session.query(f"SELECT transcribe_enqueue({number}, {RECORDING})")
        returned[number] = time.monotonic()
        time.sleep(random.uniform(0.01, 0.03))
    session.wait("SELECT NOT EXISTS (SELECT FROM transcribe_jobs "
                 "WHERE status <> 'completed')")
    for row in session.query("SELECT session_id || ' ' || text "
                             "FROM transcribe_segments"):
        number, text = row.split()
        opened[int(number)] = float(text)
    session.drain()
    # The first has started the worker.
    del opened[0]
    print("\nFrom an enqueue that commits by itself to the OPEN in the agent")
    for name, since in (("call", called), ("return", returned)):
        late = sorted((at - since[n]) * 1e6 for n, at in opened.items())
        figure(f"since its {name}, p50", [late[len(late) // 2]], "us")
        figure(f"since its {name}, p99", [late[len(late) * 99 // 100]], "us")


def carry(session, count):
    """Jobs a second, of many that wait already."""
    session.query("SELECT count(transcribe_enqueue('j' || n, "
                  f"{RECORDING}, run_at => now() + '4 s')) "
                  f"FROM generate_series(1, {count}) n")
    session.query("VACUUM ANALYZE transcribe_jobs")
    session.wait("SELECT NOT EXISTS (SELECT FROM transcribe_jobs "
                 "WHERE status <> 'completed')")
    seconds = session.number("SELECT extract(epoch FROM max(finished_at) - "
                             "min(started_at)) FROM transcribe_jobs")
    if session.number("SELECT count(*) FROM transcribe_segments") != count:
        raise Failed("a segment is missing")
    session.drain()
    return count / seconds


def throughput(session, _sockets, rounds):
    """Jobs through one worker."""
    print("\nJobs through one worker, each with a segment, an attempt and a chunk")
    for processes in (2, 64):
        setting(session, "transcribe.media_processes", processes)
        figure(f"transcribe.media_processes = {processes}",
               [carry(session, 20000) for _ in range(rounds)], "jobs/s")
    setting(session, "transcribe.media_processes", "DEFAULT")


def cpu(pid):
    """Seconds of a processor that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_later(session, sockets):
    """Databases with jobs that are due, or to be removed, tomorrow."""
    setting(session, "transcribe.retain_failed", "'1d'")
    for number in range(3):
        session.query(f"CREATE DATABASE later{number}")
        later = Session(sockets, f"later{number}")
        later.query("CREATE EXTENSION transcribe")
        later.query("CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe "
                    "OPTIONS (url 'http://127.0.0.1:9/v1')")
        later.query(f"SELECT transcribe_enqueue('s', {RECORDING}, "
                    "run_at => now() + '1 day')")
        later.query("SELECT transcribe_cancel(transcribe_enqueue('c', "
                    f"{RECORDING}, run_at => now() + '1 day'))")


def idle(session, sockets, _rounds):
    """Nothing to do, for a minute; looked at from a database of its own."""
    busy_later(session, sockets)
    session.query("CREATE DATABASE looking")
    other = Session(sockets, "looking")
    other.wait("SELECT NOT EXISTS (SELECT FROM pg_stat_activity "
               "WHERE backend_type = 'transcribe worker')")
    launcher = int(other.number("SELECT pid FROM pg_stat_activity "
                                "WHERE backend_type = 'transcribe launcher'"))
    session.query("ALTER SYSTEM SET autovacuum = off")
    session.query("SELECT pg_reload_conf()")
    session.query("SELECT pg_stat_force_next_flush()")
    counted = ("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database "
               "WHERE datname IS DISTINCT FROM 'looking'")
    # Sessions that rest tell what they have done after ten seconds.
    time.sleep(12)
    before = (other.number(counted), cpu(launcher))
    time.sleep(60)
    after = (other.number(counted), cpu(launcher))
    workers = other.number("SELECT count(*) FROM pg_stat_activity "
                           "WHERE backend_type = 'transcribe worker'")
    print("\nIdle for a minute")
    figure("workers", [workers], "")
    figure("transactions", [after[0] - before[0]], "")
    figure("CPU of the launcher", [(after[1] - before[1]) * 1000], "ms")


PARTS = {"enqueue": enqueue, "latency": latency, "throughput": throughput,
         "idle": idle}


def main():
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sockets")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help=", ".join(PARTS))
    options = parser.parse_intermixed_args()
    unknown = set(options.parts) - set(PARTS)
    if options.rounds < 1 or unknown:
        parser.error(f"no such part: {', '.join(unknown)}" if unknown
                     else "at least one round is needed")

    session = Session(options.sockets, "postgres")
    session.query("CREATE EXTENSION transcribe")
    session.query("CREATE SERVER whisper FOREIGN DATA WRAPPER transcribe "
                  "OPTIONS (url 'http://127.0.0.1:9/v1', max_requests '0')")
    print(f"medians of {options.rounds} rounds on {os.cpu_count()} cores")
    for name in options.parts or PARTS:
        PARTS[name](session, options.sockets, options.rounds)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"this did not work: {failed}")
    except KeyboardInterrupt:
        sys.exit(130)
