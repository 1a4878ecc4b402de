"""What the configured carbon providers say by now of hours that have passed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from router.app.carbon.build import build_carbon
from router.app.carbon.chains import ConfiguredSource
from router.app.carbon.live import Sessions
from router.app.loading import load
from router.carbon.chain.chain import REFRESH_TIMEOUT_S
from router.carbon.chain.refresh import Refresh
from router.carbon.chain.revisions import Revisions
from router.carbon.chain.sources import HistorySource
from router.carbon.providers.provider import Want
from router.clock import WallClock
from router.errors import ConfigError, NoDataError
from router.ledger.settlement import SETTLED_WITHIN_S, MeasuredHour, PriceKey
from router.model import Intensity, Kind
from router.operator.check import provider_deps
from router.units import HOUR_S

# Of five-minute values, as many as are settled.
_MOST_SLOTS: Final = round(SETTLED_WITHIN_S / 300.0)
_SETTLED_KINDS: Final = (Kind.MEASURED, Kind.ESTIMATED)


class ProviderHours(NamedTuple):
    """``failures``: of sources that were asked and could not tell, a line each."""

    measured: list[MeasuredHour]
    failures: tuple[str, ...]


def provider_hours(
    config_path: Path, used: Mapping[str, frozenset[int]], now: float
) -> ProviderHours:
    """Hours that the sources of ``config_path``, in its order, know as measured or estimated.

    The chain that decides and the marginal one, each by its own signal. A source that fails is left
    out, and named. Raises ConfigError and TraceError.
    """
    config = load(config_path)
    deps = provider_deps(WallClock())
    zones = sorted(used)
    try:
        carbon = build_carbon(config.settings.carbon, now, deps, zones)
    except ConfigError as error:
        raise ConfigError(str(config.file), error.problems) from None
    chains = [carbon.members, carbon.marginal_members]
    return asyncio.run(_hours(chains, used, now, deps.sessions))


async def _hours(
    chains: Sequence[Sequence[ConfiguredSource]],
    used: Mapping[str, frozenset[int]],
    now: float,
    sessions: Sessions,
) -> ProviderHours:
    found: list[MeasuredHour] = []
    failures: dict[str, None] = {}
    try:
        for members in chains:
            revisions = Revisions(SETTLED_WITHIN_S, _MOST_SLOTS)
            for rank, member in enumerate(members):
                history, failed = await _history(member, used, now)
                failures.update(dict.fromkeys(failed))
                for zone, values in history.items():
                    for value in values:
                        if value.kind in _SETTLED_KINDS:
                            revisions.take(zone, value, now, rank)
            found += hours_of(revisions, used)
    finally:
        await sessions.close()
    return ProviderHours(found, tuple(failures))


async def _history(
    member: ConfiguredSource, used: Mapping[str, frozenset[int]], now: float
) -> tuple[Mapping[str, Sequence[Intensity]], list[str]]:
    source = member.source
    zones = [zone for zone in sorted(used) if zone in source.grid_zones]
    if not isinstance(source, HistorySource) or not zones:
        return {}, []
    oldest = min(min(hours) for zone, hours in used.items() if zone in zones and hours)
    hours = min(int(now // HOUR_S) - oldest + 1, round(SETTLED_WITHIN_S / HOUR_S))
    if hours < 1:
        return {}, []
    refresh = Refresh(zones, now, REFRESH_TIMEOUT_S)
    found = await refresh.call(
        source, Want.HISTORY, zones, hours, lambda known: known.history(zones, now, hours)
    )
    failed = [
        f"{zone}: {one.source}: {one.why}"
        for zone, attempts in refresh.attempts().items()
        for one in attempts
        # Who knows nothing of a zone has not failed.
        if one.code and one.code != NoDataError.reason
    ]
    return found, failed


def hours_of(revisions: Revisions, used: Mapping[str, frozenset[int]]) -> list[MeasuredHour]:
    """The used hours of which all is known; slots of less than an hour are averaged."""
    found = []
    for zone in sorted(used):
        for hour in sorted(used[zone]):
            mean = revisions.mean(zone, hour * HOUR_S)
            if mean is None:
                continue
            found.append(
                MeasuredHour(
                    PriceKey(zone, hour, mean.signal.basis, mean.signal.factors),
                    mean.g_per_kwh,
                    mean.low_g_per_kwh,
                    mean.high_g_per_kwh,
                    mean.kind,
                    mean.source,
                    mean.observed_at,
                )
            )
    return found
