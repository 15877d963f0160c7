"""How the preparation of recordings compares with other tools.

    media.py RECORDINGS [--rounds N] [PART...]

Run by "make bench-media", in the directory where make has built the programs.
The parts are convert, spare and long; all, if none is named.

Each round runs ours and every peer one after another, and the ratios are
taken within a round: what else the machine does changes from one minute to
the next.  What is printed are the medians of the rounds.  CPU seconds are
user and system time of a process and of those it waited for.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from recordings import ffmpeg
from tables import Failed, heading, limit, main, note, row

HERE = os.path.dirname(os.path.abspath(__file__))
MEDIA = os.path.abspath("transcribe_media")
SPARE = os.path.abspath("test/bench/bin/spare")

# As the usual commands have it: quiet is what stays quiet for a second.
FILTERS = ("silenceremove=stop_periods=-1:stop_duration=1"
           ":stop_threshold=-45dB,loudnorm")

# The server option chunk_seconds, as it is by default.
CHUNK_SECONDS = 600

# Peak memory in MB, whatever the recording is.
MOST_MEMORY = 100

def measure(*command):
    """Run a command: wall and CPU seconds, peak MB, and what it printed.

    The peak includes ours at the time of the fork, so this program loads
    nothing large.
    """
    started = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE) as process:
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(" ".join(command))
    return {"wall": time.monotonic() - started,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak": usage.ru_maxrss / 1024,
            "printed": printed}


def usual(source, target, *options):
    """What one would type: FFmpeg alone."""
    encoder = ([] if target.endswith(".flac") else ["-b:a", "64k"])
    return measure(*ffmpeg("-i", source, *options, "-ac", "1", "-ar", "16000",
                           *encoder, target))


def spare(source):
    """A child that was waiting, and the options of a server by default."""
    return json.loads(measure(SPARE, MEDIA, source, "mp3",
                              str(CHUNK_SECONDS))["printed"])


def pydub(source, target, how):
    """The usual pipeline of pydub; its CPU without the start of Python."""
    measured = measure(sys.executable, f"{HERE}/pydub_pipeline.py", source,
                       target, how)
    measured["cpu"] = float(measured["printed"])
    return measured


def busy():
    """CPU seconds that all cores of the machine were at work so far."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, file.readline().split()[1:9])
    return ((user + nice + system + irq + softirq + steal) /
            os.sysconf("SC_CLK_TCK"))


def convert(recordings, scratch, rounds):
    """Ten minutes from file to file, each a process of its own."""
    for source, target in (("mp3", "mp3"), ("m4a", "mp3"), ("flac", "mp3"),
                           ("opus", "mp3"), ("wav", "mp3"), ("mp3", "flac")):
        talk = f"{recordings}/talk-10.{source}"
        ours, plain, level, filters = [], [], [], []
        heading(f"10 minutes of {source.upper()}, "
                f"{'48' if source == 'opus' else '44.1'} kHz stereo, "
                f"to {target.upper()}, 16 kHz mono", "CPU seconds")
        for _ in range(rounds):
            ours.append(measure(MEDIA, talk, "-o",
                                f"{scratch}/ours.{target}")["cpu"])
            out = f"{scratch}/peer.{target}"
            plain.append(usual(talk, out)["cpu"])
            if target == "mp3":
                level.append(usual(talk, out, "-compression_level", "7")["cpu"])
            filters.append(usual(talk, out, "-af", FILTERS)["cpu"])
        if target == "mp3":
            row("ffmpeg", ours, plain, 0.75)
            row("ffmpeg -compression_level 7, which is ours", ours, level, 1.05)
        else:
            # Its level is ours.
            row("ffmpeg", ours, plain, 1.05)
        row("ffmpeg -af silenceremove,loudnorm", ours, filters, 0.1)


def waiting(recordings, scratch, rounds):
    """One minute, once the spare child waits."""
    talk = f"{recordings}/talk-1.mp3"
    ours, nonsilent, ends, warm_up = [], [], [], []
    heading("1 minute of MP3, by a child that was waiting", "CPU seconds")
    for _ in range(rounds):
        measured = spare(talk)
        ours.append(measured["cpu"])
        warm_up.append(measured["warm_up"])
        nonsilent.append(pydub(talk, f"{scratch}/peer.mp3", "nonsilent")["cpu"])
        ends.append(pydub(talk, f"{scratch}/peer.mp3", "ends")["cpu"])
    row("pydub, detect_nonsilent", ours, nonsilent, 1 / 30)
    row("pydub, only the ends stripped", ours, ends, 1 / 3)
    note(f"before that, to warm up: {statistics.median(warm_up):.3f}")


def long(recordings, scratch, rounds):
    """One, ten and sixty minutes by children that were waiting."""
    talks = {minutes: f"{recordings}/talk-{minutes}.mp3"
             for minutes in (1, 10, 60)}
    ours = {minutes: [] for minutes in talks}
    plain = []
    started, before, own = time.monotonic(), busy(), 0
    for _ in range(rounds):
        for minutes, talk in talks.items():
            ours[minutes].append(spare(talk))
            own += ours[minutes][-1]["cpu"]
        peer = usual(talks[60], f"{scratch}/peer.mp3")
        plain.append(peer["wall"])
        own += peer["cpu"]
    others = (busy() - before - own) / (time.monotonic() - started)
    hour = ours[60]

    def per_minute(minutes):
        return [one["cpu"] / minutes for one in ours[minutes]]

    def peaks(minutes):
        return [one["peak_kb"] / 1024 for one in ours[minutes]]

    heading("60 minutes of MP3 to the last chunk, on two idle cores",
            "wall seconds")
    row("ffmpeg", [one["last"] for one in hour], plain, 0.45)
    note(f"others used {max(0, others):.2f} of a core meanwhile; "
         "it holds for idle ones")

    heading("Cost grows with length, not faster", "CPU seconds per minute")
    row("60 minutes to 10", per_minute(60), per_minute(10), 1.1)
    row("60 minutes to 1", per_minute(60), per_minute(1), 1.1)

    heading("Memory does not grow", "peak MB")
    row("60 minutes to 10", peaks(60), peaks(10), 1.2)
    limit("60 minutes", peaks(60), MOST_MEMORY)
    peak = pydub(talks[10], f"{scratch}/peer.mp3", "ends")["peak"]
    note(f"pydub, 10 minutes: {peak:.0f}")

    heading("First chunk of 60 minutes, and the whole", "seconds")
    row("decoded until then, of what there is",
        [one["first_by"] for one in hour],
        [one["duration"] for one in hour], 0.1)
    row("wall time until then, of all", [one["first"] for one in hour],
        [one["end"] for one in hour], 0.1)


PARTS = {"convert": convert, "spare": waiting, "long": long}


@contextlib.contextmanager
def prepared(recordings):
    """The recordings, and a directory for what is made of them."""
    # Who comes first shall not be the one that waits for the disk.
    for entry in os.scandir(recordings):
        with open(entry, "rb") as file:
            while file.read(1 << 20):
                pass
    with tempfile.TemporaryDirectory() as scratch:
        yield os.path.abspath(recordings), scratch


if __name__ == "__main__":
    main(__doc__, ("recordings",), PARTS, prepared)
