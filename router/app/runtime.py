"""The running gateway's state: the configuration in force and the view decisions are taken on.

Everything changes here by replacement: a refresh swaps the snapshot, a reload swaps configuration,
board and snapshot together; requests under way keep what they started with.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from router.app.carbon.build import configured_carbon, grid_zones
from router.app.carbon.chains import CarbonChains
from router.app.carbon.live import ProviderDeps
from router.app.compose import build_board, build_limits, build_view
from router.app.endpoint_loads import EndpointLoads
from router.app.loading import load
from router.app.restart import as_started, needs_restart
from router.app.stated_models import StatedModels
from router.app.trust import PreparedTrust, Trust
from router.config.calibrated import Calibrated, with_calibrated
from router.config.found import LeftOut, merge
from router.config.settings import Config
from router.contract import Clock
from router.core.board import Board
from router.core.emitted import g_per_output
from router.core.layout import Layout
from router.director import Dispatcher, View
from router.errors import ConfigError
from router.model import Endpoint, FoundEndpoint, ServedModel, TokenProfile
from router.peers.gateways import GatewayLoads
from router.peers.loads import PeerLoads
from router.telemetry.admin import Liveness, Readiness, Reason, assess
from router.telemetry.view import EndpointView, FleetView, RegionView, ServedView

# A snapshot of what answered by then; the rest follows with the next refresh.
_FIRST_REFRESH_S = 10.0

_log = logging.getLogger(__name__)


class Runtime:
    """Owns the view. ``dispatcher`` is attached once, after the first `refresh`."""

    def __init__(self, config: Config, clock: Clock, deps: ProviderDeps | None = None) -> None:
        """``deps``: what live carbon providers need. Raises ConfigError and TraceError for what
        the configuration names.
        """
        self.config = config
        self.clock = clock
        self._deps = deps
        self.dispatcher: Dispatcher | None = None
        self.dead_tasks: set[str] = set()
        # Why the file was refused at the last reload, "" when it was not.
        self.reload_refused = ""
        # What is known of this gateway's other processes, and of what this one lacks.
        self.processes: Callable[[], Liveness] = _alive
        self.peers: PeerLoads | None = None
        # Certificates and keys; attached once, where something serves.
        self.trust: Trust | None = None
        self.gateways: GatewayLoads | None = None
        # Who else has something to say of readiness.
        self.notes: list[Callable[[], Sequence[Reason]]] = []
        # Set when a refresh is worth the while before its time.
        self.carbon_due = asyncio.Event()
        # What a file asks for that this process could not do is refused.
        self.require: Callable[[Config], None] = _do_all
        self._started = config
        # As the file has it: without what discovery found.
        self._base = config
        # With that, and without what was calibrated meanwhile.
        self.configured = config
        self._calibrated: Sequence[Calibrated] = ()
        # By place of discovery what it told last; of that, what does not steer.
        self.found: dict[str, Sequence[FoundEndpoint]] = {}
        self.left_out: tuple[LeftOut, ...] = ()
        self._changing = asyncio.Lock()
        self._version = 0
        self._built_at = -math.inf
        self._carbon = self._build_carbon(config, None)
        # What servers say of their models.
        self.stated = StatedModels()
        self._stated_version = self.stated.version
        self._layout = Layout(config.fleet)
        self._board = build_board(config, self._layout)
        self.loads = EndpointLoads(clock)
        self.loads.adopt(config, self._board)

    @property
    def board(self) -> Board:
        """The live board in force."""
        return self._board

    @property
    def carbon(self) -> CarbonChains:
        """The carbon chain in force."""
        return self._carbon

    async def refresh(self, within_s: float | None = None) -> View:
        """Refresh carbon data, for ``within_s`` at most, and swap the snapshot."""
        config, carbon = self.config, self._carbon
        layout, board = self._layout, self._board
        await self._refresh_carbon(carbon, config, within_s)
        while True:
            if self.config is config:
                layout = self._layout
            view = await self._build_view(config, layout, board, carbon)
            # A reload may have come in between; then its own view, of the new fleet, is in force.
            if self.config is not config:
                return view
            # So may what a server said: then once more.
            if self._layout is layout:
                self._install(view)
                return view

    async def restate(self) -> None:
        """Put in force what servers said of their models since the last time."""
        config, version = self.config, self.stated.version
        layout = await asyncio.to_thread(Layout, config.fleet, self.stated.contexts(config.fleet))
        view = await self._build_view(config, layout, self._board, self._carbon)
        if self.config is config:
            self._layout, self._stated_version = layout, version
            self._install(view)

    @property
    def is_restated(self) -> bool:
        """Whether decisions are taken by all that servers said of their models."""
        return self._stated_version == self.stated.version

    async def _build_view(
        self, config: Config, layout: Layout, board: Board, carbon: CarbonChains
    ) -> View:
        self._version += 1
        # Hundreds of grid zones or thousands of endpoints take a while: requests go on meanwhile.
        return await asyncio.to_thread(
            build_view, config, layout, board, carbon.chain, self.clock.now(), self._version,
            carbon.marginal,
        )  # fmt: skip

    async def start(self) -> View:
        """The first snapshot: providers that hang do not keep the gateway from serving."""
        return await self.refresh(_FIRST_REFRESH_S)

    async def close(self) -> None:
        """Give up what is shared with other gateways."""
        await self._carbon.close()

    async def reload(self, path: Path) -> tuple[str, ...]:
        """Put a changed file in force; notes what needs a restart.

        Raises ConfigError or TraceError and changes nothing when the new file is wrong.
        """
        # A large fleet takes a second to check: requests go on meanwhile.
        base = await asyncio.to_thread(load, path)
        if base.settings.clock != self._started.settings.clock:
            raise ConfigError(str(path), [("clock", "cannot change in a reload: restart")])
        ignored = needs_restart(base, self._started)
        base = as_started(base, self._started)
        self.require(base)
        async with self._changing:
            merged = await asyncio.to_thread(merge, base, dict(self.found))
            config = with_calibrated(merged.config, self._calibrated)
            trusted = await self._trusted(config)
            carbon = await asyncio.to_thread(self._build_carbon, base, self._carbon)
            await self._refresh_carbon(carbon, base, _FIRST_REFRESH_S)
            in_force = await self._prepare(config, carbon, trusted)
            # From here on nothing awaits or fails: requests see all of the change or none of it.
            self._base, self.left_out = base, merged.left_out
            self.configured = merged.config
            replaced, self._carbon = self._carbon, carbon
            in_force()
            if self.dispatcher is not None:
                retry = base.settings.retry
                self.dispatcher.limits = build_limits(base.settings)
                self.dispatcher.parts.budget.adopt(retry.budget_ratio, retry.budget_reserve)
                self.dispatcher.parts.lengths.adopt(base.fleet.priors, base.policy.quantile)
        await replaced.close(stays=carbon)
        return ignored

    async def adopt_found(self) -> bool:
        """Put in force what discovery has found by now; whether that is another fleet.

        Raises ConfigError, and changes nothing, where what endpoints are reached with is gone.
        """
        async with self._changing:
            merged = await asyncio.to_thread(merge, self._base, dict(self.found))
            self.left_out = merged.left_out
            return await self._adopt(merged.config, self._calibrated)

    async def adopt_calibrated(self, found: Sequence[Calibrated]) -> bool:
        """Put in force profiles that were calibrated, those from now on; whether that is another
        fleet. Raises as `adopt_found`."""
        async with self._changing:
            return await self._adopt(self.configured, found)

    async def _adopt(self, configured: Config, calibrated: Sequence[Calibrated]) -> bool:
        """While nothing else changes."""
        config = with_calibrated(configured, calibrated)
        if config.fleet.endpoints == self.config.fleet.endpoints:
            self.configured, self._calibrated = configured, calibrated
            return False
        trusted = await self._trusted(config)
        in_force = await self._prepare(config, self._carbon, trusted)
        self.configured, self._calibrated = configured, calibrated
        in_force()
        return True

    async def _trusted(self, config: Config) -> PreparedTrust | None:
        trust = self.trust
        return await asyncio.to_thread(trust.prepare, config) if trust is not None else None

    async def _prepare(
        self, config: Config, carbon: CarbonChains, trusted: PreparedTrust | None
    ) -> Callable[[], None]:
        """All that ``config`` takes; what comes back puts it in force."""
        stated_version = self.stated.version
        layout = await asyncio.to_thread(Layout, config.fleet, self.stated.contexts(config.fleet))
        view = await self._build_view(config, layout, self._board, carbon)

        def in_force() -> None:
            self.config = config
            if self.trust is not None and trusted is not None:
                self.trust.adopt(trusted)
            self._layout, self._stated_version = layout, stated_version
            self.stated.adopt(config.fleet)
            self._board = build_board(config, layout, self._board)
            if self.peers is not None:
                self.peers.adopt(self._board)
            if self.gateways is not None:
                self.gateways.adopt(self._board)
            self.loads.adopt(config, self._board)
            self._install(view._replace(board=self._board))

        return in_force

    def models_ready(self) -> dict[str, bool]:
        """Model name -> whether a healthy endpoint serves it."""
        dispatcher = self.dispatcher
        return {
            name: dispatcher is not None and dispatcher.model_ready(name, "")
            for name in sorted(self.config.fleet.priors)
        }

    def readiness(self) -> Readiness:
        """Whether requests are taken now, and why not."""
        dispatcher = self.dispatcher
        draining = dispatcher is not None and dispatcher.draining
        # A gateway that drains serves no model; that says nothing about the endpoints.
        served = {} if draining else self.models_ready()
        return assess(
            draining=draining,
            has_snapshot=dispatcher is not None,
            dead_tasks=sorted(self.dead_tasks),
            models=list(served),
            models_without_endpoint=[name for name, ready in served.items() if not ready],
            reload_refused=self.reload_refused,
            notes=(
                *self.processes().notes,
                *(note for notes in self.notes for note in notes()),
            ),
        )

    def liveness(self) -> Liveness:
        """Whether the processes of this gateway live, as far as this one knows."""
        return self.processes()

    def fleet(self) -> FleetView | None:
        """The fleet as this process sees it; None before the first snapshot."""
        if self.dispatcher is None:
            return None
        self.dispatcher.digest()
        snapshot = self.dispatcher.view.snapshot
        now = self.clock.now()
        return FleetView(
            now=now,
            policy=snapshot.policy.name,
            snapshot_version=snapshot.version,
            snapshot_age_s=self.clock.monotonic() - self._built_at,
            regions=tuple(
                RegionView(r.name, r.grid_zone, r.pue, snapshot.intensity(r.name, now))
                for r in self.config.fleet.regions.values()
            ),
            endpoints=tuple(self._endpoint_views()),
        )

    def _endpoint_views(self) -> list[EndpointView]:
        views = []
        for endpoint in self.config.fleet.endpoints:
            seat = self._board.seats[endpoint.name]
            reading, age_s = self.loads.shown(endpoint.name)
            views.append(
                EndpointView(
                    name=endpoint.name,
                    region=endpoint.region,
                    address=endpoint.address,
                    models=tuple(served.name for served in endpoint.models),
                    state=seat.state,
                    in_flight=seat.in_flight,
                    load=reading.load if reading else None,
                    load_age_s=age_s,
                    emulated=endpoint.emulated,
                    cause=seat.cause,
                    load_source=reading.way if reading else "",
                    served=tuple(self._served_view(endpoint, one) for one in endpoint.models),
                    max_in_flight=float(endpoint.max_in_flight),
                )
            )
        return views

    def _served_view(self, endpoint: Endpoint, served: ServedModel) -> ServedView:
        # What decisions are taken by, which what was said becomes a moment later.
        stated = self._layout.stated.get((endpoint.name, served.name), math.nan)
        listed = self.stated.of(endpoint, served.name).listed
        return ServedView(
            served.name, served.version, served.context_tokens, stated, listed,
            self._g_per_token(endpoint, served),
        )  # fmt: skip

    def _g_per_token(self, endpoint: Endpoint, served: ServedModel) -> float:
        if self.dispatcher is None or not isinstance(served.profile, TokenProfile):
            return math.nan
        snapshot = self.dispatcher.view.snapshot
        region = self.config.fleet.regions[endpoint.region]
        try:
            g_per_kwh = snapshot.mean_g_per_kwh(region.name, self.clock.now(), 0.0)
        except KeyError:
            # A reload brought its region, and the view is still that of before.
            return math.nan
        return g_per_output(served.profile, region.pue, g_per_kwh)

    def _install(self, view: View) -> None:
        self._built_at = self.clock.monotonic()
        if self.dispatcher is not None:
            self.dispatcher.view = view

    async def _refresh_carbon(
        self, carbon: CarbonChains, config: Config, within_s: float | None
    ) -> None:
        try:
            async with asyncio.timeout(within_s):
                await carbon.refresh(grid_zones(config.fleet), self.clock.now())
        except TimeoutError:
            _log.warning("carbon sources took over %g s; serving with what is known", within_s)

    def _build_carbon(self, config: Config, before: CarbonChains | None) -> CarbonChains:
        return configured_carbon(config, self.clock.now(), self._deps, before)


def _do_all(config: Config) -> None:
    """Of the native gateway."""


def _alive() -> Liveness:
    return Liveness(True, ())
