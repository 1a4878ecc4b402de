"""The endpoint picker's gRPC server: a proxy asks it where each of its requests goes.

Every stream is one HTTP request, which the proxy carries: ``envoy.service.ext_proc.v3`` in the
manner of the Gateway API Inference Extension. Health is told in the words of that protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from router._pb import ext_proc_pb2 as pb
from router.errors import ConfigError
from router.gateway.failures import let_go
from router.gateway.oip.credentials import server_credentials
from router.gateway.oip.server import ServerOptions
from router.gateway.picker.addresses import FleetAddresses
from router.gateway.picker.picking import PickerLimits, PickerParts, Picking
from router.gateway.picker.talk import OutOfTurnError
from router.gateway.picker.wire import SERVICE

_HEALTH: Final = "grpc.health.v1.Health"
_LIVENESS: Final = "liveness"
# Ready, by any of these names.
_READINESS: Final = frozenset(("", "readiness", SERVICE))


class GrpcTalk:
    """A stream of the server, as `talk.Talk`."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.peer: str = context.peer()

    async def next(self) -> Any:
        """See `talk.Talk`."""
        payload = await self._context.read()
        if payload is grpc.aio.EOF:
            return None
        try:
            return pb.ProcessingRequest.FromString(payload)
        except DecodeError:
            raise OutOfTurnError("a message is no ProcessingRequest") from None

    async def say(self, response: Any) -> None:
        """See `talk.Talk`."""
        await self._context.write(response.SerializeToString())


class PickerOptions(NamedTuple):
    """``server``: as of the gRPC front, whose limits hold; ``listen``: of this one."""

    listen: str
    server: ServerOptions


class PickerServer:
    """One listening server. Build it inside a running event loop."""

    def __init__(
        self, options: PickerOptions, parts: PickerParts, ready: Callable[[], bool]
    ) -> None:
        """``ready``: whether requests are taken now."""
        self._options = options
        self._parts = parts
        self._ready = ready
        limits = options.server
        self._limits = PickerLimits(limits.max_message_bytes, limits.max_metadata_bytes)
        self._draining = False
        self._layout: object = None
        self._addresses = FleetAddresses(parts.director.view.snapshot.layout.fleet)
        arguments = limits.as_arguments()
        self._server = grpc.aio.server(options=arguments)
        self._server.add_generic_rpc_handlers((self._picking(), self._health()))

    async def start(self) -> int:
        """Listen; returns the port. Raises ConfigError when the address cannot be had."""
        listen, tls = self._options.listen, self._options.server.tls
        try:
            if tls is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, server_credentials(tls))
        except RuntimeError as error:
            problem = f"cannot listen on {listen}: is it taken, or not of this host?"
            raise ConfigError("", [("server.picker", problem)]) from error
        await self._server.start()
        return port

    async def drain(self, grace_s: float) -> None:
        """Pick for no new requests, see the end of those under way, cut them after ``grace_s``."""
        self._draining = True
        await self._server.stop(grace_s)

    def _picking(self) -> grpc.GenericRpcHandler:
        handler: Any = grpc.stream_stream_rpc_method_handler(self._process)
        return grpc.method_handlers_generic_handler(SERVICE, {"Process": handler})

    def _health(self) -> grpc.GenericRpcHandler:
        handler = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(_HEALTH, {"Check": handler})

    async def _process(self, _: Any, context: Any) -> None:
        picking = Picking(self._parts, self._limits, self._known(), GrpcTalk(context))
        try:
            await picking.run()
        except asyncio.CancelledError:
            raise
        except OutOfTurnError as error:
            let_go(error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception as error:
            picking.broke(error)
            let_go(error)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")

    def _known(self) -> FleetAddresses:
        layout = self._parts.director.view.snapshot.layout
        if layout is not self._layout:
            self._layout, self._addresses = layout, FleetAddresses(layout.fleet)
        return self._addresses

    async def _check(self, request: Any, context: Any) -> Any:
        response = health_pb2.HealthCheckResponse
        serves = self._ready() and not self._draining
        if request.service == _LIVENESS:
            serves = True
        elif request.service not in _READINESS:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return response(status=response.SERVING if serves else response.NOT_SERVING)
