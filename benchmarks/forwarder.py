"""The floor: the least that a Python gRPC proxy can do. No routing, no parsing, no accounting.

Every method of the Open Inference Protocol is relayed as raw bytes to one upstream, with request
metadata, deadline, status and trailing metadata. Prints ``ready ADDRESS`` once it listens.

    python -m benchmarks.forwarder --listen 18000 --upstream 127.0.0.1:18001
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator

import grpc

STREAMED = "/inference.GRPCInferenceService/ModelStreamInfer"
# gRPC writes its own; relayed ones would be sent beside it.
OWN_HEADERS = frozenset({"user-agent"})
NO_LIMIT = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Forwarder(grpc.GenericRpcHandler):
    """Relays any unary method, and ModelStreamInfer, over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        handler = self._handlers.get(details.method)
        if handler is None:
            make = self._stream if details.method == STREAMED else self._unary
            handler = self._handlers[details.method] = make(details.method)
        return handler

    def _unary(self, method: str) -> grpc.RpcMethodHandler:
        upstream = self._channel.unary_unary(method)

        async def relay(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            call = upstream(request, timeout=context.time_remaining(), metadata=_metadata(context))
            try:
                answer = await call
            except grpc.aio.AioRpcError as error:
                await context.abort(
                    error.code(), error.details() or "", tuple(error.trailing_metadata())
                )
            context.set_trailing_metadata(await call.trailing_metadata())
            return answer

        return grpc.unary_unary_rpc_method_handler(relay)

    def _stream(self, method: str) -> grpc.RpcMethodHandler:
        upstream = self._channel.stream_stream(method)

        async def relay(
            requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
        ) -> AsyncIterator[bytes]:
            call = upstream(requests, timeout=context.time_remaining(), metadata=_metadata(context))
            try:
                async for answer in call:
                    yield answer
            except grpc.aio.AioRpcError as error:
                await context.abort(
                    error.code(), error.details() or "", tuple(error.trailing_metadata())
                )
            context.set_trailing_metadata(await call.trailing_metadata())

        return grpc.stream_stream_rpc_method_handler(relay)


def _metadata(context: grpc.aio.ServicerContext) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(pair for pair in context.invocation_metadata() if pair[0] not in OWN_HEADERS)


async def serve(listen: int, upstream: str) -> None:
    """Relay 127.0.0.1:``listen`` (0: any free port) to ``upstream`` until SIGTERM or SIGINT."""
    async with grpc.aio.insecure_channel(upstream, options=NO_LIMIT) as channel:
        server = grpc.aio.server(options=NO_LIMIT)
        server.add_generic_rpc_handlers((Forwarder(channel),))
        port = server.add_insecure_port(f"127.0.0.1:{listen}")
        await server.start()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        print(f"ready 127.0.0.1:{port}", flush=True)
        await stop.wait()
        await server.stop(grace=1.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", type=int, default=0, help="port on 127.0.0.1; 0: any")
    parser.add_argument("--upstream", required=True, help="HOST:PORT of the model server")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.listen, arguments.upstream))
