"""What whoever scales a fleet is told: replicas by model and region, and which endpoints.

One endpoint is one replica, of each model that it serves. Which ones stay awake is said so that it
changes seldom: first who serves and was wanted before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from router.app.scaling.looks import ReplicaDemand
from router.app.scaling.view import ScaledView
from router.core.wake_times import Site, WakeTime

FORMAT: Final = 1
# What usually runs at that hour of the day; what ran in the last minutes.
USUAL: Final = "usual"
PRESENT: Final = "present"


class HourHint(msgspec.Struct, frozen=True):
    """``hour``: its begin, UTC; ``wanted``: replicas; ``demand``: of other traffic that this is
    for."""

    hour: str
    wanted: int
    demand: str


class RegionHint(msgspec.Struct, frozen=True):
    """Of a model in a region. ``ready``: replicas that serve; ``wanted``: that should, as of now;
    ``waiting_places``: requests at once that are planned of work that waits, in both; ``wake_s``:
    from asked-for to ready, as of ``wake_measured`` times, 0 where it is assumed; ``hours``:
    forecast; ``usual_places``: requests at once that usually run there by the time that a replica
    that is asked for now would serve, None where that is not known."""

    model: str
    region: str
    ready: int
    wanted: int
    waiting_places: float
    wake_s: float
    wake_measured: int
    hours: list[HourHint]
    usual_places: float | None = None


class EndpointHint(msgspec.Struct, frozen=True):
    """``wanted``: whether it should be awake, for any of its models."""

    name: str
    region: str
    address: str
    ready: bool
    wanted: bool


class ScalingHints(msgspec.Struct, frozen=True):
    """``gateway``: who says so, ``term``: which grows whenever another gateway takes over; ``at``:
    UTC."""

    format: int
    gateway: str
    term: int
    at: str
    regions: list[RegionHint]
    endpoints: list[EndpointHint]

    @property
    def essence(self) -> tuple[object, ...]:
        """What whoever is told acts on."""
        return (
            tuple((one.model, one.region, one.wanted) for one in self.regions),
            tuple((one.name, one.wanted) for one in self.endpoints),
        )


def region_hint(demand: ReplicaDemand, wake: WakeTime) -> RegionHint:
    """As it is sent."""
    hours = [
        HourHint(utc(one.at), one.wanted, USUAL if one.is_usual else PRESENT)
        for one in demand.hours
    ]
    usual = round(demand.usual, 3) if demand.usual == demand.usual else None
    return RegionHint(
        demand.model, demand.region, demand.ready, demand.wanted, round(demand.waiting, 3),
        round(wake.s, 1), wake.measured, hours, usual,
    )  # fmt: skip


def endpoint_hints(
    view: ScaledView, wanted: Mapping[Site, int], before: Collection[str]
) -> list[EndpointHint]:
    """``wanted``: replicas; ``before``: names of endpoints that were wanted last."""
    fleet = view.snapshot.layout.fleet
    ready: dict[str, bool] = {}
    sites: dict[Site, list[str]] = {}
    for endpoint in fleet.endpoints:
        seat = view.board.seats[endpoint.name]
        for served in endpoint.models:
            serves = seat.serves((served.name, served.version))
            ready[endpoint.name] = ready.get(endpoint.name, False) or serves
            sites.setdefault((served.name, endpoint.region), []).append(endpoint.name)
    chosen: set[str] = set()
    for site, names in sites.items():
        chosen.update(_first(names, wanted.get(site, 0), ready, before))
    return [
        EndpointHint(one.name, one.region, one.address, ready[one.name], one.name in chosen)
        for one in fleet.endpoints
    ]


def _first(
    names: Sequence[str], most: int, ready: Mapping[str, bool], before: Collection[str]
) -> list[str]:
    def order(name: str) -> tuple[bool, bool]:
        return not ready[name], name not in before

    return sorted(names, key=order)[:most]


def utc(at: float) -> str:
    """Unix s as text."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
