"""The running gateway's state: the configuration in force and the view decisions are taken on.

Everything changes here by replacement: a refresh swaps the snapshot, a reload swaps configuration,
board and snapshot together; requests under way keep what they started with.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from pathlib import Path

from router.app.carbon.build import configured_carbon, grid_zones
from router.app.carbon.chains import CarbonChains
from router.app.carbon.live import ProviderDeps
from router.app.compose import build_board, build_limits, build_view
from router.app.loading import load
from router.app.restart import as_started, needs_restart
from router.config.settings import Config
from router.contract import Clock
from router.core.board import Board
from router.core.layout import Layout
from router.core.seat import foreign_requests
from router.director import Dispatcher, View
from router.errors import ConfigError
from router.model import Load
from router.peers.loads import PeerLoads
from router.telemetry.admin import Liveness, Readiness, assess
from router.telemetry.view import EndpointView, FleetView, RegionView

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
        self._started = config
        self._version = 0
        self._built_at = -math.inf
        self._carbon = self._build_carbon(config, None)
        self._layout = Layout(config.fleet)
        self._board = build_board(config, self._layout)
        self._asked = _asked(config)
        self._loads: dict[str, tuple[Load | None, float]] = {}

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
        config, layout, board, carbon = self.config, self._layout, self._board, self._carbon
        await self._refresh_carbon(carbon, config, within_s)
        self._version += 1
        # Hundreds of grid zones or thousands of endpoints take a while: requests go on meanwhile.
        view = await asyncio.to_thread(
            build_view, config, layout, board, carbon.chain, self.clock.now(), self._version,
            carbon.marginal,
        )  # fmt: skip
        # A reload may have come in between; then its own view, of the new fleet, is in force.
        if self.config is config:
            self._install(view)
        return view

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
        config = await asyncio.to_thread(load, path)
        if config.settings.clock != self._started.settings.clock:
            raise ConfigError(str(path), [("clock", "cannot change in a reload: restart")])
        ignored = needs_restart(config, self._started)
        config = as_started(config, self._started)
        carbon = await asyncio.to_thread(self._build_carbon, config, self._carbon)
        await self._refresh_carbon(carbon, config, _FIRST_REFRESH_S)
        layout = Layout(config.fleet)
        self._version += 1
        view = await asyncio.to_thread(
            build_view, config, layout, self._board, carbon.chain, self.clock.now(), self._version,
            carbon.marginal,
        )  # fmt: skip
        # From here on nothing awaits or fails: requests see all of the change or none of it.
        self.config = config
        replaced, self._carbon = self._carbon, carbon
        self._layout = layout
        self._board = build_board(config, layout, self._board)
        if self.peers is not None:
            self.peers.adopt(self._board)
        self._forget_loads()
        if self.dispatcher is not None:
            retry = config.settings.retry
            self.dispatcher.limits = build_limits(config.settings)
            self.dispatcher.parts.budget.adopt(retry.budget_ratio, retry.budget_reserve)
            self.dispatcher.parts.lengths.adopt(config.fleet.priors, config.policy.quantile)
        self._install(view._replace(board=self._board))
        await replaced.close(stays=carbon)
        return ignored

    def take_load(self, endpoint: str, load: Load | None, age_s: float) -> None:
        """A poll's result: foreign requests there, as long as it is not stale.

        A reading that is too old is dropped: a dead scrape cannot exclude an endpoint for ever.
        """
        max_in_flight = self._asked.get(endpoint)
        if max_in_flight is None:
            # The poller of the fleet before a reload has a moment to live.
            return
        self._loads[endpoint] = (load, self.clock.monotonic() - age_s)
        seat = self._board.seats[endpoint]
        if load is None or age_s > self.config.settings.load.stale_after_s:
            seat.set_others(0.0)
            return
        own = seat.in_flight + seat.peers
        seat.set_others(foreign_requests(load, own, max_in_flight))

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
            notes=self.processes().notes,
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
            load, read_at = self._loads.get(endpoint.name, (None, -math.inf))
            age_s = self.clock.monotonic() - read_at
            views.append(
                EndpointView(
                    name=endpoint.name,
                    region=endpoint.region,
                    address=endpoint.address,
                    models=tuple(served.name for served in endpoint.models),
                    state=seat.state,
                    in_flight=seat.in_flight,
                    load=load,
                    load_age_s=age_s if endpoint.metrics_url else math.nan,
                    emulated=endpoint.emulated,
                    cause=seat.cause,
                )
            )
        return views

    def _forget_loads(self) -> None:
        """Drop what was told by endpoints that are no longer asked: nobody would correct it."""
        self._asked = _asked(self.config)
        for name in self._loads.keys() - self._asked.keys():
            del self._loads[name]
            if name in self._board.seats:
                self._board.seats[name].set_others(0.0)

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


def _alive() -> Liveness:
    return Liveness(True, ())


def _asked(config: Config) -> dict[str, int]:
    """The endpoints that are asked for their load, and what each may have in flight."""
    return {
        endpoint.name: endpoint.max_in_flight
        for endpoint in config.fleet.endpoints
        if endpoint.metrics_url
    }
