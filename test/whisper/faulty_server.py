"""A Whisper server that misbehaves as its URL asks.

Run by the TAP tests, with Debian's python3-aiohttp and nothing from pip:

    /usr/bin/python3 faulty_server.py [--port N] [--exit-with-stdin]

One server plays every part at once.  A test gives its foreign server the
base URL http://127.0.0.1:PORT/s/SCENARIO/v1, where SCENARIO is a list of
words, with commas between them; http://127.0.0.1:PORT/v1 is "ok".

What happens before the answer:

    early            do not read the body
    delay=S          wait S seconds
    gate=NAME        wait until POST /release/NAME
    hang             wait for ever (until the client leaves)

The answer; at most one of these, else what OpenAI would say (verbose_json or
json or text, as the form asks):

    status=N         OpenAI's error body; also message=TEXT, code=WORD
    redirect         307 to the scenario "ok"
    drop             close the connection without a word
    cut              promise more bytes than are sent, then close
    endless          a body without an end, as fast as it is taken
    drip=S           the right body, a byte every S seconds
    html, empty, truncated, garbage, deep
                     200, with a body that is no answer
    nul, bad-utf8    the right body, with U+0000 or broken UTF-8 in the texts
    text-only        {"text": ...}, whatever was asked for
    plain            the text alone, as text/plain
    json-only        refuse response formats other than json, as new models do
    max-bytes=N      413 for a file that is larger, as OpenAI words it
    max-seconds=N    400 for a longer recording

More:

    times=N          misbehave in the first N calls only, then answer well
    retry-after=N    a Retry-After header on errors
    header=NAME:TEXT any header on errors
    key=KEY          401 unless "Authorization: Bearer KEY" comes
    words            words at top level even if not asked for
    speaker          segments carry a speaker
    language=WORD    the language reported (english)
    overrun=S        the last segment ends S seconds behind the audio's end, as
                     models do that look at half a minute at a time
    seconds=N        take the audio for N seconds long and do not measure it
    tag=WORD         nothing: tells two users of a scenario apart

Segments are two seconds long: "segment 1", "segment 2" and so on, relative
to the audio received.  The log is control: GET /log lists all calls, GET
/log/SCENARIO those of one; POST /reset forgets them and opens all gates.

Rules: a word that is not in this list is answered by 501, so that a test
with a typing error does not pass; nothing is kept but the log.
"""

import asyncio
import contextlib
import hashlib
import json
import time

from aiohttp import web

from serve import arguments, openai_error, serve

# Words that change the answer; times=N switches these off.
FAULTS = {"delay", "gate", "hang", "early", "status", "redirect", "drop",
          "cut", "endless", "drip", "html", "empty", "truncated", "garbage",
          "deep", "nul", "bad-utf8", "text-only", "plain", "key"}
WORDS = FAULTS | {"ok", "message", "code", "json-only", "max-bytes",
                  "max-seconds", "times", "retry-after", "header", "words",
                  "speaker", "language", "overrun", "seconds", "tag"}

# Bodies that come with status 200 and are no answer.
NONSENSE = {
    "html": ("text/html", b"<html><body><h1>Bad gateway</h1></body></html>"),
    "empty": ("application/json", b""),
    "truncated": ("application/json",
                  b'{"task":"transcribe","text":"segment 1","segments":[{"id'),
    "garbage": ("application/json", bytes(range(256)) * 16),
    # Deeper than a parser that recurses can go on any stack.
    "deep": ("application/json", b'{"text":"x","segments":' + b"[" * 1000000),
}

# How often a waiting call looks whether its client is still there.
POLL = 0.02

SEGMENT_SECONDS = 2.0


class Gone(Exception):
    """The client has hung up."""


class State:
    """What the server remembers: calls, and the gates that calls wait at."""

    def __init__(self):
        self.calls = []
        self.gates = {}

    def gate(self, name):
        """The event of a gate, made when it is first named."""
        return self.gates.setdefault(name, asyncio.Event())

    def reset(self):
        """Forget the calls, open the gates and forget them too."""
        for gate in self.gates.values():
            gate.set()
        self.calls = []
        self.gates = {}


def parse(scenario):
    """The words of a scenario as a dict; None for one that is unknown."""
    words = {}
    for word in scenario.split(","):
        name, _, value = word.partition("=")
        if name not in WORDS:
            return None
        words[name] = value
    return words


def connected(request):
    """Whether the client is still there."""
    return request.transport is not None and not request.transport.is_closing()


async def wait(request, seconds=None, gate=None):
    """Wait for a time, a gate or for ever, but not longer than the client."""
    end = None if seconds is None else time.monotonic() + seconds
    while not (gate and gate.is_set()):
        if end is not None and time.monotonic() >= end:
            return
        if not connected(request):
            raise Gone
        await asyncio.sleep(POLL)


async def read_form(request, call):
    """Read the multipart body into the call's record; returns the file.

    Every part is recorded as it comes, so that a test sees fields that are
    repeated and files that are misnamed.
    """
    audio = b""
    with contextlib.suppress(AssertionError, ValueError):
        async for part in await request.multipart():
            data = await part.read()
            if part.filename is None:
                call["fields"].setdefault(part.name, []).append(
                    data.decode("utf-8", "replace"))
                continue
            audio = bytes(data)
            call.update(file_field=part.name, file_name=part.filename,
                        content_type=part.headers.get("Content-Type"),
                        bytes=len(audio),
                        sha256=hashlib.sha256(audio).hexdigest())
    return audio


async def measure(audio):
    """Seconds of a recording: by ffprobe, else as if it had 64 kbit/s."""
    with contextlib.suppress(OSError, ValueError):
        probe = await asyncio.create_subprocess_exec(
            "ffprobe", "-v", "quiet", "-of", "csv=p=0",
            "-show_entries", "packet=pts_time,duration_time", "-",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        out, _ = await probe.communicate(audio)
        # The last packet, because a stream on a pipe has no known length.
        start, length = out.decode().split()[-1].split(",")[:2]
        return round(float(start) + float(length), 3)
    return len(audio) / 8000


def answer(words, form, seconds):
    """The right answer: content type and text."""
    segments = []
    while len(segments) * SEGMENT_SECONDS < seconds:
        start = len(segments) * SEGMENT_SECONDS
        segments.append({
            "id": len(segments), "seek": 0, "start": start,
            "end": round(min(start + SEGMENT_SECONDS, seconds), 3),
            "text": f" segment {len(segments) + 1}", "tokens": [1, 2],
            "temperature": 0.0, "avg_logprob": -0.25,
            "compression_ratio": 1.1, "no_speech_prob": 0.01})
        if "speaker" in words:
            segments[-1]["speaker"] = "BA"[len(segments) % 2]
    if segments:
        segments[-1]["end"] += float(words.get("overrun", 0))
    text = "".join(segment["text"] for segment in segments).strip()
    kind = form.get("response_format", ["json"])[0]

    if "plain" in words or kind == "text":
        return "text/plain", text + "\n"
    if "text-only" in words or kind == "json":
        return "application/json", json.dumps({"text": text})
    body = {"task": "transcribe",
            "language": words.get("language", "english"),
            "duration": round(seconds, 3), "text": text,
            "segments": segments}
    if "words" in words or "word" in form.get("timestamp_granularities[]", []):
        # "segment" takes the first half of its segment, the number the rest.
        body["words"] = [
            {"word": word, "start": segment["start"] + half * n,
             "end": segment["start"] + half * (n + 1)}
            for segment in segments
            for half in [(segment["end"] - segment["start"]) / 2]
            for n, word in enumerate(segment["text"].split())]
    return "application/json", json.dumps(body)


async def send(request, content_type, body, length=None, drip=None):
    """Send a body by hand, with a promised length or slowly."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    response.content_length = len(body) if length is None else length
    await response.prepare(request)
    if drip is None:
        await response.write(body)
    else:
        for i in range(len(body)):
            await response.write(body[i:i + 1])
            await wait(request, drip)
    return response


async def endless(request):
    """Write until the client leaves."""
    response = web.StreamResponse(
        headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"text":"')
    while connected(request):
        await response.write(b"endless " * 8192)
    raise Gone


def refusal(request, words, form, audio, seconds):
    """The error response that the scenario asks for, or None."""
    headers = {}
    if "retry-after" in words:
        headers["Retry-After"] = words["retry-after"]
    if "header" in words:
        name, _, value = words["header"].partition(":")
        headers[name] = value
    if "key" in words and (request.headers.get("Authorization")
                           != "Bearer " + words["key"]):
        return openai_error(401, "Incorrect API key provided",
                            code="invalid_api_key", headers=headers)
    if "status" in words:
        status = int(words["status"])
        return openai_error(
            status, words.get("message", f"scripted status {status}"),
            "server_error" if status >= 500 else "invalid_request_error",
            code=words.get("code"), headers=headers)
    if "json-only" in words and form.get("response_format") != ["json"]:
        return openai_error(
            400, "response_format is not compatible with this model. "
            "Use 'json' or 'text' instead.", param="response_format",
            code="unsupported_value", headers=headers)
    if len(audio) > float(words.get("max-bytes", "inf")):
        return openai_error(
            413, f"413: Maximum content size limit ({words['max-bytes']}) "
            f"exceeded ({len(audio)} bytes read)", "server_error",
            headers=headers)
    if seconds > float(words.get("max-seconds", "inf")):
        return openai_error(
            400, f"audio duration {seconds} seconds is longer than "
            f"{words['max-seconds']} seconds which is the maximum for this "
            "model", code="invalid_value", headers=headers)
    return None


async def respond(request, words, form, audio):
    """The response to a call whose body has been read and waits are over."""
    # Measuring costs a process, so it is left out where nobody needs it.
    unmeasured = "status" in words or not audio or words.keys() & NONSENSE
    seconds = float(words.get("seconds") or 0) or (
        0 if unmeasured else await measure(audio))
    refused = refusal(request, words, form, audio, seconds)
    if refused is not None:
        return refused
    if "redirect" in words:
        return web.Response(status=307, headers={
            "Location": "/s/ok/v1/" + request.match_info["call"]})
    if "drop" in words:
        raise Gone
    if "endless" in words:
        return await endless(request)
    for name in words.keys() & NONSENSE:
        content_type, body = NONSENSE[name]
        return web.Response(body=body, content_type=content_type)

    if request.match_info["call"] == "models":
        content_type, text = "application/json", json.dumps(
            {"object": "list", "data": [{"id": "whisper-1",
                                         "object": "model"}]})
    else:
        content_type, text = answer(words, form, seconds)
    if "nul" in words:
        text = text.replace("segment", "seg\\u0000ment")
    body = text.encode()
    if "bad-utf8" in words:
        body = body.replace(b"segment ", b"seg\xc3(\xff\xfement ")
    if "cut" in words:
        await send(request, content_type, body[:-10], length=len(body))
        raise Gone
    if "drip" in words:
        return await send(request, content_type, body,
                          drip=float(words["drip"]))
    return web.Response(body=body, content_type=content_type)


async def play(request, state, words, call):
    """Act a call out: read, wait, respond."""
    audio = b""
    if "early" not in words and request.can_read_body:
        audio = await read_form(request, call)
    if "delay" in words:
        await wait(request, float(words["delay"]))
    if "gate" in words:
        await wait(request, gate=state.gate(words["gate"]))
    if "hang" in words:
        await wait(request)
    return await respond(request, words, call["fields"], audio)


async def act(request):
    """Any call below a base URL: find out what to do, log it and do it."""
    state = request.app["state"]
    scenario = request.match_info.get("scenario", "ok")
    words = parse(scenario)
    if words is None:
        return openai_error(501, f'no such scenario: "{scenario}"')
    name = request.match_info["call"]
    before = sum(call["scenario"] == scenario and call["call"] == name
                 for call in state.calls)
    call = {"scenario": scenario, "call": name,
            "method": request.method, "start": time.time(), "end": None,
            "status": None, "hung_up": False, "fields": {},
            "headers": sorted(request.headers.keys()),
            "key": bool(request.headers.keys() & {"Authorization", "api-key"}),
            "file_field": None, "file_name": None, "content_type": None,
            "bytes": 0, "sha256": None}
    state.calls.append(call)
    if before >= int(words.get("times", before + 1)):
        words = {k: v for k, v in words.items() if k not in FAULTS}
    try:
        response = await play(request, state, words, call)
        call["status"] = response.status
        return response
    except (Gone, ConnectionError, web.RequestPayloadError):
        # Where it is the server that breaks off, the client is still there.
        call["hung_up"] = not connected(request)
        if request.transport is not None:
            request.transport.close()
        return web.Response()
    finally:
        call["end"] = time.time()


async def show_log(request):
    """GET /log and /log/SCENARIO."""
    scenario = request.match_info.get("scenario")
    return web.json_response([
        call for call in request.app["state"].calls
        if scenario in (None, call["scenario"])])


async def reset(request):
    """POST /reset."""
    request.app["state"].reset()
    return web.Response()


async def release(request):
    """POST /release/NAME: opens the gate for those who wait and come."""
    request.app["state"].gate(request.match_info["name"]).set()
    return web.Response()


def main():
    """Serve."""
    options = arguments("Whisper server with scripted faults").parse_args()
    app = web.Application()
    app["state"] = State()
    app.router.add_get("/log", show_log)
    app.router.add_get("/log/{scenario}", show_log)
    app.router.add_post("/reset", reset)
    app.router.add_post("/release/{name}", release)
    app.router.add_route("*", "/s/{scenario}/v1/{call:.+}", act)
    app.router.add_route("*", "/v1/{call:.+}", act)
    serve(app, options)


if __name__ == "__main__":
    main()
