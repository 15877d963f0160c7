"""The recordings of the benchmarks: a reading, as long as one likes.

Made of the five sentences of LibriVox in Debian's pocketsphinx-testdata, each
in turn, in changing order, with pauses between them as a reader makes them and
a few seconds of silence around.  The same length and number give the same
recording, always.

    recordings.py DIR       makes those of media.py there, unless it has
"""

import hashlib
import itertools
import os
import random
import re
import subprocess
import sys
import wave

LIBRIVOX = "/usr/share/pocketsphinx/test/data/librivox"

# As the sentences are: 16 bits, mono.
RATE = 16000
WIDTH = 2

LEAD_IN = 3.0
TAIL = 4.0
PAUSE = (0.4, 2.5)

# What people have.  Opus knows no 44.1 kHz.
ENCODERS = {
    "mp3": ["-c:a", "libmp3lame", "-b:a", "128k"],
    "m4a": ["-c:a", "aac", "-b:a", "128k"],
    "flac": ["-c:a", "flac", "-sample_fmt", "s16"],
    "opus": ["-ar", "48000", "-c:a", "libopus", "-b:a", "64k"],
    "wav": ["-c:a", "pcm_s16le"],
}

# Length in minutes, and in which formats.
LENGTHS = {1: ["mp3"], 10: list(ENCODERS), 60: ["mp3"]}

# Two channels that differ, as those of a microphone do, over its noise at
# about -70 dB: a decoder and a lossless encoder have easy work on silence.
STEREO = (
    "[0]volume=-6dB,aresample=44100,asplit[l][r];"
    "[r]adelay=0.3,volume=-1dB[far];"
    "[l][far]join=inputs=2:channel_layout=stereo[voice];"
    "anoisesrc=r=44100:a=0.0005:seed=1[m];"
    "anoisesrc=r=44100:a=0.0005:seed=2[n];"
    "[m][n]join=inputs=2:channel_layout=stereo[noise];"
    "[voice][noise]amix=inputs=2:duration=first:normalize=0[out]")


def sentences():
    """What is spoken, and its samples, for each sentence."""
    found = []
    with open(f"{LIBRIVOX}/transcription", encoding="utf-8") as lines:
        for line in lines:
            words, name = re.match(r"<s> (.*) </s> \((.*)\)", line).groups()
            with wave.open(f"{LIBRIVOX}/{name}.wav") as sound:
                assert sound.getframerate() == RATE
                assert sound.getnchannels() == 1
                found.append((words, sound.readframes(sound.getnframes())))
    return found


def silence(seconds):
    """So many seconds of it."""
    return bytes(round(seconds * RATE) * WIDTH)


def reading(seconds, number=1):
    """A reading of that length: pairs of words, or "" for a pause, and
    samples."""
    spoken = sentences()
    chance = random.Random(number)
    left = seconds * RATE * WIDTH - len(silence(LEAD_IN))
    yield "", silence(LEAD_IN)
    for place in itertools.count():
        if place % len(spoken) == 0:
            chance.shuffle(spoken)
        words, samples = spoken[place % len(spoken)]
        pause = silence(chance.uniform(*PAUSE))
        if len(samples) + len(pause) + len(silence(TAIL)) > left:
            break
        left -= len(samples) + len(pause)
        yield words, samples
        yield "", pause
    yield "", bytes(left)


def ffmpeg(*arguments):
    """The command, silent unless it fails."""
    return ["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments]


def make(directory, minutes):
    """Make the recordings of one length, as talk-MINUTES.FORMAT.

    All are encoded in one go, from one stream.
    """
    formats = LENGTHS[minutes]
    command = ffmpeg("-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-")
    outputs = "".join(f"[{name}]" for name in formats)
    command += ["-filter_complex",
                f"{STEREO};[out]asplit={len(formats)}{outputs}"]
    for name in formats:
        command += ["-map", f"[{name}]", *ENCODERS[name],
                    f"{directory}/talk-{minutes}.{name}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        for _, samples in reading(minutes * 60):
            encoder.stdin.write(samples)
        encoder.stdin.close()
    if encoder.returncode != 0:
        sys.exit(f"could not make the recordings of {minutes} minutes")


def main(directory):
    """Make them, once: the mark that they are complete is this file's."""
    with open(__file__, "rb") as this:
        mark = hashlib.sha256(this.read()).hexdigest()
    complete = f"{directory}/complete"
    os.makedirs(directory, exist_ok=True)
    if os.path.exists(complete):
        with open(complete, encoding="ascii") as file:
            if file.read() == mark:
                return
        os.unlink(complete)
    for minutes in LENGTHS:
        print(f"making the recordings of {minutes} minutes", file=sys.stderr)
        make(directory, minutes)
    with open(complete, "w", encoding="ascii") as file:
        file.write(mark)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
