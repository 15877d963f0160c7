#!/bin/sh
# Make the recordings that tests and demonstration use.
#
#   make.sh DIR
#
# Five sentences of a LibriVox reading, from Debian's pocketsphinx-testdata,
# in the containers, shapes and states of disrepair that users send.  Beside
# them transcripts.json says what is spoken in each, for wer.py: an empty
# string where nothing is, null where there is no recording to open.
set -eu

mkdir -p "${1:?usage: make.sh DIR}"
dir=$(cd "$1" && pwd)
librivox=/usr/share/pocketsphinx/test/data/librivox
voice=$librivox/sense_and_sensibility_01_austen_64kb

cd "$dir"

# ffmpeg, silent unless it fails, overwriting what an earlier run left.
make() { ffmpeg -nostdin -v error -y "$@"; }

# As they are: 16 kHz mono WAV, 3 to 7 seconds.
for n in 0870 0880 0890 0920 0930
do
    cp "$voice-$n.wav" "austen-$n.wav"
done

# What people have: compressed, at other rates, in a video.
make -i "$voice-0870.wav" -ar 44100 -ac 2 -b:a 96k austen-0870.mp3
make -i "$voice-0890.wav" -ar 48000 -b:a 64k austen-0890.m4a
make -i "$voice-0920.wav" austen-0920.flac
make -f lavfi -i testsrc=size=160x120:rate=10 -i "$voice-0930.wav" \
    -c:v mpeg4 -c:a aac -b:a 64k -shortest austen-0930.mp4
make -i "$voice-0870.wav" -ar 8000 -ac 2 stereo-8k.wav
make -i "$voice-0880.wav" -c copy "odd name's \"ünïcode\" 😀.wav"

# Silence: around speech, between two sentences, and nothing else.
make -i "$voice-0880.wav" -af 'adelay=5s:all=1,apad=pad_dur=3' silence-around.wav
make -i "$voice-0870.wav" -i "$voice-0920.wav" -filter_complex \
    '[0]apad=pad_dur=20[a];[a][1]concat=n=2:v=0:a=1' silence-inside.wav
make -f lavfi -i anullsrc=r=16000:cl=mono -t 10 silent.wav

# Long enough for several chunks: the five sentences in a row, six times.
{
    for round in 1 2 3 4 5 6
    do
        for n in 0870 0880 0890 0920 0930
        do
            echo "file '$dir/austen-$n.wav'"
        done
    done
} > talk.list
make -f concat -safe 0 -i talk.list -b:a 64k talk.mp3
rm talk.list

# What is no recording, although it may say so.
echo 'Whether I shall turn out to be the hero of my own life.' > text.mp3
: > empty.wav
make -f lavfi -i testsrc=size=160x120:rate=10:duration=2 -c:v mpeg4 no-sound.mp4
head -c 20000 austen-0870.wav > cut-short.wav

python3 - "$librivox/transcription" <<'PYTHON'
import json
import re
import sys

spoken = {}
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        words, n = re.match(r"<s> (.*) </s> \(.*-(\d+)\)", line).groups()
        spoken[n] = words

expected = {f"austen-{n}.wav": words for n, words in spoken.items()}
expected.update({
    "austen-0870.mp3": spoken["0870"],
    "austen-0890.m4a": spoken["0890"],
    "austen-0920.flac": spoken["0920"],
    "austen-0930.mp4": spoken["0930"],
    "stereo-8k.wav": spoken["0870"],
    "odd name's \"ünïcode\" 😀.wav": spoken["0880"],
    "silence-around.wav": spoken["0880"],
    "silence-inside.wav": spoken["0870"] + " " + spoken["0920"],
    "silent.wav": "",
    "talk.mp3": " ".join([*spoken.values()] * 6),
    "text.mp3": None,
    "empty.wav": None,
    "no-sound.mp4": None,
})
with open("transcripts.json", "w", encoding="utf-8") as out:
    json.dump(expected, out, ensure_ascii=False, indent=1, sort_keys=True)
    out.write("\n")
PYTHON
