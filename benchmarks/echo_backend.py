"""The fastest possible model server: answers ModelInfer and ModelStreamInfer with constant bytes.

Speaks enough of the Open Inference Protocol for a gateway to take it for a model server, or, on
several ports, for as many. Prints ``ready ADDRESS ...`` once it listens. Ends on SIGTERM or SIGINT.

    python -m benchmarks.echo_backend --listen 18001 --messages 32
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator

import grpc

SERVICE = "inference.GRPCInferenceService"
MODEL = "echo"
_LENGTH_DELIMITED = 2


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _tensor(name: bytes, elements: int) -> bytes:
    shape = field(3, _varint(elements))
    return field(1, name) + field(2, b"FP32") + shape


def infer_request(model: str = MODEL, elements: int = 40) -> bytes:
    """A ModelInferRequest of one FP32 tensor, raw; about 200 bytes at 40 elements."""
    raw = field(7, bytes(4 * elements))
    return field(1, model.encode()) + field(5, _tensor(b"x", elements)) + raw


def infer_response(model: str = MODEL, elements: int = 40) -> bytes:
    """A ModelInferResponse of one FP32 tensor, raw; about 200 bytes at 40 elements."""
    raw = field(6, bytes(4 * elements))
    return field(1, model.encode()) + field(5, _tensor(b"y", elements)) + raw


UNARY_ANSWER = infer_response()
STREAM_ANSWER = field(2, UNARY_ANSWER)  # ModelStreamInferResponse.infer_response
TRUE = b"\x08\x01"  # field 1, varint 1: ServerLiveResponse, ServerReadyResponse, ...
METADATA = field(1, MODEL.encode())  # ModelMetadataResponse.name


def handlers(messages: int) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods on raw bytes; a streamed request is answered by ``messages``."""

    def unary(answer: bytes) -> grpc.RpcMethodHandler:
        async def respond(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return answer

        return grpc.unary_unary_rpc_method_handler(respond)

    async def stream(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async for _ in requests:
            for _ in range(messages):
                yield STREAM_ANSWER

    return {
        "ServerLive": unary(TRUE),
        "ServerReady": unary(TRUE),
        "ModelReady": unary(TRUE),
        "ModelMetadata": unary(METADATA),
        "ModelInfer": unary(UNARY_ANSWER),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream),
    }


async def serve(listen: list[int], messages: int) -> None:
    """Serve on 127.0.0.1 at every port of ``listen`` (0: any free one) until SIGTERM or SIGINT."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, handlers(messages)),)
    )
    ports = [server.add_insecure_port(f"127.0.0.1:{port}") for port in listen]
    await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("ready", *(f"127.0.0.1:{port}" for port in ports), flush=True)
    await stop.wait()
    await server.stop(grace=1.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--listen", type=int, nargs="+", default=[0], help="ports on 127.0.0.1; 0: any"
    )
    parser.add_argument("--messages", type=int, default=32, help="answers to a streamed request")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.listen, arguments.messages))
