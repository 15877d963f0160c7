"""What both test servers share: listening, saying where, and ending.

Run by whisper_server.py and faulty_server.py.  Rules: loopback only; the
first line on standard output is "listening on PORT..."; with --exit-with-stdin
the process ends when its standard input does, so that a test that dies, by
whatever cause, never leaves a server behind.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading

from aiohttp import web


def arguments(description):
    """The command line that both servers understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0,
                        help="port to listen on; 0 (the default) picks one")
    parser.add_argument("--exit-with-stdin", action="store_true",
                        help="end as soon as standard input is closed")
    return parser


def openai_error(status, message, kind="invalid_request_error", param=None,
                 code=None, headers=None):
    """An error response in OpenAI's shape."""
    return web.json_response(
        {"error": {"message": message, "type": kind, "param": param,
                   "code": code}}, status=status, headers=headers)


def serve(app, options, started=None, **runner):
    """Serve app on loopback until a signal or the end of standard input.

    started is called, and awaited, with the runner and the port; it returns
    a list of further ports that the app listens on.
    """
    sock = socket.create_server(("127.0.0.1", options.port), backlog=256)
    if options.exit_with_stdin:
        threading.Thread(target=_exit_with_stdin, daemon=True).start()
    asyncio.run(_serve(app, sock, started, runner))
    # A thread may still be decoding, and nobody waits for it.
    os._exit(0)


async def _serve(app, sock, started, runner):
    """Announce the ports once the sockets are being served, then wait."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = web.AppRunner(app, access_log=None, **runner)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    port = sock.getsockname()[1]
    more = await started(runner, port) if started else []
    print("listening on", port, *more, flush=True)
    await ended.wait()


def _exit_with_stdin():
    """Read standard input to its end.

    A thread, because a pipe, a terminal and a file all end for read(), while
    an event loop can watch the first two only.
    """
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)
