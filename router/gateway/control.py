"""carbonrouter.v1: the router's view of itself, as protobuf."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc

from router._pb import router_pb2 as pb
from router.core.explanation import Explanation
from router.errors import NothingFeasibleError
from router.gateway import control_messages as messages
from router.gateway.draining import Watchers
from router.gateway.ports import Context
from router.gateway.refusal import Failures, refuse
from router.model import Decision, Fleet, Request
from router.telemetry.view import FleetView

SERVICE = "carbonrouter.v1.CarbonRouter"
POLL_S = 0.5


class Control(Protocol):
    """What the control API needs of the gateway; every answer must be quick."""

    def decide(self, request: Request) -> Decision:
        """Raises RequestError and RefusedError leaves."""
        ...

    def explain(self, request: Request) -> Explanation:
        """Raises RequestError leaves."""
        ...

    def fleet(self) -> Fleet:
        """The fleet in force."""
        ...

    def view(self) -> FleetView | None:
        """What is known now; None before the first snapshot."""
        ...

    def version(self) -> int:
        """The snapshot's version; it changes when ``view`` has something new to say."""
        ...


class ControlService:
    """Serves one ``Control``."""

    def __init__(self, control: Control, failures: Failures, watchers: Watchers) -> None:
        self._control = control
        self._failures = failures
        self._watchers = watchers

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service's methods."""

        def unary(method: Any, request: Any) -> grpc.RpcMethodHandler[Any, Any]:
            return grpc.unary_unary_rpc_method_handler(method, request.FromString, _serialize)

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Decide": unary(self._decide, pb.DecideRequest),
                "Explain": unary(self._explain, pb.ExplainRequest),
                "ListEndpoints": unary(self._list_endpoints, pb.ListEndpointsRequest),
                "WatchRegions": grpc.unary_stream_rpc_method_handler(
                    self._watch_regions, pb.WatchRegionsRequest.FromString, _serialize
                ),
            },
        )

    async def _decide(self, message: pb.DecideRequest, context: Context) -> pb.DecideResponse:
        request: Request | None = None
        try:
            request = messages.read_request(message.request)
            decision = self._control.decide(request)
            return pb.DecideResponse(
                decision=messages.decision_message(decision, self._require_view().now)
            )
        except Exception as error:
            await refuse(context, self._failures, "Decide", request, error)

    async def _explain(self, message: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        request: Request | None = None
        try:
            request = messages.read_request(message.request)
            return messages.explanation_message(self._control.explain(request))
        except Exception as error:
            await refuse(context, self._failures, "Explain", request, error)

    async def _list_endpoints(
        self, message: pb.ListEndpointsRequest, context: Context
    ) -> pb.ListEndpointsResponse:
        try:
            fleet = self._control.fleet()
            known = {endpoint.name: endpoint for endpoint in fleet.endpoints}
            return pb.ListEndpointsResponse(
                endpoints=[
                    messages.endpoint_message(view, known[view.name], fleet)
                    for view in self._require_view().endpoints
                    if view.name in known
                    and message.region in ("", view.region)
                    and (not message.model or message.model in view.models)
                ]
            )
        except Exception as error:
            await refuse(context, self._failures, "ListEndpoints", None, error)

    async def _watch_regions(
        self, message: pb.WatchRegionsRequest, context: Context
    ) -> AsyncIterator[pb.WatchRegionsResponse]:
        version = None
        while not self._watchers.draining:
            view = self._control.view()
            if view is not None and self._control.version() != version:
                version = self._control.version()
                yield messages.regions_message(view, self._control.fleet())
            await self._watchers.pause(POLL_S)

    def _require_view(self) -> FleetView:
        view = self._control.view()
        if view is None:
            raise NothingFeasibleError("carbon and load were not read yet", 1.0)
        return view


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
