"""What `grid` shows: every source's past and coming hours of a grid zone, and who is used now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from router.app.carbon.build import build_carbon
from router.app.carbon.chains import CarbonChains, ConfiguredSource, Source
from router.app.carbon.live import Sessions
from router.app.compose import build_clock
from router.app.loading import load
from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.chain import REFRESH_TIMEOUT_S, CarbonChain, ZoneProvenance
from router.carbon.chain.refresh import Refresh
from router.carbon.chain.sources import HistorySource, SlotSource
from router.carbon.providers.holes import is_stated
from router.carbon.providers.provider import Want
from router.carbon.tables.static import StaticSource
from router.config.settings import CarbonSettings, ClimatologySpec, StaticSpec
from router.config.specs import LIFECYCLE
from router.config.suggestions import meant
from router.config.zones import shipped_places
from router.contract import ForecastSource
from router.errors import ConfigError, MissingIntensityError
from router.model import Forecast, Intensity
from router.operator.check import provider_deps
from router.units import HOUR_S


class Point(NamedTuple):
    """``at``: unix seconds, the start of the slot."""

    at: float
    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float


class Curve(NamedTuple):
    """What one source says in one way. ``kind``: of its values; ``age_s``: of the newest."""

    source: str
    kind: str
    age_s: float
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class GridSurvey:
    """One grid zone under one signal. ``used``: what decisions would use now, None when unknown."""

    grid_zone: str
    signal: str
    now: float
    used: Intensity | None
    used_curve: Curve | None
    curves: tuple[Curve, ...]
    provenance: ZoneProvenance
    attempts: tuple[SourceAttempt, ...]


def survey(zones: Sequence[str], config_path: Path | None, hours: int) -> list[GridSurvey]:
    """Ask every source that ``config_path`` has for ``zones`` (None: what ships) once.

    The marginal chain's survey of a zone follows that of the deciding one. Raises ConfigError,
    TraceError, and MissingIntensityError for a zone that no source knows.
    """
    config = load(config_path) if config_path else None
    clock = build_clock(config.settings.clock if config else None)
    now, deps = clock.now(), provider_deps(clock)
    if config is None:
        specs = (ClimatologySpec(), StaticSpec({}, shipped_table=True))
        carbon = build_carbon(CarbonSettings(LIFECYCLE, 60.0, specs), now, None, zones)
    else:
        try:
            carbon = build_carbon(config.settings.carbon, now, deps, zones)
        except ConfigError as error:
            raise ConfigError(str(config.file), error.problems) from None
    unknown = [zone for zone in zones if not any(carbon.orders[zone])]
    if unknown:
        where = str(config_path) if config_path else "the tables that ship"
        columns = [zone for member in carbon.members for zone in member.source.grid_zones]
        meanings = "; ".join(meant(zone, shipped_places(), columns) for zone in unknown)
        raise MissingIntensityError(
            f"{', '.join(unknown)}: no source in {where} knows this grid zone; {meanings}"
        )
    return asyncio.run(_survey(zones, carbon, now, hours, deps.sessions))


async def _survey(
    zones: Sequence[str], carbon: CarbonChains, now: float, hours: int, sessions: Sessions
) -> list[GridSurvey]:
    chains = [(carbon.chain, carbon.members)]
    if carbon.marginal is not None:
        chains.append((carbon.marginal, carbon.marginal_members))
    try:
        await carbon.refresh(zones, now)
        found = []
        for zone in zones:
            for chain, members in chains:
                if any(zone in member.source.grid_zones for member in members):
                    found.append(await _of_zone(zone, chain, members, now, hours))
        return found
    finally:
        await sessions.close()


async def _of_zone(
    zone: str, chain: CarbonChain, members: Sequence[ConfiguredSource], now: float, hours: int
) -> GridSurvey:
    curves: list[Curve] = []
    for member in members:
        if zone in member.source.grid_zones:
            curves += await _curves(zone, member.source, now, hours)
    view = chain.view([zone], now, hours).get(zone)
    used = view.at(now) if view else None
    used_curve = _ahead("used", view, now) if view else None
    return GridSurvey(
        zone,
        "/".join(chain.signal),
        now,
        used,
        used_curve,
        tuple(curves),
        chain.provenance(zone, now, hours),
        chain.attempts.get(zone, ()),
    )


async def _curves(zone: str, source: Source, now: float, hours: int) -> list[Curve]:
    if isinstance(source, StaticSource):
        mean = source.mean(zone)
        ends = (now - hours * HOUR_S, now + hours * HOUR_S)
        points = tuple(_point(mean, at) for at in ends) if mean else ()
        return [Curve(source.name, str(mean.kind), mean.age_s(now), points)] if mean else []
    if isinstance(source, SlotSource):
        start = (now // HOUR_S - hours) * HOUR_S
        usual = source.slots(zone, start, 2 * hours + 1)
        points = tuple(_point(slot, start + i * HOUR_S) for i, slot in enumerate(usual))
        return [Curve(source.name, str(usual[0].kind), usual[0].age_s(now), points)]
    found = []
    # Who fails is left out: the chain's attempts say so.
    refresh = Refresh([zone], now, REFRESH_TIMEOUT_S)
    if isinstance(source, HistorySource):
        past = await refresh.call(
            source, Want.HISTORY, [zone], hours, lambda known: known.history([zone], now, hours)
        )
        found += _past(source.name, past.get(zone, ()), now)
    if isinstance(source, ForecastSource):
        issues = await refresh.call(
            source, Want.FORECAST, [zone], hours, lambda known: known.forecast([zone], now, hours)
        )
        found += [_ahead(source.name, issue, now) for issue in issues.values()]
    return found


def _past(source: str, values: Sequence[Intensity], now: float) -> list[Curve]:
    """A curve a kind, because measured and estimated values are told apart."""
    found = []
    for kind in dict.fromkeys(value.kind for value in values):
        own = [value for value in values if value.kind is kind]
        ends = [value.observed_at for value in values]
        gaps = [late - early for early, late in pairwise(ends) if late > early]
        step_s = min(gaps, default=HOUR_S)
        points = tuple(_point(value, value.observed_at - step_s) for value in own)
        found.append(Curve(source, str(kind), own[-1].age_s(now), points))
    return found


def _ahead(source: str, issue: Forecast, now: float) -> Curve:
    points = tuple(
        _point(slot, issue.start + place * issue.step_s)
        for place, slot in enumerate(issue.slots)
        if is_stated(slot)
    )
    first = issue.slots[0]
    return Curve(source, str(first.kind), first.age_s(now), points)


def _point(value: Intensity, at: float) -> Point:
    return Point(at, value.g_per_kwh, value.low_g_per_kwh, value.high_g_per_kwh)
