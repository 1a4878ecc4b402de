"""ModelStreamInfer with Triton's semantics: messages of one stream are requests of their own.

Each message is routed by itself and has 0..n answers, relayed as bytes. A failure is told in-band
and the stream lives on. Requests run concurrently, except where only their order tells answers
apart or the backend depends on it: a message without an ``id`` waits for earlier ones without, a
message of a sequence for earlier ones of that sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import grpc

from router._pb.inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from router.contract import Metadata
from router.director import Call, Director
from router.errors import DrainingError, GatewayFullError, RequestError
from router.gateway import headers
from router.gateway.caller import Caller, RoutingFields
from router.gateway.cut_answers import settle_cut
from router.gateway.failures import Arrival, Failures
from router.gateway.holding import Holding, held
from router.gateway.oip.aborting import cancelled
from router.gateway.oip.context import Context
from router.gateway.oip.intake import IncomingCall
from router.gateway.oip.status import passable, status_of
from router.gateway.oip.tensors import prompt_of
from router.gateway.oip.trailers import with_receipt
from router.gateway.oip.wire import scan, with_model
from router.gateway.receipts import StreamReceipts
from router.identity.limits import FREE, Limiter, Use, used_tokens
from router.identity.principal import Principal
from router.model import Receipt, Request

# Requests of one stream that run or wait at a time; beyond it the stream is not read, so HTTP/2
# flow control holds the client back.
MAX_CONCURRENT = 64
_NO_ID = ""
_METHOD = "ModelStreamInfer"
REASON_PARAMETER = "x-carbon-reason"
# How many answers of the request came before it failed.
ANSWERS_PARAMETER = "x-carbon-answers"


class _Turn(NamedTuple):
    """One message: what it asks for, whom it waits for, and what it sets when it has ended."""

    payload: bytes
    fields: RoutingFields | RequestError
    earlier: list[asyncio.Event]
    lines: list[str]
    ended: asyncio.Event


class _Passed:
    """Of one request: how many answers were written."""

    __slots__ = ("answers",)

    def __init__(self) -> None:
        self.answers = 0


class StreamSession:
    """One open stream. ``run`` returns or raises when it has ended; nothing outlives it."""

    def __init__(
        self,
        director: Director,
        context: Context,
        call: IncomingCall,
        caller_for: Callable[[Principal], Caller],
        limiter: Limiter,
        failures: Failures,
        margin_ms: float,
        holding: Holding | None = None,
    ) -> None:
        """``caller_for``: its routing headers, held to what a principal may; ``limiter``: of what
        each of its messages is a request. Raises InvalidMetadataError for unusable routing headers,
        which fail the whole stream."""
        self._director = director
        self._context = context
        self._call = call
        self._failures = failures
        self._margin_ms = margin_ms
        self._holding = holding
        self._limiter = limiter
        self._metadata = call.metadata
        self._caller_for = caller_for
        self._caller = caller_for(call.principal)
        self._writing = asyncio.Lock()
        self._room = asyncio.Semaphore(MAX_CONCURRENT)
        # The last request in line, by sequence id or _NO_ID.
        self._tails: dict[str, asyncio.Event] = {}
        self._receipts = StreamReceipts()
        self._upstream_trailers: Metadata = ()
        self._active = 0
        self._reader: asyncio.Task[object] | None = None
        self._draining = False
        self._cut: GatewayFullError | DrainingError | None = None

    async def run(self) -> None:
        """Serve the stream to its end and set its trailers.

        Raises DrainingError or GatewayFullError when it was cut short; what ran has ended then.
        """
        async with asyncio.TaskGroup() as requests:
            while True:
                await self._call.room()
                turn = await self._next_turn()
                if turn is None:
                    break
                await self._room.acquire()
                requests.create_task(self._serve(turn))
        self._context.set_trailing_metadata(
            with_receipt(
                passable(self._upstream_trailers),
                self._receipts.as_metadata(self._caller.receipt == headers.FULL),
            )
        )
        if self._cut is not None:
            raise self._cut

    def drain(self) -> None:
        """Finish what runs; end the stream once nothing does, without waiting for the client."""
        self._draining = True
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._draining and not self._active and self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> bytes | None:
        """The next message; None when the client has half-closed or an idle stream drains."""
        if self._draining and not self._active:
            self._cut = _draining()
            return None
        self._reader = reader = asyncio.current_task()
        try:
            return await self._call.message()
        except GatewayFullError as error:
            self._cut = error
            return None
        except asyncio.CancelledError:
            # Ours from ``_end_if_idle``, unless somebody else cancelled as well.
            if self._draining and not self._active and reader and reader.uncancel() == 0:
                self._cut = None if self._call.half_closed else _draining()
                return None
            raise
        finally:
            self._reader = None

    async def _next_turn(self) -> _Turn | None:
        payload: bytes | None = b""
        fields: RoutingFields | RequestError
        lines = []
        try:
            payload = await self._read()
            if payload is None:
                return None
            fields = scan(payload)
            if not fields.request_id:
                lines.append(_NO_ID)
            if fields.sequence_id:
                lines.append(fields.sequence_id)
        except RequestError as error:
            fields = error
            lines.append(_NO_ID)
        earlier = [self._tails[line] for line in lines if line in self._tails]
        ended = asyncio.Event()
        for line in lines:
            self._tails[line] = ended
        self._active += 1
        return _Turn(payload or b"", fields, earlier, lines, ended)

    def _leave(self, turn: _Turn) -> None:
        turn.ended.set()
        for line in turn.lines:
            if self._tails[line] is turn.ended:
                del self._tails[line]
        self._active -= 1
        self._call.release(len(turn.payload))
        self._room.release()
        self._end_if_idle()

    async def _serve(self, turn: _Turn) -> None:
        request: Request | None = None
        passed = _Passed()
        use = FREE
        try:
            for event in turn.earlier:
                await event.wait()
            if self._call.renewed():
                self._caller = self._caller_for(self._call.principal)
            use = self._limiter.begin(self._call.principal)
            if isinstance(turn.fields, RequestError):
                raise turn.fields
            remaining_s = self._context.time_remaining()
            request = self._caller.request(
                turn.fields, len(turn.payload), remaining_s, self._margin_ms
            )
            deadline_s = min(self._caller.deadline_s, turn.fields.deadline_s)
            patience = math.inf if remaining_s is None else remaining_s
            waited = await held(self._holding, request, deadline_s, patience)
            if waited.run_at_once is not None:
                remaining_s = self._context.time_remaining()
                request = self._caller.request(
                    turn.fields, len(turn.payload), remaining_s, self._margin_ms
                )._replace(run_at_once=waited.run_at_once)
            prompt = prompt_of(turn.payload, turn.fields.prompt, self._caller.session)
            expected_tokens = 0.0
            if use.is_metered:
                with self._director.admitting(request):
                    expected_tokens = self._director.expected_tokens(request)
                    use.reserve(expected_tokens)
            receipt = await self._relay(
                Call(
                    request,
                    turn.payload,
                    self._metadata,
                    remaining_s,
                    prompt,
                    weight=self._call.principal.weight,
                    named=with_model,
                ),
                passed,
                use,
                expected_tokens,
            )
            if receipt is not None:
                use.settle(used_tokens(receipt))
        except asyncio.CancelledError as gone:
            cancelled(self._failures, _METHOD, request, gone)
            raise
        except grpc.aio.BaseError as gone:
            # A write failed: the client is gone, and gRPC is about to cancel the whole call.
            cancelled(self._failures, _METHOD, request, gone)
        except Exception as error:
            use.give_back()
            with contextlib.suppress(grpc.aio.BaseError):
                await self._fail(turn, request, error, passed.answers)
        finally:
            use.end()
            self._leave(turn)

    async def _relay(
        self, call: Call, passed: _Passed, use: Use, expected_tokens: float
    ) -> Receipt | None:
        routed = self._director.stream(call)
        writing = self._writing
        write = self._context.write
        try:
            async for message in routed:
                async with writing:
                    await write(message)
                passed.answers += 1
        except BaseException as error:
            settle_cut(use, routed, expected_tokens, error)
            raise
        finally:
            await routed.aclose()
        if routed.receipt is not None:
            self._receipts.add(routed.receipt)
        self._upstream_trailers = routed.trailers
        return routed.receipt

    async def _fail(
        self, turn: _Turn, request: Request | None, error: Exception, answers: int
    ) -> None:
        status = status_of(error)
        self._failures.failed(
            _METHOD, request, status.code.name, status.reason, error,
            arrival=Arrival("oip", self._metadata, True, 0.0),
        )  # fmt: skip
        response = ModelInferResponse()
        if not isinstance(turn.fields, RequestError):
            # As it came: by it the caller knows which of its messages this is about.
            response.model_name, response.id = turn.fields.model, turn.fields.request_id
        response.parameters[REASON_PARAMETER].string_param = status.reason
        response.parameters[ANSWERS_PARAMETER].int64_param = answers
        got = f" (after answer {answers})" if answers else ""
        message = ModelStreamInferResponse(
            error_message=status.message + got, infer_response=response
        )
        async with self._writing:
            await self._context.write(message.SerializeToString())


def _draining() -> DrainingError:
    return DrainingError("this gateway is shutting down: open the stream again elsewhere")
