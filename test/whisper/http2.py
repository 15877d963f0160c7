"""A gateway that speaks HTTP/2 to clients and HTTP/1.1 to the faulty server.

Used by faulty_server.py, with Debian's python3-h2 and python3-aiohttp.  Each
stream becomes a call of the faulty server, with the number of its connection
in the header X-Connection; a client that resets a stream hangs up on that
call.  An answer with the header X-HTTP2 is not passed on: the stream is ended
as it says instead, by "reset", "refuse" or "goaway".

Rules: bodies are held whole, in both directions; nothing outlives its
connection.
"""

import asyncio
import itertools

from aiohttp import ClientError, ClientSession
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (DataReceived, RequestReceived, StreamEnded,
                       StreamReset, WindowUpdated)
from h2.exceptions import ProtocolError

# Headers that HTTP/2 has in another way, or not at all.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}

numbers = itertools.count(1)


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, base):
        self.base = base
        self.number = next(numbers)
        self.h2 = H2Connection(H2Configuration(
            client_side=False, header_encoding="utf-8"))
        self.streams = {}
        self.tasks = {}
        self.window = asyncio.Event()
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc):
        for task in self.tasks.values():
            task.cancel()

    def flush(self):
        """Send what the protocol has to say."""
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data):
        try:
            events = self.h2.receive_data(data)
        except ProtocolError:
            self.flush()
            self.transport.close()
            return
        for event in events:
            self.handle(event)
        self.flush()

    def handle(self, event):
        """Act on one thing that the client has done."""
        if isinstance(event, RequestReceived):
            self.streams[event.stream_id] = (dict(event.headers), bytearray())
        elif isinstance(event, DataReceived):
            self.streams[event.stream_id][1].extend(event.data)
            self.h2.acknowledge_received_data(
                event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.tasks[event.stream_id] = asyncio.ensure_future(
                self.forward(event.stream_id))
        elif isinstance(event, StreamReset):
            if event.stream_id in self.tasks:
                self.tasks[event.stream_id].cancel()
        elif isinstance(event, WindowUpdated):
            self.window.set()

    async def forward(self, stream):
        """Have the faulty server answer a stream, and pass that on."""
        headers, body = self.streams.pop(stream)
        try:
            async with ClientSession() as session, session.request(
                    headers[":method"], self.base + headers[":path"],
                    data=bytes(body), allow_redirects=False,
                    headers={"X-Connection": f"h2-{self.number}"} | {
                        name: value for name, value in headers.items()
                        if name[0] != ":"}) as response:
                answer = await response.read()
        except ClientError:
            self.end(stream, "reset")
            return
        if "X-HTTP2" in response.headers:
            self.end(stream, response.headers["X-HTTP2"])
            return
        self.h2.send_headers(stream, [(":status", str(response.status))] + [
            (name.lower(), value) for name, value in response.headers.items()
            if name.lower() not in HOP])
        await self.send(stream, answer)

    async def send(self, stream, body):
        """Send a body as fast as the client takes it."""
        while body:
            room = min(self.h2.local_flow_control_window(stream),
                       self.h2.max_outbound_frame_size, len(body))
            if room == 0:
                self.window.clear()
                await self.window.wait()
                continue
            self.h2.send_data(stream, body[:room])
            self.flush()
            body = body[room:]
        self.h2.end_stream(stream)
        self.flush()

    def end(self, stream, how):
        """End a stream without an answer."""
        if how == "goaway":
            self.h2.close_connection(ErrorCodes.INTERNAL_ERROR,
                                     last_stream_id=0)
        else:
            self.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM
                                 if how == "refuse"
                                 else ErrorCodes.INTERNAL_ERROR)
        self.flush()
        if how == "goaway":
            self.transport.close()


async def listen_http2(sock, context, port):
    """Listen, with TLS; calls go to the faulty server's port."""
    context.set_alpn_protocols(["h2"])
    await asyncio.get_running_loop().create_server(
        lambda: Connection(f"http://127.0.0.1:{port}"), sock=sock, ssl=context)
