"""Model servers on loopback that do what a test tells them, well-behaved and otherwise."""

import asyncio
import contextlib
import dataclasses
import socket
import struct

import grpc

from router.gateway.oip.credentials import server_credentials
from router.gateway.oip.peer import peer_of
from tests.factories import endpoint

SERVICE = "inference.GRPCInferenceService"
PATIENCE_S = 20.0


class Upstream:
    """A scripted gRPC server; ``unary`` and ``stream`` are handlers of (payload, context)."""

    def __init__(self):
        self.unary = None
        self.stream = None
        self.seen = []
        self.peers = []
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.endpoint = None
        self.server = None

    async def hang(self, *_):
        """Never answer; note when the call is cancelled."""
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _unary(self, payload, context):
        self.seen.append((payload, list(context.invocation_metadata()), context.time_remaining()))
        self.peers.append(peer_of(context))
        return await self.unary(payload, context)

    async def _stream(self, requests, context):
        payloads = [payload async for payload in requests]
        self.peers.append(peer_of(context))
        self.seen.append((payloads, list(context.invocation_metadata()), context.time_remaining()))
        await self.stream(payloads, context)

    async def _silent(self, requests, context):
        """Ends with OK but without the one message that a unary call must have."""
        async for _ in requests:
            pass

    async def start(self, host="127.0.0.1", port=0, tls=None):
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        unary = grpc.unary_unary_rpc_method_handler(self._unary)
        handlers = {
            "ModelInfer": unary,
            "ServerReady": unary,
            "ModelReady": unary,
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
            "Silent": grpc.stream_stream_rpc_method_handler(self._silent),
        }
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        if tls is None:
            port = self.server.add_insecure_port(f"{host}:{port}")
        else:
            port = self.server.add_secure_port(f"{host}:{port}", server_credentials(tls))
        await self.server.start()
        self.endpoint = at(port, host)

    async def stop(self):
        """End every call, and listen no more."""
        await self.server.stop(0)


def at(port, host="127.0.0.1"):
    """The endpoint on this port of the loopback interface."""
    return dataclasses.replace(endpoint("west-0"), address=f"{host}:{port}")


@contextlib.asynccontextmanager
async def upstream(host="127.0.0.1", port=0, tls=None):
    """A running `Upstream`."""
    made = Upstream()
    await made.start(host, port, tls)
    try:
        yield made
    finally:
        await made.server.stop(0)


@contextlib.asynccontextmanager
async def tcp_server(data=b"", *, reset=False, hold=False):
    """An endpoint that reads what comes, writes ``data`` and hangs up (or holds the line)."""
    done = asyncio.Event()

    async def serve(reader, writer):
        await reader.read(64)
        writer.write(data)
        if hold:
            await done.wait()
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield at(server.sockets[0].getsockname()[1])
    finally:
        done.set()
        server.close()
        await server.wait_closed()


def unused():
    """An endpoint where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return at(probe.getsockname()[1])


async def soon(awaitable):
    """``awaitable``, or a failure instead of a test that hangs."""
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable
