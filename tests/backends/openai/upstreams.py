"""HTTP model servers on loopback that do what a test tells them, well-behaved and otherwise."""

import asyncio
import contextlib
import json
import socket
import struct

from router.trust.listener import TlsListener
from router.trust.peer import read_peer
from tests.backends.oip.upstreams import at

CHAT = ((":method", "POST"), (":path", "/v1/chat/completions"))
DONE = b"data: [DONE]\n\n"


class Context:
    """How a handler answers one request, in the words that gRPC's has; and bare bytes.

    ``fields``: of the request, as they came.
    """

    def __init__(self, transport, fields):
        self._transport = transport
        self._begun = False
        self._extra = []
        self.fields = fields

    async def send_initial_metadata(self, fields):
        self._extra += fields

    def set_trailing_metadata(self, fields):
        self._extra += fields

    def time_remaining(self):
        """HTTP tells no server of a deadline."""
        return None

    async def write(self, event):
        """One piece of a chunked answer of events."""
        self.begin()
        self.bare(b"%x\r\n%b\r\n" % (len(event), event))

    def begin(self):
        """The head of a chunked answer of events."""
        if not self._begun:
            self._begun = True
            kind = ("content-type", "text/event-stream")
            self.head(200, [kind, ("transfer-encoding", "chunked")])

    def end(self):
        """The end of a chunked answer."""
        self.bare(b"0\r\n\r\n")

    def head(self, status, fields):
        lines = [f"HTTP/1.1 {status} Some Phrase", *(f"{k}: {v}" for k, v in fields)]
        lines += [f"{key}: {value}" for key, value in self._extra]
        self.bare("\r\n".join([*lines, "", ""]).encode())

    def reply(self, status, body=b"", fields=(("content-type", "application/json"),)):
        """A whole answer."""
        self.head(status, [*fields, ("content-length", str(len(body)))])
        self.bare(body)

    def bare(self, data):
        self._transport.write(data)

    def hang_up(self, reset=False):
        if reset:
            linger = struct.pack("ii", 1, 0)
            inner = self._transport.get_extra_info("socket")
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.close()

    async def abort(self, status, text=""):
        self.reply(status, json.dumps({"error": {"message": text}}).encode())


class HttpUpstream:
    """A scripted HTTP server; ``unary`` and ``stream`` are handlers of (payload, context).

    ``unary`` returns the body of an answer, or None where it answered itself. A request is streamed
    where its path has ``completions`` in it and ``stream`` is set; unless its handler hung up, what
    ends a stream follows. ``seen``: (payload, fields, time left); ``paths``: of them;
    ``connections``: how many were accepted.
    """

    def __init__(self):
        self.unary = None
        self.stream = None
        self.seen = []
        self.peers = []
        self.paths = []
        self.connections = 0
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.endpoint = None
        self.open = set()

    async def hang(self, *_):
        """Never answer; note when the caller goes away."""
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def stop(self):
        """Hang up on everybody."""
        for transport in tuple(self.open):
            transport.abort()

    async def answer(self, target, payload, context):
        streamed = self.stream is not None and "completions" in target
        self.seen.append(([payload] if streamed else payload, context.fields, None))
        self.paths.append(target)
        if streamed:
            await self.stream([payload], context)
            context.begin()
            await context.write(DONE)
            context.end()
            return
        body = await self.unary(payload, context)
        if body is not None:
            context.reply(200, body)


class _Connection(asyncio.Protocol):
    """Answers one request after the other; a caller who goes away cancels the one under way."""

    def __init__(self, server, tasks):
        self._server = server
        self._tasks = tasks
        self._work = None
        self._come = b""

    def connection_made(self, transport):
        self._server.connections += 1
        self._server.open.add(transport)
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) if tls is not None else None
        self._server.peers.append(read_peer(shown) if shown else None)

    def data_received(self, data):
        self._come += data
        head, blank, rest = self._come.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = [tuple(line.split(": ", 1)) for line in lines[1:] if line]
        length = int({key.lower(): value for key, value in fields}.get("content-length", 0))
        if not blank or len(rest) < length:
            return
        self._come = rest[length:]
        context = Context(self._transport, fields)
        answer = self._server.answer(lines[0].split()[1], rest[:length], context)
        self._work = self._tasks.create_task(answer)

    def connection_lost(self, error):
        self._server.open.discard(self._transport)
        if self._work is not None:
            self._work.cancel()


@contextlib.asynccontextmanager
async def http_upstream(host="127.0.0.1", port=0, tls=None):
    """A running `HttpUpstream`; in the end it hangs up on everybody."""
    made = HttpUpstream()
    async with asyncio.TaskGroup() as tasks:
        loop = asyncio.get_running_loop()
        if tls is None:
            server = await loop.create_server(lambda: _Connection(made, tasks), host, port)
            port, close = server.sockets[0].getsockname()[1], server.close
        else:
            listener = TlsListener(lambda: _Connection(made, tasks), tls.context, lambda: 1000)
            port, close = await listener.start(host, port), listener.stop
        made.endpoint = at(port, host)
        try:
            yield made
        finally:
            close()
            while made.open:
                await made.stop()
                await asyncio.sleep(0)
