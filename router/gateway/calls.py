"""Handlers of small messages: decode, answer, encode; every failure by the one table.

gRPC's own codecs would answer a malformed message, and any exception, with UNKNOWN.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from router.errors import MalformedRequestError
from router.gateway.ports import Context
from router.gateway.refusal import Failures, refuse

Request = TypeVar("Request", bound=Message)


def decode(request: type[Request], payload: bytes) -> Request:
    """Raises MalformedRequestError for bytes that are no such message."""
    try:
        return request.FromString(payload)
    except DecodeError:
        name = request.DESCRIPTOR.name
        raise MalformedRequestError(f"the message cannot be decoded as {name}") from None


def unary(
    request: type[Request],
    answer: Callable[[Request, Context], Awaitable[Message]],
    failures: Failures,
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method with one answer; ``answer`` raises leaves of ``router.errors``, or aborts."""
    name = request.DESCRIPTOR.name.removesuffix("Request")

    async def handle(payload: bytes, context: Context) -> bytes:
        try:
            return (await answer(decode(request, payload), context)).SerializeToString()
        except grpc.aio.BaseError:
            raise
        except Exception as error:
            await refuse(context, failures, name, None, error)

    return grpc.unary_unary_rpc_method_handler(handle)


def server_stream(
    request: type[Request],
    answers: Callable[[Request], AsyncIterator[Message]],
    failures: Failures,
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method with any number of answers."""
    name = request.DESCRIPTOR.name.removesuffix("Request")

    async def handle(payload: bytes, context: Context) -> None:
        try:
            async for message in answers(decode(request, payload)):
                await context.write(message.SerializeToString())
        except grpc.aio.BaseError:
            raise  # the client is gone: gRPC knows, and keeps silent
        except Exception as error:
            await refuse(context, failures, name, None, error)

    return grpc.unary_stream_rpc_method_handler(handle)
