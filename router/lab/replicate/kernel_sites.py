"""The gateway's own decisions over the sites of a study.

Each site is a region with one server. A request takes 1 kWh there, at a PUE of 1, and no time: its
grams are then the grid's g/kWh, and its latency is the round trip. Whatever else the gateway
weighs (queues, prompts, waking) is nothing, so that a study's policies can be told in its terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from router.config.loading import parse_policy
from router.config.schema import HealthSchema
from router.config.settings import HealthSettings
from router.contract import Rng
from router.core.board import Board
from router.core.columns import Snapshot, build_snapshot
from router.core.latency import z_of
from router.core.layout import Layout
from router.core.lengths import Expected
from router.core.pipeline import decide
from router.lab.replicate.inputs import Floats
from router.model import (
    UNBURDENED,
    Basis,
    Budget,
    Endpoint,
    Factors,
    Fleet,
    Forecast,
    Intensity,
    Kind,
    LengthPrior,
    Policy,
    Provenance,
    Region,
    Request,
    ServedModel,
    Signal,
    TaskProfile,
    Weights,
)
from router.units import HOUR_S, J_PER_KWH

SIGNAL: Final = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
_MODEL: Final = "work"
_EXPECTED: Final = Expected(1.0, 1.0, 1.0)
_SOURCE: Final = "the study's table"


def shipped_policy(name: str) -> Policy:
    """A policy as it ships, such as carbon-first."""
    schema, default_name = parse_policy(name, Path())
    return schema.build(default_name, SIGNAL)


def weighted_policy(per_gco2e: float, per_ttft_ms: float) -> Policy:
    """Grams and latency at an exchange rate, as `balanced`; who costs least is chosen, however
    near others come.
    """
    weights = Weights(per_gco2e=per_gco2e, per_ttft_ms=per_ttft_ms)
    return replace(shipped_policy("balanced"), weights=weights, near_tie=0.0)


class KernelSites:
    """Sites to choose among, one hour after another, under one policy.

    ``rtt_ms`` (origins, sites): round trips from each origin. ``room``: requests that a site holds
    in an hour.
    """

    def __init__(
        self,
        sites: Sequence[str],
        origins: Sequence[str],
        rtt_ms: Floats,
        policy: Policy,
        room: int = 1_000_000,
    ) -> None:
        self._sites = tuple(sites)
        self._policy = policy
        self._place_of = {site: place for place, site in enumerate(sites)}
        table = {
            origin: dict(zip(sites, row, strict=True))
            for origin, row in zip(origins, rtt_ms.tolist(), strict=True)
        }
        self._layout = Layout(_fleet(sites, table, room))
        settings = HealthSettings(**HealthSchema().model_dump())
        self._board = Board(
            self._layout, settings, z_of(policy.quantile), tpot_z=z_of(policy.tpot_quantile)
        )
        self._held: list[str] = []
        self._snapshot: Snapshot | None = None
        self._now = 0.0

    def start_hour(self, hour: int, g_per_kwh: Floats) -> None:
        """What was placed is done; ``g_per_kwh`` (sites,) holds in the hour ``hour`` since 1970."""
        for site in self._held:
            self._board.seats[site].give_back(UNBURDENED)
        self._held.clear()
        self._now = hour * HOUR_S
        forecasts = {
            site: _hour_of(site, value, self._now)
            for site, value in zip(self._sites, g_per_kwh.tolist(), strict=True)
        }
        self._snapshot = build_snapshot(
            self._layout, self._policy, forecasts, {}, self._now, version=hour
        )

    def choose(self, origin: str, rng: Rng, limit_ms: float = math.inf, hold: bool = False) -> int:
        """Place in ``sites`` of where a request of ``origin`` goes whose round trip may take
        ``limit_ms``. ``hold``: it takes room there until the hour ends, and teaches what room is
        worth. Raises RefusedError where no site has room within the limit.
        """
        assert self._snapshot is not None
        budget = Budget(ttft_ms=limit_ms, explicit=limit_ms < math.inf)
        request = Request(_MODEL, origin=origin, budget=budget)
        decided = decide(request, self._snapshot, self._board, _EXPECTED, self._now, rng)
        site = decided.decision.endpoint.region
        if hold:
            if decided.need is not None:
                decided.need.teach(self._board)
            self._board.seats[site].take(UNBURDENED, self._now)
            self._held.append(site)
        return self._place_of[site]


def _fleet(sites: Sequence[str], rtt_ms: dict[str, dict[str, float]], room: int) -> Fleet:
    profile = TaskProfile(
        "1 kWh", J_PER_KWH, 0.0, 0.0, room, 0.0, Provenance.ESTIMATED, "a unit of the study's work"
    )
    served = (ServedModel(_MODEL, "", profile, math.inf),)
    endpoints = tuple(
        Endpoint(site, site, "", "oip", served, room, "", "", emulated=True) for site in sites
    )
    regions = {site: Region(site, site, 1.0, _SOURCE, frozenset()) for site in sites}
    priors = {_MODEL: LengthPrior(1.0, 1.0, 1.0)}
    return Fleet(regions, endpoints, priors, rtt_ms, default_origin="", gateway_origin="")


def _hour_of(site: str, g_per_kwh: float, start: float) -> Forecast:
    value = Intensity(
        g_per_kwh, g_per_kwh, g_per_kwh, SIGNAL, Kind.MEASURED, _SOURCE, start, start + HOUR_S
    )
    return Forecast(site, start, HOUR_S, (value,))
