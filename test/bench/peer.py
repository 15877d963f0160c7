"""Other queues, which queueing.py runs beside ours.

Each is a program in peers/, in the language that it is for:

    PROGRAM init                         make its tables
    PROGRAM fill COUNT                   jobs that wait, numbered from 0 on
    PROGRAM enqueue COUNT GAP            as many, each in a transaction of its
                                         own, with GAP to twice GAP ms between
    PROGRAM work COUNT CONCURRENCY BATCH     be a worker

Jobs do nothing.  The enqueuer prints when each call was made and when it
returned, as a list of pairs in JSON.  The worker prints "ready", then "done"
when so many jobs have come to its handler, and goes on; when its standard input
ends it prints which job came when, and leaves.  All times are seconds of
CLOCK_MONOTONIC; the database is that of libpq's environment variables.
"""

import contextlib
import json
import os
import pwd
import subprocess
import threading
import time

from session import Session
from tables import Failed

# Seconds that none of their programs takes unless it hangs.
LONGEST = 120

# Seconds in which a worker that has started comes to rest.
SETTLED = 2

# Of each the command, and a query for the jobs that are not done yet.
NODE = "node_modules/.bin/node"
PROGRAMS = {
    "graphile-worker": (
        [NODE, "graphile.mjs"],
        "FROM graphile_worker._private_jobs"),
    "pg-boss": (
        [NODE, "boss.mjs"],
        "FROM pgboss.job WHERE name = 'nothing' AND state < 'completed'"),
    "River": (
        ["./river"],
        "FROM river_job WHERE finalized_at IS NULL"),
    "procrastinate": (
        ["venv/bin/python", "procrastinator.py"],
        "FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"),
}


class Peer:
    """One of them, whose tables are empty at the beginning of each
    measurement; a worker's settings are its concurrency and its batch."""

    def __init__(self, session, sockets, installed, name):
        self.session = session
        self.sockets = sockets
        self.installed = installed
        self.command, self.unfinished = PROGRAMS[name]
        self.database = name
        self.template = None

    @contextlib.contextmanager
    def program(self, *arguments):
        """Run the program as long as the block lasts, and no longer than is
        reasonable."""
        environment = dict(os.environ, PGHOST=self.sockets,
                           PGDATABASE=self.database,
                           PGUSER=pwd.getpwuid(os.geteuid()).pw_name)
        with subprocess.Popen([*self.command, *map(str, arguments)],
                              cwd=self.installed, env=environment, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              ) as process:
            timer = threading.Timer(LONGEST, process.kill)
            timer.start()
            try:
                yield process
                process.stdin.close()
                process.wait()
            finally:
                timer.cancel()
                process.kill()
        if process.returncode != 0:
            raise Failed(" ".join(self.command))

    def run(self, *arguments):
        """Run the program to its end; what it printed."""
        with self.program(*arguments) as process:
            return process.stdout.read()

    def expect(self, worker, line):
        """Wait until the worker says so."""
        if worker.stdout.readline() != f"{line}\n":
            raise Failed(f"{' '.join(self.command)}: no {line}")

    def begin(self):
        """With empty tables: a copy of a database that init has been in."""
        if not self.template:
            self.session.query(f'CREATE DATABASE "{self.database}"')
            self.run("init")
            self.template = f"{self.database}, empty"
            self.session.query(f'ALTER DATABASE "{self.database}" '
                               f'RENAME TO "{self.template}"')
        else:
            self.session.query(f'DROP DATABASE "{self.database}" WITH (FORCE)')
        self.session.query(f'CREATE DATABASE "{self.database}" '
                           f'TEMPLATE "{self.template}"')
        self.session.query("CHECKPOINT")

    @staticmethod
    def finish(worker):
        """Let a worker end; when each job came to its handler."""
        worker.stdin.close()
        return dict(json.load(worker.stdout))

    def rate(self, count):
        """Rows a second that one client enqueues one by one."""
        self.begin()
        times = json.loads(self.run("enqueue", count, 0))
        # The first connects.
        return (count - 1) / (times[-1][1] - times[0][1])

    def latency(self, count, gap, *settings):
        """For each job the times of its call, its return, and its handler."""
        self.begin()
        with self.program("work", count, *settings) as worker:
            self.expect(worker, "ready")
            time.sleep(SETTLED)
            times = json.loads(self.run("enqueue", count, gap))
            self.expect(worker, "done")
            handled = self.finish(worker)
        return [(*pair, handled[n]) for n, pair in enumerate(times)]

    def throughput(self, count, *settings):
        """Jobs a second, of many that wait already: from the first that comes
        to a handler until all are noted as done."""
        self.begin()
        self.run("fill", count)
        session = Session(self.sockets, self.database)
        session.query("VACUUM ANALYZE")
        with self.program("work", count, *settings) as worker:
            self.expect(worker, "ready")
            self.expect(worker, "done")
            session.wait(f"SELECT NOT EXISTS (SELECT {self.unfinished})", 0.005)
            ended = time.monotonic()
            started = min(self.finish(worker).values())
        session.close()
        return count / (ended - started)
