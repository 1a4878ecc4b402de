"""Callers: real gRPC requests, open loop, each at its own time whatever came before."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import grpc
import grpc.aio

from router._pb import inference_pb2 as pb
from router.lab.emulator.work import BYTES_PER_TOKEN
from router.lab.replay.records import Record, meets
from router.lab.replay.timed import TimedRequest
from router.model import UNLIMITED

_TEXT = b"Why does the same question emit differently in California and in West Virginia? "
_MAX_REASON = 60
_REASON = "x-carbon-reason"
_SERVICE = "/inference.GRPCInferenceService"
_METHOD_UNARY = f"{_SERVICE}/ModelInfer"
METHOD_STREAM = f"{_SERVICE}/ModelStreamInfer"

Metadata = tuple[tuple[str, str], ...]


class CallOptions(NamedTuple):
    """How callers call. ``deadline_s``: gRPC deadline, which is a latency budget too; None: none.
    ``stream_every``: tokens per streamed response.
    """

    deadline_s: float | None
    stream_every: int


class CallerCounts:
    """What came of the requests so far. Joules and grams in ``records`` are the receipts'."""

    def __init__(self) -> None:
        self.sent = 0
        self.in_flight = 0
        self.records: list[Record] = []
        self.refused: Counter[str] = Counter()


class Callers:
    """Sends timed requests to a gateway. ``target``: ``host:port``."""

    def __init__(self, target: str, options: CallOptions) -> None:
        self._target = target
        self._options = options
        self._calls: dict[str, tuple[Any, Any]] = {}
        self._loop = asyncio.get_running_loop()
        self.counts = CallerCounts()

    async def drive(self, requests: Sequence[TimedRequest], start: float) -> None:
        """Send each request at ``start + at_s`` (loop seconds); ends when all are answered."""
        async with AsyncExitStack() as stack:
            for origin in sorted({timed.request.origin for timed in requests}):
                # Channels of equal arguments share one connection; callers do not.
                arguments = [("grpc.primary_user_agent", f"caller-{origin}")]
                channel = grpc.aio.insecure_channel(self._target, arguments)
                await stack.enter_async_context(channel)
                self._calls[origin] = (
                    channel.unary_unary(_METHOD_UNARY),
                    channel.stream_stream(METHOD_STREAM),
                )
            async with asyncio.TaskGroup() as tasks:
                for serial, timed in enumerate(requests):
                    delay_s = start + timed.at_s - self._loop.time()
                    if delay_s > 0.0:
                        await asyncio.sleep(delay_s)
                    self.counts.sent += 1
                    tasks.create_task(self._one(serial, timed))

    async def _one(self, serial: int, timed: TimedRequest) -> None:
        counts, timeout = self.counts, self._options.deadline_s
        unary, stream = self._calls[timed.request.origin]
        payload = payload_of(timed, self._options.stream_every)
        metadata = metadata_of(timed)
        counts.in_flight += 1
        began = self._loop.time()
        try:
            if timed.streamed:
                call = stream(iter((payload,)), metadata=metadata, timeout=timeout)
                first = await first_token_at(call, self._loop)
            else:
                call = unary(payload, metadata=metadata, timeout=timeout)
                await call
                first = math.nan
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            counts.refused[str(trailers.get(_REASON, error.code().name))] += 1
            return
        except StreamFailedError as error:
            counts.refused[str(error)] += 1
            return
        finally:
            counts.in_flight -= 1
        ended = self._loop.time()
        trailers = dict(await call.trailing_metadata())
        ttft_ms, e2e_ms = (first - began) * 1e3, (ended - began) * 1e3
        counts.records.append(_record(serial, timed, trailers, ttft_ms, e2e_ms))


def _record(
    serial: int, timed: TimedRequest, trailers: Mapping[str, Any], ttft_ms: float, e2e_ms: float
) -> Record:
    return Record(
        serial,
        timed.label,
        timed.request.origin,
        str(trailers.get("x-carbon-region", "?")),
        str(trailers.get("x-carbon-endpoint", "?")),
        timed.at_s,
        ttft_ms,
        e2e_ms,
        float(timed.output_tokens),
        _figure(trailers, "x-carbon-energy-j"),
        _figure(trailers, "x-carbon-marginal-energy-j"),
        _figure(trailers, "x-carbon-gco2e"),
        meets(timed.request.budget, ttft_ms, e2e_ms, timed.output_tokens),
    )


class StreamFailedError(Exception):
    """The stream reported a failure in a message, or ended without one; the text is the reason."""


async def first_token_at(call: Any, loop: asyncio.AbstractEventLoop) -> float:
    """Read a stream to its end; loop seconds of its first message."""
    first = last = b""
    first_at = math.nan
    while (message := await call.read()) is not grpc.aio.EOF:
        if not first:
            first, first_at = message, loop.time()
        last = message
    if not first:
        raise StreamFailedError("empty_stream")
    answer = pb.ModelStreamInferResponse.FromString(last)
    if answer.error_message:
        # A server's own words, where there is no gateway between, are of any length.
        stated = answer.infer_response.parameters
        reason = stated[_REASON].string_param if _REASON in stated else answer.error_message
        raise StreamFailedError(reason[:_MAX_REASON])
    return first_at


def payload_of(timed: TimedRequest, stream_every: int) -> bytes:
    """The request as bytes, its prompt as long as its tokens.

    ``output_tokens`` is for the emulated server; no router reads it.
    """
    request = timed.request
    message = pb.ModelInferRequest(
        model_name=request.model, model_version=request.version, id=request.request_id
    )
    if request.max_output_tokens < UNLIMITED:
        message.parameters["max_tokens"].int64_param = int(request.max_output_tokens)
    message.parameters["input_tokens"].int64_param = int(request.input_tokens)
    message.parameters["output_tokens"].int64_param = timed.output_tokens
    if timed.streamed:
        message.parameters["stream_every"].int64_param = stream_every
    message.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    size = max(1, int(BYTES_PER_TOKEN * request.input_tokens))
    prompt = (_TEXT * (size // len(_TEXT) + 1))[:size]
    message.raw_input_contents.append(size.to_bytes(4, "little") + prompt)
    return bytes(message.SerializeToString())


def metadata_of(timed: TimedRequest) -> Metadata:
    """The routing headers of a request."""
    request = timed.request
    budget = request.budget
    limits = (
        ("x-ttft-budget-ms", budget.ttft_ms),
        ("x-tpot-budget-ms", budget.tpot_ms),
        ("x-latency-budget-ms", budget.e2e_ms),
    )
    # The marginal joules are in no shorter one.
    given = [("x-origin", request.origin), ("x-carbon-receipt", "full")]
    if request.tenant:
        given.append(("x-tenant", request.tenant))
    if request.residency:
        given.append(("x-residency", ",".join(sorted(request.residency))))
    given += [(key, f"{limit:.9g}") for key, limit in limits if limit < UNLIMITED]
    return tuple(given)


def _figure(trailers: Mapping[str, Any], key: str) -> float:
    try:
        return float(trailers[key])
    except (KeyError, ValueError):
        return math.nan
