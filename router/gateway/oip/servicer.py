"""The Open Inference Protocol service: protobuf <-> model, nothing else.

ModelInfer and ModelStreamInfer take and give bytes; no tensor is ever decoded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NoReturn

import grpc

import router
from router._pb import inference_pb2 as pb
from router.contract import Metadata
from router.director import Call, Director
from router.errors import MalformedRequestError, UnsupportedMethodError
from router.gateway import headers
from router.gateway.caller import Caller
from router.gateway.failures import Arrival
from router.gateway.holding import Holding, held
from router.gateway.oip.aborting import cancelled, refuse
from router.gateway.oip.caller import caller_of
from router.gateway.oip.calls import Desk, decode, only_message, refuse_if_cut, unary
from router.gateway.oip.context import Context
from router.gateway.oip.intake import SMALL_BYTES, IncomingCall
from router.gateway.oip.status import passable, passable_head
from router.gateway.oip.stream import StreamSession
from router.gateway.oip.tensors import prompt_of
from router.gateway.oip.trailers import with_receipt
from router.gateway.oip.wire import scan, with_model
from router.gateway.receipts import as_metadata
from router.identity.limits import used_tokens
from router.identity.narrowing import require_model
from router.identity.principal import Principal, Role
from router.model import Request

SERVICE = "inference.GRPCInferenceService"
EXTENSIONS = (
    "sequence", "model_configuration", "parameters", "statistics",
    "carbon_receipts",
)  # fmt: skip
# Answered by one endpoint that serves the model; each names it in the same two fields.
ASKED: Final = ("ModelMetadata", "ModelConfig", "ModelStatistics")
# Triton's RPCs that change a server, read its memory or set what it logs: whose server, here?
UNSUPPORTED: Final = (
    "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings",
    *(
        f"{kind}SharedMemory{verb}"
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    ),
)  # fmt: skip


class InferenceService:
    """Serves one director. ``ready``: whether the gateway takes requests now; ``models``: name ->
    whether a healthy endpoint serves it."""

    def __init__(
        self,
        director: Director,
        desk: Desk,
        ready: Callable[[], bool],
        models: Callable[[], Mapping[str, bool]],
        deadline_margin_ms: float,
        full_receipts: bool = False,
        holding: Holding | None = None,
    ) -> None:
        """``full_receipts``: to whoever does not say how, too; ``holding``: of requests that may
        wait, None where none may."""
        self._holding = holding
        self._director = director
        self._desk = desk
        self._failures = desk.failures
        self._ready = ready
        self._models = models
        self._margin_ms = deadline_margin_ms
        self._receipt = headers.FULL if full_receipts else headers.COMPACT
        self._sessions: set[StreamSession] = set()
        self._draining = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service's methods; bytes in and out where no codec is named."""
        desk, infers = self._desk, Role.INFER
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "ModelInfer": grpc.stream_unary_rpc_method_handler(self._model_infer),
                "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream_infer),
                **{method: self._proxied(method) for method in ASKED},
                **{method: self._unsupported(method) for method in UNSUPPORTED},
                "RepositoryIndex": unary(
                    pb.RepositoryIndexRequest, self._repository_index, desk, infers
                ),
                "ModelReady": unary(pb.ModelReadyRequest, self._model_ready, desk, infers),
                # For probes, which bring no credential.
                "ServerLive": unary(pb.ServerLiveRequest, self._server_live, desk, None),
                "ServerReady": unary(pb.ServerReadyRequest, self._server_ready, desk, None),
                "ServerMetadata": unary(
                    pb.ServerMetadataRequest, self._server_metadata, desk, infers
                ),
            },
        )

    def drain(self) -> None:
        """Say not ready from now on, and end every stream as soon as nothing runs on it."""
        self._draining = True
        for session in self._sessions:
            session.drain()

    async def _model_infer(self, _: object, context: Context) -> bytes:
        metadata: Metadata = context.invocation_metadata()
        began = self._desk.intake.loop.time()
        request: Request | None = None
        call: IncomingCall | None = None
        payload = b""
        try:
            call = self._desk.intake.enter(context, metadata, Role.INFER)
            metadata = call.metadata
            caller = self._caller(metadata, call.principal)
            payload = await only_message(call)
            remaining_s = context.time_remaining()
            fields = scan(payload)
            request = caller.request(fields, len(payload), remaining_s, self._margin_ms)
            prompt = prompt_of(payload, fields.prompt, caller.session)
            if call.use.is_metered:
                with self._director.admitting(request):
                    call.use.reserve(self._director.expected_tokens(request))
            deadline_s = min(caller.deadline_s, fields.deadline_s)
            patience = math.inf if remaining_s is None else remaining_s
            waited = await held(self._holding, request, deadline_s, patience)
            if waited.run_at_once is not None:
                remaining_s = context.time_remaining()
                request = caller.request(fields, len(payload), remaining_s, self._margin_ms)
                request = request._replace(run_at_once=waited.run_at_once)
            answer = await self._director.infer(
                Call(
                    request,
                    payload,
                    metadata,
                    remaining_s,
                    prompt,
                    weight=call.principal.weight,
                    named=with_model,
                )
            )
            call.use.settle(used_tokens(answer.receipt))
        except asyncio.CancelledError as gone:
            payload = b""
            await refuse_if_cut(call, context, self._failures, "ModelInfer", request)
            cancelled(self._failures, "ModelInfer", request, gone)
            raise
        except Exception as error:
            if call is not None:
                call.use.give_back()
            payload = b""  # this frame stays in memory for as long as gRPC's abort
            arrival = self._arrival(metadata, began, streamed=False)
            await refuse(context, self._failures, "ModelInfer", request, error, arrival)
        finally:
            if call is not None:
                call.leave()
        if answer.initial_metadata:
            initial_metadata = passable_head(answer.initial_metadata)
            if initial_metadata:
                await context.send_initial_metadata(tuple(initial_metadata))
        context.set_trailing_metadata(
            with_receipt(
                passable(answer.trailers),
                as_metadata(answer.receipt, caller.receipt == headers.FULL),
            )
        )
        return answer.payload

    async def _stream_infer(self, requests: object, context: Context) -> None:
        call: IncomingCall | None = None
        session: StreamSession | None = None
        intake = self._desk.intake
        metadata: Metadata = context.invocation_metadata()
        began = intake.loop.time()
        try:
            call = intake.enter(context, metadata, Role.INFER, metered=False)
            session = StreamSession(
                self._director, context, call, partial(self._caller, call.metadata),
                intake.access.limiter, self._failures, self._margin_ms, self._holding,
            )  # fmt: skip
            self._sessions.add(session)
            if self._draining:
                session.drain()
            try:
                await session.run()
            finally:
                self._sessions.discard(session)
        except asyncio.CancelledError:
            await refuse_if_cut(call, context, self._failures, "ModelStreamInfer", None)
            raise
        except Exception as error:
            # Of a stream each message is a request, but where there was none yet.
            arrival = None if session else self._arrival(metadata, began, streamed=True)
            await refuse(context, self._failures, "ModelStreamInfer", None, error, arrival)
        finally:
            if call is not None:
                call.leave()

    def _proxied(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        async def handle(_: object, context: Context) -> bytes:
            return await self._ask(method, context)

        return grpc.stream_unary_rpc_method_handler(handle)

    def _unsupported(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        async def handle(_: object, context: Context) -> NoReturn:
            text = f"{method} acts on one model server: call that server, not the gateway"
            await refuse(context, self._failures, method, None, UnsupportedMethodError(text))

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _ask(self, method: str, context: Context) -> bytes:
        metadata = context.invocation_metadata()
        request: Request | None = None
        call: IncomingCall | None = None
        try:
            call = self._desk.intake.enter(context, metadata, Role.INFER, SMALL_BYTES)
            payload = await only_message(call)
            request = _about(decode(pb.ModelReadyRequest, payload))
            require_model(call.principal, request.model)
            remaining_s = context.time_remaining()
            asked = Call(request, payload, call.metadata, remaining_s, named=with_model)
            reply = await self._director.ask(asked, method)
        except asyncio.CancelledError as gone:
            await refuse_if_cut(call, context, self._failures, method, request)
            cancelled(self._failures, method, request, gone)
            raise
        except Exception as error:
            await refuse(context, self._failures, method, request, error)
        finally:
            if call is not None:
                call.leave()
        context.set_trailing_metadata(tuple(passable(reply.trailers)))
        return reply.payload

    async def _model_ready(
        self, asked: pb.ModelReadyRequest, _: Context, principal: Principal
    ) -> pb.ModelReadyResponse:
        request = _about(asked)
        require_model(principal, request.model)
        ready = self._director.model_ready(request.model, request.version)
        return pb.ModelReadyResponse(ready=ready and not self._draining)

    async def _repository_index(
        self, asked: pb.RepositoryIndexRequest, _: Context, principal: Principal
    ) -> pb.RepositoryIndexResponse:
        index = pb.RepositoryIndexResponse.ModelIndex
        models = self._models()
        if self._draining:
            models = dict.fromkeys(models, False)
        return pb.RepositoryIndexResponse(
            models=[
                index(name=name, state="READY")
                if ready
                else index(
                    name=name, state="UNAVAILABLE", reason="no healthy endpoint serves it now"
                )
                for name, ready in models.items()
                if (ready or not asked.ready) and principal.may_use(name)
            ]
        )

    async def _server_live(
        self, _: pb.ServerLiveRequest, __: Context, ___: Principal
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(
        self, _: pb.ServerReadyRequest, __: Context, ___: Principal
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._ready() and not self._draining)

    async def _server_metadata(
        self, _: pb.ServerMetadataRequest, __: Context, ___: Principal
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name="carbon-router", version=router.__version__, extensions=EXTENSIONS
        )

    def _arrival(self, metadata: Metadata, began: float, *, streamed: bool) -> Arrival:
        after_s = self._desk.intake.loop.time() - began
        return Arrival("oip", metadata, streamed, after_s)

    def _caller(self, metadata: Metadata, principal: Principal) -> Caller:
        caller = caller_of(metadata, principal, self._regions)
        caller.receipt = caller.receipt or self._receipt
        return caller

    def _regions(self, residency: frozenset[str]) -> int:
        return self._director.view.snapshot.layout.residency_mask(residency)


def _about(asked: pb.ModelReadyRequest) -> Request:
    if not asked.name:
        raise MalformedRequestError("name is empty: say which model is meant")
    return Request(asked.name, asked.version)
