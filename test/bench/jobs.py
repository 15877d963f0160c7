"""How long jobs take as a whole, from the enqueue to the result.

    jobs.py RECORDINGS PSQL SOCKETS [--rounds N] [PART...]

Run by "make bench-requests", which has built all in the current directory and
started a server of its own, with the extension in the database postgres.  The
parts are many, hour and twenty; all, if none is named.

The audio server is server.py, which does nothing but wait.  Before each
measurement one job has run, so that worker and agent are there: a service is
not started for each job.  Wall time is from the call that enqueues to the
commit of the last result, by the clock of the machine.

Memory is the sum of RssAnon over all processes, sampled: what they have for
themselves, and not the pages of files and of shared_buffers, which the system
has once for all.  What copies of the template share with it still counts for
each of them.  The peer's is measured in the same way.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from recordings import ffmpeg
from tables import Failed, heading, main, note, row

HERE = os.path.dirname(os.path.abspath(__file__))
MEDIA = os.path.abspath("transcribe_media")
SPARE = os.path.abspath("test/bench/bin/spare")

# Seconds between two looks at the jobs, and at memory.
POLL = 0.02


class Database:
    """A session of psql."""

    def __init__(self, psql, sockets):
        self.psql = subprocess.Popen(
            [psql, "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", sockets,
             "-d", "postgres"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def query(self, sql):
        """Run statements; the lines that they return."""
        print(sql, ";\n\\echo end", file=self.psql.stdin, flush=True)
        lines = []
        for line in self.psql.stdout:
            if line == "end\n":
                return lines
            lines.append(line.rstrip("\n"))
        raise Failed(sql)

    def server(self, name, url, **options):
        """Make a server."""
        options["url"] = url
        listed = ", ".join(f"{key} '{value}'"
                           for key, value in options.items())
        self.query(f"CREATE SERVER {name} FOREIGN DATA WRAPPER transcribe "
                   f"OPTIONS ({listed})")

    def run(self, server, paths):
        """Enqueue recordings, wait for all; the seconds they took."""
        listed = ", ".join(f"({n}, '{path}')" for n, path in enumerate(paths))
        session = f"{server} {time.time()}"
        started = time.time()
        self.query(f"SELECT count(transcribe_enqueue('{session} ' || n, path, "
                   f"server => '{server}')) "
                   f"FROM (VALUES {listed}) AS v (n, path)")
        self.query(f"""DO $$ BEGIN
            WHILE EXISTS (SELECT FROM transcribe_jobs WHERE status IN
                ('queued', 'preprocessing', 'transcribing'))
            LOOP PERFORM pg_sleep({POLL}); COMMIT; END LOOP; END $$""")
        ended, completed = self.query(
            "SELECT extract(epoch FROM max(finished_at)), "
            "count(*) FILTER (WHERE status = 'completed') "
            "FROM transcribe_jobs WHERE starts_with(session_id, "
            f"'{session}')")[0].split("|")
        if int(completed) != len(paths):
            raise Failed(f"only {completed} of {len(paths)} jobs completed")
        return float(ended) - started

    def worker(self):
        """The process that carries the jobs."""
        pids = self.query("SELECT pid FROM pg_stat_activity "
                          "WHERE backend_type = 'transcribe worker'")
        if len(pids) != 1:
            raise Failed(f"there are {len(pids)} workers")
        return int(pids[0])


class Server:
    """A server.py, as long as the block lasts."""

    def __init__(self, seconds):
        self.process = subprocess.Popen(
            [sys.executable, f"{HERE}/server.py", "--exit-with-stdin",
             "--seconds", str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self.process.stdout.readline().split()[-1]
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def reset(self):
        """Begin to count."""
        urllib.request.urlopen(f"{self.root}/reset", data=b"").close()

    def counts(self):
        """What was counted."""
        with urllib.request.urlopen(f"{self.root}/counts") as answer:
            return json.load(answer)


def family(pid):
    """A process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/task/{task}/children",
                          encoding="ascii") as file:
                    for child in file.read().split():
                        yield from family(int(child))


def anonymous(pid):
    """MB of memory that a process has for itself."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) / 1024
    return 0


class Peak:
    """The most memory that a process and its descendants have in a block."""

    def __init__(self, pid):
        self.pid = pid
        self.most = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        """Sample until the block is over."""
        while not self.over.wait(POLL):
            self.most = max(self.most,
                            sum(map(anonymous, family(self.pid))))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def service(url, how, sources):
    """The peer: seconds, and peak MB."""
    with subprocess.Popen(
            [sys.executable, f"{HERE}/service.py", url, how, *sources],
            stdout=subprocess.PIPE, text=True) as process:
        with Peak(process.pid) as peak:
            printed = process.stdout.read()
    if process.returncode != 0:
        raise Failed("service.py")
    return float(printed), peak.most


def many(database, recordings, scratch, rounds):
    """Many short jobs, one server that takes fifty at a time."""
    count, width, seconds = 200, 50, 0.2
    source = f"{scratch}/second.wav"
    subprocess.run(ffmpeg("-ss", "3.5", "-i", f"{recordings}/talk-1.mp3",
                          "-t", "1", "-ac", "1", "-ar", "16000", source),
                   check=True)
    walls, connections, server_ms = {"wav": [], "mp3": []}, [], []
    with Server(seconds) as server:
        for audio in walls:
            database.server(f"many_{audio}", server.url, max_requests=width,
                            audio_format=audio)
            database.run(f"many_{audio}", [source])
        for _ in range(rounds):
            for audio, wall in walls.items():
                server.reset()
                wall.append(database.run(f"many_{audio}", [source] * count))
                database.worker()
                counts = server.counts()
                if counts["requests"] != count:
                    raise Failed(f"{counts['requests']} requests")
                connections.append(counts["connections"])
                server_ms.append(counts["cpu"] / count * 1000)
    least = [count / width * seconds] * rounds
    heading(f"{count} jobs of a second, {width} requests at a time, "
            f"answered after {seconds} s", "wall seconds")
    row("the least that is possible, sent as WAV", walls["wav"], least, 1.3)
    note("sent as MP3, which has to be encoded: "
         f"{statistics.median(walls['mp3']):.3f}")
    note(f"the server itself used {statistics.median(server_ms):.2f} ms "
         "of a processor for each request")
    heading(f"The same: connections for {count} requests", "connections")
    row("as many as requests at a time", connections,
        [width] * len(connections), 1)


def hour(database, recordings, _scratch, rounds):
    """A long recording: its chunks are transcribed while it is cut."""
    source, seconds, chunk = f"{recordings}/talk-60.mp3", 5, 600
    walls, cut = [], []
    with Server(seconds) as server:
        database.server("hour", server.url, chunk_seconds=chunk)
        database.run("hour", [f"{recordings}/talk-1.mp3"])
        for _ in range(rounds):
            walls.append(database.run("hour", [source]))
            spare = subprocess.run([SPARE, MEDIA, source, "mp3", str(chunk)],
                                   check=True, stdout=subprocess.PIPE)
            cut.append(json.loads(spare.stdout)["last"])
    heading(f"60 minutes in chunks of {chunk} s, each answered after "
            f"{seconds} s", "wall seconds")
    row("one answer, after the last chunk is cut", walls,
        [seconds + last for last in cut], 1.5)
    note(f"the last chunk is cut after {statistics.median(cut):.2f} s")


def twenty(database, recordings, _scratch, rounds):
    """Twenty recordings at once, and the usual service in Python."""
    sources, seconds = [f"{recordings}/talk-1.mp3"] * 20, 0.2
    ours, ends, nonsilent = [], [], []
    with Server(seconds) as server:
        database.server("twenty", server.url, max_requests=20)
        for number in range(rounds):
            # The worker may have left while the other service was at work.
            database.run("twenty", sources[:1])
            with Peak(database.worker()) as peak:
                wall = database.run("twenty", sources)
            ours.append((wall, peak.most))
            ends.append(service(server.url, "ends", sources))
            # It takes two minutes.
            if number == 0:
                nonsilent.append(service(server.url, "nonsilent", sources))
    heading(f"20 recordings of a minute, MP3, each answered after {seconds} s",
            "wall seconds")
    walls = [wall for wall, _ in ours]
    row("asyncio and pydub, only the ends stripped", walls,
        [wall for wall, _ in ends], 1 / 3)
    row("asyncio and pydub, detect_nonsilent, once", walls,
        [wall for wall, _ in nonsilent], 1 / 40)
    heading("The same: memory of all processes", "peak MB")
    row("asyncio and pydub, only the ends stripped",
        [peak for _, peak in ours], [peak for _, peak in ends], 1 / 2)


PARTS = {"many": many, "hour": hour, "twenty": twenty}


@contextlib.contextmanager
def prepared(recordings, psql, sockets):
    """The database, the recordings, and a directory for more of them."""
    database = Database(psql, sockets)
    database.query("CREATE EXTENSION transcribe")
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        yield database, os.path.abspath(recordings), scratch


if __name__ == "__main__":
    main(__doc__, ("recordings", "psql", "sockets"), PARTS, prepared)
