"""What outside parsers read in subtitles: srt, webvtt-py, and FFmpeg.

    read_subtitles.py FILE.srt FILE.vtt

Prints an object of JSON: for each parser an array of {"start", "end", "text",
"voice"}, with times in milliseconds and escapes resolved.  A file that a parser
refuses is an error.
"""
import html
import json
import re
import subprocess
import sys

import srt
import webvtt

VOICE = re.compile(r"<v ([^>]*)>")


def cue(start, end, text, vtt):
    voice = None
    if vtt:
        match = VOICE.match(text)
        if match:
            voice = html.unescape(match.group(1))
            text = text[match.end():]
        if "<" in text or ">" in text:
            raise ValueError(f"not escaped: {text!r}")
        text = html.unescape(text)
    return {"start": start, "end": end, "text": text, "voice": voice}


def milliseconds(delta):
    return round(delta.total_seconds() * 1000)


def read_srt(path):
    with open(path, encoding="utf-8", newline="") as file:
        cues = list(srt.parse(file.read()))
    if [c.index for c in cues] != list(range(1, len(cues) + 1)):
        raise ValueError("cues are not numbered from 1")
    return [cue(milliseconds(c.start), milliseconds(c.end), c.content, False)
            for c in cues]


def read_webvtt(path):
    with open(path, encoding="utf-8", newline="") as file:
        cues = webvtt.WebVTT.from_string(file.read(), strict=True)
    return [cue(c.start_time.in_milliseconds(), c.end_time.in_milliseconds(),
                c.raw_text, True) for c in cues]


def read_ffmpeg(path, vtt):
    probe = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_packets", "-show_data",
         "-show_entries", "packet=pts_time,duration_time,data", path],
        check=True, capture_output=True)
    cues = []
    for packet in json.loads(probe.stdout)["packets"]:
        # A dump: an address, bytes in columns of 41 places, and a picture of them.
        data = b"".join(bytes.fromhex(line[10:50].replace(" ", ""))
                        for line in packet["data"].splitlines() if line)
        start = round(float(packet["pts_time"]) * 1000)
        length = round(float(packet["duration_time"]) * 1000)
        cues.append(cue(start, start + length, data.decode("utf-8"), vtt))
    return cues


def main():
    srt_path, vtt_path = sys.argv[1:]
    json.dump({"srt": read_srt(srt_path), "webvtt-py": read_webvtt(vtt_path),
               "FFmpeg, SRT": read_ffmpeg(srt_path, False),
               "FFmpeg, WebVTT": read_ffmpeg(vtt_path, True)}, sys.stdout)


main()
