"""A server that takes its time, and little of the machine's.

    server.py --seconds N [--port N] [--exit-with-stdin]

Run by requests.py.  It answers each request so many seconds after the last
byte of it has come, with one segment, whatever was sent: the form is read and
not looked at, so that what is measured beside it has the processors.

GET /counts tells the requests and connections so far, and the CPU seconds
used; POST /reset sets them back.
"""

import asyncio
import os
import sys
import time

from aiohttp import web

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "whisper"))

from serve import arguments, serve  # noqa: E402

ANSWER = (b'{"task": "transcribe", "language": "english", "duration": 1.0, '
          b'"text": "spoken", "segments": [{"id": 0, "start": 0.0, '
          b'"end": 1.0, "text": " spoken"}]}')

# Of a request; a chunk of ten minutes has some megabytes.
LARGEST = 64 * 1024 * 1024


class Counts:
    """What has been seen since the last reset."""

    def __init__(self):
        self.requests = 0
        self.peers = set()
        self.cpu = time.process_time()


async def transcribe(request):
    """Any transcription."""
    counts = request.app["counts"]
    counts.requests += 1
    # A port is not used again so soon.
    counts.peers.add(request.transport.get_extra_info("peername"))
    await request.read()
    await asyncio.sleep(request.app["seconds"])
    return web.Response(body=ANSWER, content_type="application/json")


async def show(request):
    """GET /counts."""
    counts = request.app["counts"]
    return web.json_response({
        "requests": counts.requests, "connections": len(counts.peers),
        "cpu": time.process_time() - counts.cpu})


async def reset(request):
    """POST /reset."""
    request.app["counts"].__init__()
    return web.Response()


def main():
    """Serve."""
    parser = arguments("server that takes its time")
    parser.add_argument("--seconds", type=float, required=True,
                        help="until the answer to a request")
    options = parser.parse_args()
    app = web.Application(client_max_size=LARGEST)
    app["seconds"] = options.seconds
    app["counts"] = Counts()
    app.router.add_post("/v1/audio/transcriptions", transcribe)
    app.router.add_get("/counts", show)
    app.router.add_post("/reset", reset)
    serve(app, options)


if __name__ == "__main__":
    main()
