"""A Whisper server that misbehaves as its URL asks.

Run by the TAP tests, with Debian's python3-aiohttp (and python3-h2 for
--http2) and nothing from pip:

    /usr/bin/python3 faulty_server.py [--port N] [--exit-with-stdin]
        [--cert FILE [--tls-max 1.1] [--http2]]

With --cert, a PEM file of a certificate and its key, it listens on a second
port as well, with TLS; with --http2 that port speaks HTTP/2 and nothing else.
The line that says where it listens names that port last.

One server plays every part at once.  A test gives its foreign server the
base URL http://127.0.0.1:PORT/s/SCENARIO/v1, where SCENARIO is a list of
words, with commas between them; http://127.0.0.1:PORT/v1 is "ok".

What happens before the answer:

    early            do not read the body
    die=N            read N bytes of the body, then break the connection
    drop-kept        close a connection that has served a call before
    delay=S          wait S seconds
    gate=NAME        wait until POST /release/NAME
    hang             wait for ever (until the client leaves)

The answer; at most one of these, else what OpenAI would say (verbose_json or
json or text, as the form asks):

    status=N         OpenAI's error body; also message=TEXT, code=WORD
    redirect=WHERE   307 to the scenario "ok": here (nothing), "host" (by
                     another name), "plain" (without TLS) or "file" (none)
    drop             close the connection without a word
    cut              promise more bytes than are sent, then close
    endless          a body without an end, as fast as it is taken
    drip=S           the right body, a byte every S seconds
    html, empty, truncated, garbage, deep
                     200, with a body that is no answer
    megabytes=N      a text of N MB
    odd=WHAT         JSON that is odd, see ODD below
    many=WHAT:N      JSON with N of something, see MANY below
    encoding=NAME    a body that says that it is so encoded; with gzip, 100 MB
                     in 100 kB
    transfer=NAME    the same as a transfer encoding
    raw=WHAT         bytes that are not quite HTTP, see RAW below
    reset, refuse, goaway
                     over HTTP/2: end the stream, refuse it, or go away
    nul, bad-utf8    the right body, with U+0000 or broken UTF-8 in the texts
    text-only        {"text": ...}, whatever was asked for
    plain            the text alone, as text/plain
    json-only        refuse response formats other than json, as new models do
    max-bytes=N      413 for a file that is larger, as OpenAI words it
    max-seconds=N    400 for a longer recording

More:

    times=N          misbehave in the first N calls only, then answer well
    echo             errors, and answers, quote the key
    retry-after=N    a Retry-After header on errors; "past" and "never" are
                     dates
    header=NAME:TEXT any header on errors
    key=KEY          401 unless "Authorization: Bearer KEY" comes
    api-key=KEY      401 unless "api-key: KEY" comes, as at Azure
    words            words at top level even if not asked for
    tokens           parts of words inside segments, as whisper.cpp has them
    lines            each segment in a line of its own in the text, likewise
    speaker          segments carry a speaker
    language=WORD    the language reported (english)
    overrun=S        the last segment ends S seconds behind the audio's end, as
                     models do that look at half a minute at a time
    type=A+B         the content type of a right answer is A/B
    once             close the connection after the answer, unannounced
    twice            send the answer twice
    seconds=N        take the audio for N seconds long and do not measure it
    tag=WORD         nothing: tells two users of a scenario apart

Segments are two seconds long: "segment 1", "segment 2" and so on, relative
to the audio received.  The log is control: GET /log lists all calls, GET
/log/SCENARIO those of one; POST /reset forgets them and opens all gates.  A
call's "connection" is the port that its connection came from.

Rules: a word that is not in this list is answered by 501, so that a test
with a typing error does not pass; nothing is kept but the log.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import socket
import ssl
import time
import zlib

from aiohttp import web

from serve import arguments, openai_error, serve

# Words that change the answer; times=N switches these off.
FAULTS = {"delay", "gate", "hang", "early", "status", "redirect", "drop",
          "cut", "endless", "drip", "html", "empty", "truncated", "garbage",
          "deep", "nul", "bad-utf8", "text-only", "plain", "key", "api-key",
          "die", "drop-kept", "megabytes", "odd", "many", "encoding", "transfer",
          "raw", "reset", "refuse", "goaway"}
WORDS = FAULTS | {"ok", "message", "code", "json-only", "max-bytes",
                  "max-seconds", "times", "retry-after", "header", "words",
                  "tokens", "lines", "speaker", "language", "overrun",
                  "seconds", "tag", "type", "once", "twice", "echo"}

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

# Numbers, times and types that nobody should send, and one that is right.
ODD = {
    "bom": '\ufeff {"text": "odd"}',
    "duplicates": '{"text": "first", "text": "odd", "text": "odd"}',
    "types": '{"text": ["odd"], "segments": {"text": "odd"}, "language": 5}',
    "numbers": '{"text": "odd", "duration": 1e400, "segments": [{"start": '
               '-1e400, "end": 1e308, "avg_logprob": ' + "9" * 400 + ', '
               '"text": "odd"}]}',
    "nan": '{"text": "odd", "duration": NaN, "segments": [{"start": NaN, '
           '"end": Infinity, "text": "odd"}]}',
    "times": '{"text": "odd", "segments": [{"start": -5, "end": -7, "text": '
             '"odd"}, {"start": 900, "end": 0.5, "text": "odd"}]}',
}

# More of something than anybody has: before, each, after.
MANY = {
    "segments": ('"segments": [', '{"start":0,"end":1,"text":"odd"}', "]"),
    "blanks": ('"segments": [', "{}", "]"),
    "names": ("", '"a":1', ""),
}

# Answers by hand: what is sent first; what is sent from then on, until the
# client leaves, with a pause between; whether our side of the connection is
# ended before the other; whether it is then left open.
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{\"text\":\"\r\n"
RAW = {
    "headers": {"first": OK, "more": b"X-More: and more\r\n" * 50},
    "header-line": {"first": OK + b"X-Long: ", "more": b"and longer " * 1000},
    "header-drip": {"first": OK, "more": b"X: y\r\n", "pause": 0.05},
    "interim": {"first": b"", "more": b"HTTP/1.1 100 Continue\r\n\r\n" * 50},
    "switch": {"first": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n"
               b"Connection: Upgrade\r\n\r\n", "stay": True},
    "half-closed": {"first": OK + b"Content-Length: 12\r\n\r\n{\"text\"",
                    "eof": True, "stay": True},
    "silent-end": {"first": b"", "eof": True, "stay": True},
    "no-length": {"first": OK + b"\r\n{\"text\": \"odd\"}"},
    "longer": {"first": OK + b"Content-Length: 14\r\n\r\n"
               b"{\"text\":\"odd\"} and more"},
    "bad-length": {"first": OK + b"Content-Length: -1\r\n\r\n{\"text\":\"odd\"}"},
    "huge-length": {"first": OK + b"Content-Length: 99999999999999999999\r\n\r\n"
                    b"{\"text\":\"odd\"}"},
    "chunks": {"first": CHUNKED, "more": b"1000\r\n" + b"x" * 4096 + b"\r\n"},
    "chunks-stop": {"first": CHUNKED, "stay": True},
    "chunks-cut": {"first": CHUNKED},
    "bad-chunk": {"first": CHUNKED + b"not a number\r\n"},
    "trailers": {"first": CHUNKED + b"2\r\n\"}\r\n0\r\n",
                 "more": b"X-More: y\r\n" * 50},
    "http09": {"first": b"{\"text\": \"no header\"}"},
    "other": {"first": b"220 mail.example ESMTP\r\n"},
    "status": {"first": b"HTTP/1.1 OK\r\n\r\n"},
    "nul": {"first": OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}"},
}

# Words that want a key, and the header that has to carry it.
KEYS = [("key", "Authorization", "Bearer "), ("api-key", "api-key", "")]

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
        self.port = None

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


async def send_raw(request, first, more=b"", pause=0.0, eof=False, stay=False):
    """Send bytes by hand, see RAW; the connection ends with them."""
    await request.writer.write(first)
    if eof:
        request.transport.write_eof()
    while more and connected(request):
        await request.writer.write(more)
        await asyncio.sleep(pause)
    if stay:
        await wait(request)
    raise Gone


async def die(request, size):
    """Read so many bytes of the body, then break the connection."""
    while size > 0:
        size -= len(await request.content.read(size) or b"x" * size)
    request.transport.abort()
    raise Gone


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
        if "tokens" in words:
            middle = (segments[-1]["start"] + segments[-1]["end"]) / 2
            segments[-1]["words"] = [
                {"word": " seg", "start": segments[-1]["start"],
                 "end": middle, "t_dtw": -1, "probability": 0.9},
                {"word": "ment", "start": middle, "end": middle,
                 "t_dtw": -1, "probability": 0.9},
                {"word": f" {len(segments)}", "start": middle,
                 "end": segments[-1]["end"], "t_dtw": -1, "probability": 0.9}]
        if "speaker" in words:
            segments[-1]["speaker"] = "BA"[len(segments) % 2]
    if segments:
        segments[-1]["end"] += float(words.get("overrun", 0))
    text = ("\n" if "lines" in words else "").join(
        segment["text"] for segment in segments).strip()
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


@functools.cache
def make_bomb():
    """100 kB that unpack to 100 MB."""
    return zlib.compress(b" " * 100_000_000, 9, 31)


async def send_bomb(request, words):
    """Send a body that says that it is encoded."""
    bomb = make_bomb()
    head = OK + b"Content-Length: %d\r\n" % len(bomb)
    if "encoding" in words:
        head += b"Content-Encoding: " + words["encoding"].encode()
    else:
        head = OK + b"Transfer-Encoding: " + words["transfer"].replace("+", ", ").encode()
    await send_raw(request, head + b"\r\n\r\n" + bomb)


def odd_answer(request, words):
    """The body of an answer that nobody should give, or None."""
    if "echo" in words:
        return json.dumps({"error": {"message": quoted(request, words)}})
    if "odd" in words:
        return ODD[words["odd"]]
    if "many" in words:
        kind, _, count = words["many"].partition(":")
        before, each, after = MANY[kind]
        return ('{"text": "odd", ' + before + ",".join([each] * int(count))
                + after + "}")
    if "megabytes" in words:
        return json.dumps({"text": "odd " * (250_000 * int(words["megabytes"]))})
    return None


async def endless(request):
    """Write until the client leaves."""
    response = web.StreamResponse(
        headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"text":"')
    while connected(request):
        await response.write(b"endless " * 8192)
    raise Gone


def quoted(request, words):
    """What servers say that repeat the key, or None."""
    if "echo" not in words:
        return None
    return (words.get("message", "") + "Incorrect API key provided: "
            + request.headers.get("Authorization", ""))


def refusal(request, words, form, audio, seconds):
    """The error response that the scenario asks for, or None."""
    headers = {}
    if "retry-after" in words:
        headers["Retry-After"] = {
            "past": "Thu, 01 Jan 1970 00:00:01 GMT",
            "never": "Fri, 31 Dec 9999 23:59:59 GMT",
        }.get(words["retry-after"], words["retry-after"])
    if "header" in words:
        name, _, value = words["header"].partition(":")
        headers[name] = value
    if any(word in words and request.headers.get(name) != scheme + words[word]
           for word, name, scheme in KEYS):
        return openai_error(401, "Incorrect API key provided",
                            code="invalid_api_key", headers=headers)
    if "status" in words:
        status = int(words["status"])
        return openai_error(
            status, quoted(request, words) or words.get(
                "message", f"scripted status {status}"),
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
        port = request.app["state"].port
        return web.Response(status=307, headers={"Location": {
            "host": f"http://localhost:{port}",
            "plain": f"http://127.0.0.1:{port}",
            "file": "file:///etc"}.get(words["redirect"], "")
            + "/s/ok/v1/" + request.match_info["call"]})
    if "raw" in words:
        await send_raw(request, **RAW[words["raw"]])
    if words.keys() & {"encoding", "transfer"}:
        return await send_bomb(request, words)
    for name in words.keys() & {"reset", "refuse", "goaway"}:
        return web.Response(headers={"X-HTTP2": name})
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
    text = odd_answer(request, words) or text
    content_type = words.get("type", content_type).replace("+", "/")
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
    if "twice" in words:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d" % (
            content_type.encode(), len(body))
        await send_raw(request, (head + b"\r\n\r\n" + body) * 2, stay=True)
    if "once" in words:
        await send(request, content_type, body)
        raise Gone
    return web.Response(body=body, content_type=content_type)


async def play(request, state, words, call):
    """Act a call out: read, wait, respond."""
    audio = b""
    if "die" in words:
        await die(request, int(words["die"]))
    if "early" not in words and request.can_read_body:
        audio = await read_form(request, call)
    if "drop-kept" in words and any(
            before["connection"] == call["connection"]
            for before in state.calls if before is not call):
        raise Gone
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
            "method": request.method, "query": request.query_string,
            "start": time.time(), "end": None,
            "status": None, "hung_up": False, "fields": {},
            "headers": sorted(request.headers.keys()),
            "connection": request.headers.get("X-Connection") or str(
                (request.transport.get_extra_info("peername") or "?")[1]),
            "key": bool(request.headers.keys() & {"Authorization", "api-key"}),
            "key_digest": hashlib.sha256(request.headers.get(
                "Authorization", "").encode()).hexdigest(),
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


async def listen_tls(options, runner, port):
    """Listen with TLS as well; returns the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert)
    if options.tls_max == "1.1":
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    if options.http2:
        from http2 import listen_http2
        await listen_http2(sock, context, port)
    else:
        await web.SockSite(runner, sock, ssl_context=context).start()
    return sock.getsockname()[1]


def main():
    """Serve."""
    parser = arguments("Whisper server with scripted faults")
    parser.add_argument("--cert", help="certificate and key: TLS on a second port")
    parser.add_argument("--tls-max", choices=["1.1"], help="no newer TLS")
    parser.add_argument("--http2", action="store_true",
                        help="speak HTTP/2 on the second port")
    options = parser.parse_args()
    # Its own limit of 1 MB is, from aiohttp 3.14 on, one of each part of a form.
    app = web.Application(client_max_size=1 << 30)
    app["state"] = State()
    app.router.add_get("/log", show_log)
    app.router.add_get("/log/{scenario}", show_log)
    app.router.add_post("/reset", reset)
    app.router.add_post("/release/{name}", release)
    app.router.add_route("*", "/s/{scenario}/v1/{call:.+}", act)
    app.router.add_route("*", "/v1/{call:.+}", act)

    async def started(runner, port):
        app["state"].port = port
        return [await listen_tls(options, runner, port)] if options.cert else []

    serve(app, options, started)


if __name__ == "__main__":
    main()
