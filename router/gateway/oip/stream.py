"""ModelStreamInfer with Triton's semantics: messages of one stream are requests of their own.

Each message is routed by itself and has 0..n answers, relayed as bytes. A failure is told in-band
and the stream lives on. Requests run concurrently, except where only their order tells answers
apart or the backend depends on it: a message without an ``id`` waits for earlier ones without, a
message of a sequence for earlier ones of that sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

import grpc

from router._pb.inference_pb2 import ModelInferResponse, ModelStreamInferResponse
from router.contract import Metadata
from router.director import Call, Director
from router.errors import DrainingError, GatewayFullError, RequestError
from router.gateway.caller import RoutingFields
from router.gateway.failures import Failures
from router.gateway.oip.aborting import cancelled
from router.gateway.oip.caller import caller_of
from router.gateway.oip.context import Context
from router.gateway.oip.intake import IncomingCall
from router.gateway.oip.status import passable, status_of
from router.gateway.oip.trailers import with_receipt
from router.gateway.oip.wire import scan
from router.gateway.receipts import StreamReceipts
from router.model import Request

# Requests of one stream that run or wait at a time; beyond it the stream is not read, so HTTP/2
# flow control holds the client back.
MAX_CONCURRENT = 64
_NO_ID = ""
_METHOD = "ModelStreamInfer"
REASON_PARAMETER = "x-carbon-reason"


class _Turn(NamedTuple):
    """One message: what it asks for, whom it waits for, and what it sets when it has ended."""

    payload: bytes
    fields: RoutingFields | RequestError
    earlier: list[asyncio.Event]
    lines: list[str]
    ended: asyncio.Event


class StreamSession:
    """One open stream. ``run`` returns or raises when it has ended; nothing outlives it."""

    def __init__(
        self,
        director: Director,
        context: Context,
        call: IncomingCall,
        failures: Failures,
        margin_ms: float,
    ) -> None:
        """Raises InvalidMetadataError for unusable routing headers, which fail the whole stream."""
        self._director = director
        self._context = context
        self._call = call
        self._failures = failures
        self._margin_ms = margin_ms
        self._metadata = context.invocation_metadata()
        self._caller = caller_of(self._metadata)
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
            with_receipt(passable(self._upstream_trailers), self._receipts.trailers())
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
        try:
            for event in turn.earlier:
                await event.wait()
            if isinstance(turn.fields, RequestError):
                raise turn.fields
            remaining_s = self._context.time_remaining()
            request = self._caller.request(
                turn.fields, len(turn.payload), remaining_s, self._margin_ms
            )
            await self._relay(request, turn.payload, remaining_s)
        except asyncio.CancelledError as gone:
            cancelled(self._failures, _METHOD, request, gone)
            raise
        except grpc.aio.BaseError as gone:
            # A write failed: the client is gone, and gRPC is about to cancel the whole call.
            cancelled(self._failures, _METHOD, request, gone)
        except Exception as error:
            with contextlib.suppress(grpc.aio.BaseError):
                await self._fail(request, error)
        finally:
            self._leave(turn)

    async def _relay(self, request: Request, payload: bytes, remaining_s: float | None) -> None:
        routed = self._director.stream(Call(request, payload, self._metadata, remaining_s))
        writing = self._writing
        write = self._context.write
        try:
            async for message in routed:
                async with writing:
                    await write(message)
        finally:
            await routed.aclose()
        if routed.receipt is not None:
            self._receipts.add(routed.receipt)
        self._upstream_trailers = routed.trailers

    async def _fail(self, request: Request | None, error: Exception) -> None:
        status = status_of(error)
        self._failures.failed(_METHOD, request, status.code.name, status.reason, error)
        response = ModelInferResponse()
        if request is not None:
            response.model_name = request.model
            response.id = request.request_id
        response.parameters[REASON_PARAMETER].string_param = status.reason
        message = ModelStreamInferResponse(error_message=status.message, infer_response=response)
        async with self._writing:
            await self._context.write(message.SerializeToString())


def _draining() -> DrainingError:
    return DrainingError("this gateway is shutting down: open the stream again elsewhere")
