"""KEDA's external scaler: how many replicas the Deployment of a region should have.

A ScaledObject's metadata say of which region, and where the fleet serves several models of which
model; one replica is one unit of the metric, so that what is answered is what is meant.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

import grpc

from router._pb import externalscaler_pb2 as pb
from router.errors import ConfigError, MalformedRequestError, RequestError
from router.gateway.oip.credentials import server_credentials
from router.gateway.oip.server import ServerOptions

SERVICE: Final = "externalscaler.ExternalScaler"
# Between two looks whether there is another answer.
_LOOK_S: Final = 5.0
_MOST_TEXT: Final = 256
_MOST_PER_REPLICA: Final = 1e6
_MOST_WATCHERS: Final = 1_024
_MOST_BYTES: Final = 64 * 1024
_NO_NAME: Final = re.compile(r"[^a-z0-9-]+")


class ReplicaHints(Protocol):
    """Who knows how many are wanted."""

    def wanted(self, region: str, model: str = "", per_replica: float = math.nan) -> int:
        """Raises RequestError leaves for what is not known."""
        ...


class ScalingQuestion(NamedTuple):
    """What the metadata of a ScaledObject say; NaN where it is left to the profile."""

    region: str
    model: str
    per_replica: float

    @property
    def metric(self) -> str:
        """The metric's name, as KEDA wants it."""
        name = f"carbon-router-{self.region}-{self.model}".rstrip("-").lower()
        return _NO_NAME.sub("-", name)[:63].strip("-")


def asked_of(ref: Any) -> ScalingQuestion:
    """Of a ``ScaledObjectRef``. Raises MalformedRequestError."""
    said = ref.scalerMetadata
    region, model = said["region"], said["model"]
    if not region:
        raise MalformedRequestError("metadata.region: missing; say whose replicas these are")
    for name, text in (("region", region), ("model", model)):
        if len(text) > _MOST_TEXT:
            raise MalformedRequestError(f"metadata.{name}: longer than {_MOST_TEXT} characters")
    per_replica, text = math.nan, said["requestsPerReplica"]
    if text:
        try:
            per_replica = float(text)
        except ValueError:
            per_replica = math.nan
        if not 0.0 < per_replica <= _MOST_PER_REPLICA:
            raise MalformedRequestError(
                f"metadata.requestsPerReplica: give a number above 0 and up to "
                f"{_MOST_PER_REPLICA:.0f}"
            )
    return ScalingQuestion(region, model, per_replica)


class ScalerServer:
    """One listening server. Build it inside a running event loop."""

    def __init__(self, listen: str, options: ServerOptions, hints: ReplicaHints) -> None:
        """``options``: as of the gRPC front, whose TLS and limits hold."""
        self._listen = listen
        self._tls = options.tls
        self._hints = hints
        self._draining = asyncio.Event()
        self._watchers = 0
        small = options._replace(max_message_bytes=_MOST_BYTES)
        self._server = grpc.aio.server(options=small.as_arguments())
        self._server.add_generic_rpc_handlers((self._handlers(),))

    async def start(self) -> int:
        """Listen; returns the port. Raises ConfigError when the address cannot be had."""
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(self._listen)
            else:
                port = self._server.add_secure_port(self._listen, server_credentials(self._tls))
        except RuntimeError as error:
            problem = f"cannot listen on {self._listen}: is it taken, or not of this host?"
            raise ConfigError("", [("server.scaler", problem)]) from error
        await self._server.start()
        return port

    async def drain(self, grace_s: float) -> None:
        """End every call."""
        self._draining.set()
        await self._server.stop(min(grace_s, 1.0))

    def _handlers(self) -> grpc.GenericRpcHandler:
        def unary(answer: Callable[[Any], Any], request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                _refusing(answer),
                request_deserializer=request.FromString,
                response_serializer=_serialized,
            )

        handlers = {
            "IsActive": unary(self._is_active, pb.ScaledObjectRef),
            "GetMetricSpec": unary(self._spec, pb.ScaledObjectRef),
            "GetMetrics": unary(self._metrics, pb.GetMetricsRequest),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                self._watch,
                request_deserializer=pb.ScaledObjectRef.FromString,
                response_serializer=_serialized,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _wanted(self, asked: ScalingQuestion) -> int:
        return self._hints.wanted(asked.region, asked.model, asked.per_replica)

    def _is_active(self, ref: Any) -> Any:
        return pb.IsActiveResponse(result=self._wanted(asked_of(ref)) > 0)

    def _spec(self, ref: Any) -> Any:
        spec = pb.MetricSpec(metricName=asked_of(ref).metric, targetSize=1, targetSizeFloat=1.0)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    def _metrics(self, request: Any) -> Any:
        asked = asked_of(request.scaledObjectRef)
        wanted = self._wanted(asked)
        name = request.metricName[:_MOST_TEXT] or asked.metric
        value = pb.MetricValue(metricName=name, metricValue=wanted, metricValueFloat=float(wanted))
        return pb.GetMetricsResponse(metricValues=[value])

    async def _watch(self, ref: Any, context: Any) -> AsyncIterator[Any]:
        if self._watchers >= _MOST_WATCHERS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MOST_WATCHERS} watch already"
            )
        self._watchers += 1
        last = None
        try:
            while not self._draining.is_set():
                try:
                    active = self._is_active(ref)
                except RequestError as error:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                if active != last:
                    yield active
                    last = active
                await self._rest()
        finally:
            self._watchers -= 1

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._draining.wait()
        except TimeoutError:
            return


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _refusing(answer: Callable[[Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answered(request: Any, context: Any) -> Any:
        try:
            return answer(request)
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    return answered
