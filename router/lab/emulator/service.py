"""The Open Inference Protocol v2, answered by emulated replicas in real time.

Energy truth travels in the ORCA trailer; every answer says that it is emulated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from router._pb import inference_pb2 as pb
from router.lab.emulator import messages
from router.lab.emulator.cost import RequestCost
from router.lab.emulator.emulation import (
    GARBAGE,
    ORIGIN_HEADER,
    PUSHBACK_MS,
    VERSION,
    EmulatedModel,
    Emulation,
    Listening,
    hang,
)
from router.lab.emulator.faults import FAULT_HEADER, EmulatedFault, FaultKind, grpc_code
from router.lab.emulator.guard import KeyInterceptor, add_port
from router.lab.replay.replica import Ended

SERVICE = "inference.GRPCInferenceService"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

Context = grpc.aio.ServicerContext[Any, Any]


async def listen(emulation: Emulation, address: str) -> Listening:
    """Serve an endpoint on ``address``; raises OSError where it cannot be listened on."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            # Two endpoints on one port would share its requests in silence.
            ("grpc.so_reuseport", 0),
        ],
        interceptors=[KeyInterceptor(emulation.guard)] if emulation.guard.key else None,
    )
    server.add_generic_rpc_handlers((EmulatedService(emulation).handler(),))
    try:
        port = add_port(server, address, emulation.guard)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    await server.start()

    async def stop() -> None:
        await server.stop(None)

    return Listening(port, stop)


class EmulatedService:
    """Answers for one endpoint."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation

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

    async def _live(self, request: object, context: Context) -> bytes:
        return pb.ServerLiveResponse(live=True).SerializeToString()

    async def _ready(self, request: object, context: Context) -> bytes:
        return pb.ServerReadyResponse(ready=True).SerializeToString()

    async def _model_ready(self, request: pb.ModelReadyRequest, context: Context) -> bytes:
        ready = self._emulation.find(request.name, request.version) is not None
        return pb.ModelReadyResponse(ready=ready).SerializeToString()

    async def _server_metadata(self, request: object, context: Context) -> bytes:
        return pb.ServerMetadataResponse(
            name="carbon-router-emulator", version=VERSION, extensions=["model_configuration"]
        ).SerializeToString()

    async def _model_metadata(self, request: pb.ModelMetadataRequest, context: Context) -> bytes:
        model = await self._require(request.name, request.version, context)
        return messages.model_metadata(
            model.name, model.version, model.profile.name
        ).SerializeToString()

    async def _model_config(self, request: pb.ModelConfigRequest, context: Context) -> bytes:
        model = await self._require(request.name, request.version, context)
        return messages.model_config(model.name, model.profile.max_batch).SerializeToString()

    async def _infer(self, payload: bytes, context: Context) -> bytes:
        request = await _decode(payload, context)
        model = await self._require(request.model_name, request.model_version, context)
        fault = await self._fault(context)
        await _misbehave(fault, context)
        work, origin = messages.read_work(request), _metadata(context, ORIGIN_HEADER)
        try:
            async with self._emulation.passage(
                model, work, origin, fault, streams=False
            ) as passage:
                record = await passage.ended()
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        _report(context, [record], model)
        if fault is not None and fault.kind is FaultKind.GARBAGE:
            return GARBAGE
        text = self._emulation.text(model, record.output_tokens)
        return bytes(messages.answer(request, model.version, text).SerializeToString())

    async def _stream_infer(self, payloads: AsyncIterator[bytes], context: Context) -> None:
        """Triton semantics, one request after the other; failures are in-band."""
        fault = await self._fault(context)
        records: list[Ended] = []
        model: EmulatedModel | None = None
        begun = False
        async for payload in payloads:
            request = await _decode(payload, context)
            model = self._emulation.find(request.model_name, request.model_version)
            if model is None:
                await context.write(_in_band(request, f"unknown model: {request.model_name!r}"))
                continue
            await _misbehave(fault, context)
            if not begun:
                # As servers do that stream: the headers go out before the prompt is read.
                await context.send_initial_metadata(())
                begun = True
            try:
                await self._stream_one(model, request, context, fault, records)
            except ValueError as error:
                await context.write(_in_band(request, str(error)))
        if records and model is not None:
            _report(context, records, model)

    async def _stream_one(
        self,
        model: EmulatedModel,
        request: pb.ModelInferRequest,
        context: Context,
        fault: EmulatedFault | None,
        records: list[Ended],
    ) -> None:
        work, origin = messages.read_work(request), _metadata(context, ORIGIN_HEADER)
        chunk = _wrap(messages.answer(request, model.version, "[emulated] ", final=False))
        if fault is not None and fault.kind is FaultKind.GARBAGE:
            chunk = GARBAGE
        async with self._emulation.passage(model, work, origin, fault, streams=True) as passage:
            while not isinstance(event := await passage.next(), Ended):
                if event is None:
                    return
                await context.write(chunk)
        records.append(event)
        text = self._emulation.text(model, event.output_tokens)
        await context.write(_wrap(messages.answer(request, model.version, text, final=True)))

    async def _require(self, name: str, version: str, context: Context) -> EmulatedModel:
        model = self._emulation.find(name, version)
        if model is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"unknown model: {name!r} version {version!r}"
            )
        return model

    async def _fault(self, context: Context) -> EmulatedFault | None:
        try:
            return self._emulation.fault(_metadata(context, FAULT_HEADER))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError("unreachable: abort raises") from error


async def _misbehave(fault: EmulatedFault | None, context: Context) -> None:
    """The faults that show before any work is done."""
    if fault is None:
        return
    if fault.kind is FaultKind.HANG:
        await hang()
    if fault.kind is FaultKind.CODE:
        code = grpc_code(fault.code)
        trailers: tuple[tuple[str, str], ...] = ()
        if code == "RESOURCE_EXHAUSTED":
            trailers = (("grpc-retry-pushback-ms", str(PUSHBACK_MS)),)
        await context.abort(
            grpc.StatusCode[code], f"emulated {fault.code}", trailing_metadata=trailers
        )


def _report(context: Context, records: list[Ended], model: EmulatedModel) -> None:
    cost = RequestCost.of(records, model.profile.max_batch)
    context.set_trailing_metadata(messages.energy_trailers(cost))


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
