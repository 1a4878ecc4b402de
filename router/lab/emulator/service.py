"""The Open Inference Protocol v2, answered by emulated replicas in real time.

One `Machine` per served model. A request waits half its round trip, runs on the machine, waits the
other half. Energy truth travels in the ORCA trailer; every answer says that it is emulated.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from router._pb import inference_pb2 as pb
from router.lab.emulator import messages
from router.lab.emulator.faults import FAULT_HEADER, EmulatedFault, FaultKind, parse_fault
from router.lab.emulator.machine import EmulatedRequest, Machine
from router.lab.replay.lengths import LogNormal
from router.lab.replay.replica import Ended, Event
from router.model import Endpoint, Fleet, ServedModel, TaskProfile

SERVICE = "inference.GRPCInferenceService"
VERSION = "1"
ORIGIN_HEADER = "x-origin"
GARBAGE = b"\xff\xff\xff\xff emulated garbage"
PUSHBACK_MS = 200

Context = grpc.aio.ServicerContext[Any, Any]


class _Served:
    """One model on this endpoint: its machine and its length distribution."""

    def __init__(self, served: ServedModel, fleet: Fleet, loop: asyncio.AbstractEventLoop) -> None:
        self.name = served.name
        self.version = served.version or VERSION
        self.any_version = not served.version
        self.profile = served.profile
        self.machine = Machine(served.profile, loop)
        prior = fleet.priors.get(served.name)
        self.lengths = LogNormal.of(prior) if prior is not None else None

    def output_tokens(self, work: messages.Work, rng: random.Random) -> float:
        """What was asked for, else min(max_tokens, a draw from the prior)."""
        if isinstance(self.profile, TaskProfile):
            return 1.0
        if not math.isnan(work.output_tokens):
            return work.output_tokens
        if self.lengths is None:
            raise ValueError("give the parameter output_tokens: the model has no length prior")
        return float(self.lengths.draw(rng, work.max_tokens))


class EmulatedService:
    """Answers for one endpoint. ``stream_every``: tokens per streamed response.

    ``fault``: shown by every call, unless a call names its own in ``x-emulate-fault``.
    ``on_reset``: called when a reset fault wants every connection dropped.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        fleet: Fleet,
        rng: random.Random,
        on_reset: Callable[[], None],
        *,
        stream_every: int = 1,
        fault: EmulatedFault | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.endpoint = endpoint
        self._rtt_ms = {origin: row[endpoint.region] for origin, row in fleet.rtt_ms.items()}
        self._default_origin = fleet.default_origin
        self._rng = rng
        self._on_reset = on_reset
        self._stream_every = stream_every
        self.fault = fault
        self.served = {model.name: _Served(model, fleet, loop) for model in endpoint.models}

    def handler(self) -> grpc.GenericRpcHandler:
        """The service's RPCs; answers are bytes, so that garbage can be one."""

        def unary(method: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString
            )

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "ServerLive": unary(self._live, pb.ServerLiveRequest),
                "ServerReady": unary(self._ready, pb.ServerReadyRequest),
                "ModelReady": unary(self._model_ready, pb.ModelReadyRequest),
                "ServerMetadata": unary(self._server_metadata, pb.ServerMetadataRequest),
                "ModelMetadata": unary(self._model_metadata, pb.ModelMetadataRequest),
                "ModelConfig": unary(self._model_config, pb.ModelConfigRequest),
                "ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer),
                "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream_infer),
            },
        )

    def stop(self) -> None:
        """Drop everything that runs."""
        for served in self.served.values():
            served.machine.stop()

    async def _live(self, request: object, context: Context) -> bytes:
        return pb.ServerLiveResponse(live=True).SerializeToString()

    async def _ready(self, request: object, context: Context) -> bytes:
        return pb.ServerReadyResponse(ready=True).SerializeToString()

    async def _model_ready(self, request: pb.ModelReadyRequest, context: Context) -> bytes:
        ready = self._find(request.name, request.version) is not None
        return pb.ModelReadyResponse(ready=ready).SerializeToString()

    async def _server_metadata(self, request: object, context: Context) -> bytes:
        return pb.ServerMetadataResponse(
            name="carbon-router-emulator", version=VERSION, extensions=["model_configuration"]
        ).SerializeToString()

    async def _model_metadata(self, request: pb.ModelMetadataRequest, context: Context) -> bytes:
        served = await self._require(request.name, request.version, context)
        return messages.model_metadata(
            served.name, served.version, served.profile.name
        ).SerializeToString()

    async def _model_config(self, request: pb.ModelConfigRequest, context: Context) -> bytes:
        served = await self._require(request.name, request.version, context)
        return messages.model_config(served.name, served.profile.max_batch).SerializeToString()

    async def _infer(self, payload: bytes, context: Context) -> bytes:
        request = await _decode(payload, context)
        served = await self._require(request.model_name, request.model_version, context)
        fault = await self._fault(context)
        await self._misbehave(fault, context)
        half_rtt_s = self._half_rtt_s(context)
        await asyncio.sleep(half_rtt_s)
        try:
            run, _ = self._start(served, request, streams=False)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            record = await run.ended()
        finally:
            run.cancel()
        await self._until(_due(record, record.admitted_at, fault) + half_rtt_s)
        if fault is not None and fault.kind is FaultKind.RESET:
            await self._reset()
        _report(context, [record], served)
        if fault is not None and fault.kind is FaultKind.GARBAGE:
            return GARBAGE
        answer = messages.answer(request, served.version, self._text(served, record))
        return bytes(answer.SerializeToString())

    async def _stream_infer(self, payloads: AsyncIterator[bytes], context: Context) -> None:
        """Triton semantics, one request after the other; failures are in-band."""
        fault = await self._fault(context)
        records: list[Ended] = []
        served: _Served | None = None
        async for payload in payloads:
            request = await _decode(payload, context)
            served = self._find(request.model_name, request.model_version)
            if served is None:
                await context.write(_in_band(request, f"unknown model: {request.model_name!r}"))
                continue
            await self._misbehave(fault, context)
            try:
                await self._stream_one(served, request, context, fault, records)
            except ValueError as error:
                await context.write(_in_band(request, str(error)))
        if records and served is not None:
            _report(context, records, served)

    async def _stream_one(
        self,
        served: _Served,
        request: pb.ModelInferRequest,
        context: Context,
        fault: EmulatedFault | None,
        records: list[Ended],
    ) -> None:
        half_rtt_s = self._half_rtt_s(context)
        await asyncio.sleep(half_rtt_s)
        chunk = _wrap(messages.answer(request, served.version, "[emulated] ", final=False))
        if fault is not None and fault.kind is FaultKind.GARBAGE:
            chunk = GARBAGE
        cut = fault is not None and fault.kind in (FaultKind.HALF, FaultKind.RESET)
        run, output_tokens = self._start(served, request, streams=True)
        admitted_at = served.machine.replica.now
        try:
            while not isinstance(event := await run.next(), Ended):
                if cut and event.made > output_tokens / 2.0:
                    break
                await self._until(_due(event, admitted_at, fault) + half_rtt_s)
                await context.write(chunk)
        finally:
            run.cancel()
        if cut:
            if fault is not None and fault.kind is FaultKind.RESET:
                await self._reset()
            return
        assert isinstance(event, Ended)
        records.append(event)
        await self._until(_due(event, admitted_at, fault) + half_rtt_s)
        text = self._text(served, event)
        await context.write(_wrap(messages.answer(request, served.version, text, final=True)))

    def _start(
        self, served: _Served, request: pb.ModelInferRequest, *, streams: bool
    ) -> tuple[EmulatedRequest, float]:
        """Run the request; ValueError where its token counts are unusable."""
        work = messages.read_work(request)
        output_tokens = served.output_tokens(work, self._rng)
        stream_every = 0
        if streams:
            given = work.stream_every
            stream_every = self._stream_every if math.isnan(given) else int(min(given, 1e6))
            if stream_every < 1:
                raise ValueError(f"stream_every must be at least 1 token, got {given:g}")
        return served.machine.submit(work.input_tokens, output_tokens, stream_every), output_tokens

    def _find(self, name: str, version: str) -> _Served | None:
        served = self.served.get(name)
        if served is None or (version not in ("", served.version) and not served.any_version):
            return None
        return served

    async def _require(self, name: str, version: str, context: Context) -> _Served:
        served = self._find(name, version)
        if served is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"unknown model: {name!r} version {version!r}"
            )
        return served

    async def _fault(self, context: Context) -> EmulatedFault | None:
        text = _metadata(context, FAULT_HEADER)
        if text is None:
            return self.fault
        try:
            fault = parse_fault(text)
            if fault.kind is FaultKind.CODE and fault.code not in grpc.StatusCode.__members__:
                raise ValueError(f"fault {text!r}: no gRPC status has this name")
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return fault

    async def _misbehave(self, fault: EmulatedFault | None, context: Context) -> None:
        """The faults that show before any work is done."""
        if fault is None:
            return
        if fault.kind is FaultKind.HANG:
            await asyncio.Event().wait()
        if fault.kind is FaultKind.CODE:
            trailers: tuple[tuple[str, str], ...] = ()
            if fault.code == "RESOURCE_EXHAUSTED":
                trailers = (("grpc-retry-pushback-ms", str(PUSHBACK_MS)),)
            await context.abort(
                grpc.StatusCode[fault.code], f"emulated {fault.code}", trailing_metadata=trailers
            )

    async def _reset(self) -> NoReturn:
        """Have every connection dropped; this call goes down with its own."""
        self._on_reset()
        await asyncio.Event().wait()
        raise AssertionError("unreachable: nobody sets the event")

    def _half_rtt_s(self, context: Context) -> float:
        origin = _metadata(context, ORIGIN_HEADER)
        rtt_ms = self._rtt_ms.get(origin or self._default_origin)
        if rtt_ms is None:
            rtt_ms = self._rtt_ms.get(self._default_origin, 0.0)
        return rtt_ms / 2e3

    async def _until(self, when: float) -> None:
        """Sleep up to a time of the loop's clock."""
        delay_s = when - asyncio.get_running_loop().time()
        if delay_s > 0.0:
            await asyncio.sleep(delay_s)

    def _text(self, served: _Served, record: Ended) -> str:
        profile = served.profile.name
        return f"[emulated by {self.endpoint.name}: {record.output_tokens:g} units of {profile}]"


def _due(event: Event, admitted_at: float, fault: EmulatedFault | None) -> float:
    """When an event shows, loop seconds: later by the factor of a slow fault."""
    if fault is None or fault.kind is not FaultKind.SLOW:
        return event.at
    return admitted_at + (event.at - admitted_at) * fault.factor


def _report(context: Context, records: list[Ended], served: _Served) -> None:
    context.set_trailing_metadata(messages.energy_trailers(records, served.profile.max_batch))


async def _decode(payload: bytes, context: Context) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(payload)
    except DecodeError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a ModelInferRequest: {error}")
        raise AssertionError("unreachable: abort raises") from error


def _metadata(context: Context, key: str) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return None


def _wrap(response: pb.ModelInferResponse) -> bytes:
    return bytes(pb.ModelStreamInferResponse(infer_response=response).SerializeToString())


def _in_band(request: pb.ModelInferRequest, message: str) -> bytes:
    response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    wrapped = pb.ModelStreamInferResponse(error_message=message, infer_response=response)
    return bytes(wrapped.SerializeToString())
