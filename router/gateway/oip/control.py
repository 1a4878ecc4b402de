"""carbonrouter.v1: the router's view of itself, as protobuf."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

import grpc

from router._pb import router_pb2 as pb
from router.core.explanation import Explanation
from router.director import Prompt
from router.errors import GatewayFullError, NothingFeasibleError
from router.gateway.oip import control_messages as messages
from router.gateway.oip.calls import Desk, server_stream, unary
from router.gateway.oip.context import Context
from router.gateway.oip.draining import Watchers
from router.identity.narrowing import held
from router.identity.principal import Principal, Role
from router.model import Decision, Fleet, Request
from router.telemetry.view import FleetView

SERVICE = "carbonrouter.v1.CarbonRouter"
POLL_S = 0.5
Decided = TypeVar("Decided", pb.DecideResponse, pb.ExplainResponse)
# Each is asked for and encodes the whole view.
MAX_WATCHING = 256


class Control(Protocol):
    """What the control API needs of the gateway; every answer must be quick."""

    def decide(self, request: Request, prompt: Prompt) -> Decision:
        """Raises RequestError and RefusedError leaves."""
        ...

    def explain(self, request: Request, prompt: Prompt) -> Explanation:
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

    def regions(self, residency: frozenset[str]) -> int:
        """Bits of the regions that lie in one of these jurisdictions."""
        ...


class ControlService:
    """Serves one ``Control``. ``show_addresses``: whether callers learn those of endpoints."""

    def __init__(
        self, control: Control, desk: Desk, watchers: Watchers, show_addresses: bool = False
    ) -> None:
        self._control = control
        self._desk = desk
        self._watchers = watchers
        self._show_addresses = show_addresses
        self._watching = 0

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service's methods."""
        desk, needs = self._desk, Role.CONTROL
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Decide": unary(pb.DecideRequest, self._decide, desk, needs),
                "Explain": unary(pb.ExplainRequest, self._explain, desk, needs),
                "ListEndpoints": unary(pb.ListEndpointsRequest, self._list_endpoints, desk, needs),
                "WatchRegions": server_stream(
                    pb.WatchRegionsRequest, self._watch_regions, desk, needs
                ),
            },
        )

    async def _decide(
        self, message: pb.DecideRequest, _: Context, principal: Principal
    ) -> pb.DecideResponse:
        asked = message.request
        request = held(principal, messages.read_request(asked), self._control.regions)
        decision = self._control.decide(request, messages.read_prompt(asked))
        now = self._require_view().now
        return self._told(pb.DecideResponse(decision=messages.decision_message(decision, now)))

    async def _explain(
        self, message: pb.ExplainRequest, _: Context, principal: Principal
    ) -> pb.ExplainResponse:
        asked = message.request
        request = held(principal, messages.read_request(asked), self._control.regions)
        explanation = self._control.explain(request, messages.read_prompt(asked))
        return self._told(messages.explanation_message(explanation))

    async def _list_endpoints(
        self, message: pb.ListEndpointsRequest, _: Context, __: Principal
    ) -> pb.ListEndpointsResponse:
        fleet = self._control.fleet()
        known = {endpoint.name: endpoint for endpoint in fleet.endpoints}
        found = [
            messages.endpoint_message(view, known[view.name], fleet)
            for view in self._require_view().endpoints
            if view.name in known
            and message.region in ("", view.region)
            and (not message.model or message.model in view.models)
        ]
        if not self._show_addresses:
            for endpoint in found:
                endpoint.ClearField("address")
        return pb.ListEndpointsResponse(endpoints=found)

    async def _watch_regions(
        self, _: pb.WatchRegionsRequest, __: Principal
    ) -> AsyncIterator[pb.WatchRegionsResponse]:
        if self._watching >= MAX_WATCHING:
            raise GatewayFullError(f"{MAX_WATCHING} clients watch regions already", 60.0)
        self._watching += 1
        try:
            version = None
            while not self._watchers.draining:
                if self._control.version() != version:
                    view = self._control.view()
                    if view is not None:
                        version = self._control.version()
                        yield messages.regions_message(view, self._control.fleet())
                await self._watchers.pause(POLL_S)
        finally:
            self._watching -= 1

    def _told(self, answer: Decided) -> Decided:
        if not self._show_addresses and answer.HasField("decision"):
            answer.decision.ClearField("address")
        return answer

    def _require_view(self) -> FleetView:
        view = self._control.view()
        if view is None:
            raise NothingFeasibleError("carbon and load were not read yet", 1.0)
        return view
