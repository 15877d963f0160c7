"""The usual pipeline of pydub, to compare with.

    pydub_pipeline.py IN OUT nonsilent|ends

Reads a recording, cuts the silence off, evens the loudness, makes it 16 kHz
mono and writes an MP3.  "nonsilent" looks for everything that is not silent,
as tutorials do; "ends" strips leading and trailing silence alone.  Prints the
CPU seconds used, FFmpeg's included but not those of starting Python, because
a service has pydub loaded.
"""

import resource
import sys

from pydub import AudioSegment, effects, silence

THRESHOLD = -45


def used():
    """CPU seconds so far, of this process and of those it waited for."""
    return sum(usage.ru_utime + usage.ru_stime
               for usage in map(resource.getrusage, (
                   resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def strip(sound, how):
    """The recording without its silence."""
    if how == "nonsilent":
        found = silence.detect_nonsilent(sound, min_silence_len=1000,
                                         silence_thresh=THRESHOLD)
        return sound[found[0][0]:found[-1][1]]
    lead = silence.detect_leading_silence(sound, THRESHOLD)
    tail = silence.detect_leading_silence(sound.reverse(), THRESHOLD)
    return sound[lead:len(sound) - tail]


def prepare(source, target, how):
    """From file to file."""
    sound = effects.normalize(strip(AudioSegment.from_file(source), how))
    sound = sound.set_frame_rate(16000).set_channels(1)
    sound.export(target, format="mp3", bitrate="64k").close()


def main(source, target, how):
    """Once, and say what it took."""
    before = used()
    prepare(source, target, how)
    print(used() - before)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
