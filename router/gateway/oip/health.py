"""grpc.health.v1: Check, Watch and List, straight from what the gateway says of itself.

Names: "" and each service for the gateway as a whole, ``model/NAME`` for a model, which only those
learn of who may use it. Probes bring no credential, so none is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from router.gateway.oip.calls import Desk, server_stream, unary
from router.gateway.oip.context import Context
from router.gateway.oip.draining import Watchers
from router.identity.principal import Principal

SERVICE = "grpc.health.v1.Health"
POLL_S = 1.0
_Response = health_pb2.HealthCheckResponse
_UNKNOWN = (("x-carbon-reason", "service_unknown"),)


class HealthService:
    """``ready``: whether the gateway takes requests. ``models``: name -> whether one is served.

    Both are asked anew for every answer, and every POLL_S for every watcher.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        models: Callable[[], Mapping[str, bool]],
        services: tuple[str, ...],
        watchers: Watchers,
        desk: Desk,
    ) -> None:
        self._ready = ready
        self._models = models
        self._services = services
        self._watchers = watchers
        self._desk = desk

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service's methods."""
        check = health_pb2.HealthCheckRequest
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": unary(check, self._check, self._desk, None),
                "List": unary(health_pb2.HealthListRequest, self._list, self._desk, None),
                "Watch": server_stream(check, self._watch, self._desk, None),
            },
        )

    def _statuses(self, principal: Principal) -> dict[str, int]:
        """ServingStatus of every name that ``principal`` may know."""
        draining = self._watchers.draining
        overall = self._ready() and not draining
        serving = {name: overall for name in ("", *self._services)}
        for model, served in self._models().items():
            if not principal.may_use(model):
                continue
            serving[f"model/{model}"] = served and not draining
        return {
            name: _Response.SERVING if yes else _Response.NOT_SERVING
            for name, yes in serving.items()
        }

    async def _check(self, request: Any, context: Context, principal: Principal) -> Any:
        status = self._statuses(principal).get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service", _UNKNOWN)
        return _Response(status=status)

    async def _list(self, request: Any, context: Context, principal: Principal) -> Any:
        known = self._statuses(principal)
        statuses = {name: _Response(status=status) for name, status in known.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def _watch(self, request: Any, principal: Principal) -> AsyncIterator[Any]:
        last = None
        while last is None or not self._watchers.draining:
            # The protocol keeps the stream of an unknown name open: the name may come to be.
            known = self._statuses(principal)
            status = known.get(request.service, _Response.SERVICE_UNKNOWN)
            if status != last:
                yield _Response(status=status)
                last = status
            await self._watchers.pause(POLL_S)
        if last != _Response.NOT_SERVING:
            yield _Response(status=_Response.NOT_SERVING)
