"""Handlers of small messages: take in, decode, answer, encode; every failure by the one table.

gRPC's own codecs would answer a malformed message, and any exception, with UNKNOWN. All methods
are served as if the client streamed: only so are messages read by us, when there is room for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from router.errors import MalformedRequestError, UnknownMethodError
from router.gateway.failures import Failures
from router.gateway.oip.aborting import refuse
from router.gateway.oip.context import Context
from router.gateway.oip.intake import SMALL_BYTES, IncomingCall, Intake
from router.identity.principal import Principal, Role
from router.model import Request

Asked = TypeVar("Asked", bound=Message)


class Desk(NamedTuple):
    """What every handler needs: where calls come in, and who is told of those that fail."""

    intake: Intake
    failures: Failures


def decode(request: type[Asked], payload: bytes) -> Asked:
    """Raises MalformedRequestError for bytes that are no such message."""
    try:
        return request.FromString(payload)
    except DecodeError:
        name = request.DESCRIPTOR.name
        raise MalformedRequestError(f"the message cannot be decoded as {name}") from None


async def only_message(call: IncomingCall) -> bytes:
    """The message of a call that has one. Raises what `IncomingCall.message` does."""
    payload = await call.message()
    if payload is None:
        raise MalformedRequestError("the call ended before its message")
    return payload


async def refuse_if_cut(
    call: IncomingCall | None,
    context: Context,
    failures: Failures,
    method: str,
    asked: Request | None,
) -> None:
    """End a call that was cancelled with the reason, where we did that and not its client."""
    refusal = call.refusal() if call is not None else None
    if refusal is not None:
        await refuse(context, failures, method, asked, refusal)


def unary(
    request: type[Asked],
    answer: Callable[[Asked, Context, Principal], Awaitable[Message]],
    desk: Desk,
    needs: Role | None,
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method with one answer; ``answer`` raises leaves of ``router.errors``, or aborts.

    ``needs``: the role that it takes; None: anybody may ask.
    """
    name = request.DESCRIPTOR.name.removesuffix("Request")

    async def handle(_: object, context: Context) -> bytes:
        call: IncomingCall | None = None
        try:
            call = desk.intake.enter(context, context.invocation_metadata(), needs, SMALL_BYTES)
            message = decode(request, await only_message(call))
            return (await answer(message, context, call.principal)).SerializeToString()
        except asyncio.CancelledError:
            await refuse_if_cut(call, context, desk.failures, name, None)
            raise
        except grpc.aio.BaseError:
            raise
        except Exception as error:
            await refuse(context, desk.failures, name, None, error)
        finally:
            if call is not None:
                call.leave()

    return grpc.stream_unary_rpc_method_handler(handle)


def server_stream(
    request: type[Asked],
    answers: Callable[[Asked, Principal], AsyncIterator[Message]],
    desk: Desk,
    needs: Role | None,
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method with any number of answers; ``needs``: as of `unary`."""
    name = request.DESCRIPTOR.name.removesuffix("Request")

    async def handle(_: object, context: Context) -> None:
        call: IncomingCall | None = None
        try:
            call = desk.intake.enter(
                context, context.invocation_metadata(), needs, SMALL_BYTES, metered=False
            )
            asked = decode(request, await only_message(call))
            async for message in answers(asked, call.principal):
                call.renewed()
                await context.write(message.SerializeToString())
        except asyncio.CancelledError:
            await refuse_if_cut(call, context, desk.failures, name, None)
            raise
        except grpc.aio.BaseError:
            raise  # the client is gone: gRPC knows, and keeps silent
        except Exception as error:
            await refuse(context, desk.failures, name, None, error)
        finally:
            if call is not None:
                call.leave()

    return grpc.stream_stream_rpc_method_handler(handle)


class UnknownMethods(grpc.GenericRpcHandler):
    """Answers what no other handler does, so that this refusal too says its reason."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        handler: grpc.RpcMethodHandler[Any, Any]
        handler = grpc.stream_unary_rpc_method_handler(self._refuse)
        self._handler = handler

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The same for every method."""
        return self._handler

    async def _refuse(self, _: object, context: Context) -> None:
        await refuse(
            context,
            self._failures,
            "unknown",
            None,
            UnknownMethodError("this server has no such method: see its reflection service"),
        )
