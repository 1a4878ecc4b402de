"""The ordered chain of carbon sources: who answers for which grid zone, and what if nobody does.

``refresh`` asks the sources, ``view`` says what is known. Per hourly slot the first that has a
value wins: a published forecast; the observed value itself when its slot contains ``now``; the
forecaster's nowcast while its newest observation is young enough; climatology; the annual mean.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from router.carbon.resample import hourly
from router.carbon.roles import AnnualMeans, HistorySource, Publisher, SlotSource
from router.contract import CarbonSource, Forecaster, ForecastSource
from router.errors import DataError, MissingIntensityError, MixedBasisError
from router.model import Factors, Forecast, Intensity, Kind, Signal

_HOUR_S: Final = 3600.0
_OBSERVED: Final = frozenset({Kind.MEASURED, Kind.ESTIMATED})
_HISTORY_H: Final = 216
_HORIZON_H: Final = 96

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Hop(NamedTuple):
    """One source asked for one grid zone in the last refresh. ``why``: what went wrong, or ""."""

    source: str
    ok: bool
    why: str


class CarbonChain:
    """Asks sources in order and remembers the last good answer of each grid zone.

    A source is asked only for the zones that no source before it answered freshly. ``observed_at``
    of a measured or estimated value must be the end of its slot; past ``now``, the slot contains
    ``now``. ``hops`` tells, per grid zone, who was asked last time and how it went.
    """

    def __init__(
        self,
        sources: Sequence[CarbonSource],
        forecaster: Forecaster,
        annual: AnnualMeans | None = None,
        *,
        timeout_s: float = 5.0,
        nowcast_max_age_s: float = 48 * _HOUR_S,
    ) -> None:
        """``timeout_s``: for each call of a source. ``nowcast_max_age_s``: an older observation is
        no longer carried forward. Raises MixedBasisError unless all share one signal, DataError
        without a source.
        """
        members: list[tuple[str, Signal]] = [(source.name, source.signal) for source in sources]
        if annual is not None:
            members.append(("annual means", annual.signal))
        if not members:
            raise DataError("a carbon chain needs at least one source")
        self.signal = members[0][1]
        if any(signal != self.signal for _, signal in members):
            listed = ", ".join(f"{name} is {'/'.join(signal)}" for name, signal in members)
            raise MixedBasisError(
                f"the sources of one chain must share basis and emission factors: {listed}"
            )
        self.hops: Mapping[str, tuple[Hop, ...]] = {}
        self._sources = tuple(sources)
        self._forecaster = forecaster
        self._annual = annual
        self._timeout_s = timeout_s
        self._nowcast_max_age_s = nowcast_max_age_s
        self._observed: dict[str, Intensity] = {}
        self._published: dict[str, Forecast] = {}
        # Readings of kind forecast with the hour they were read for, and those of standing kinds.
        self._forecast_now: dict[str, tuple[int, Intensity]] = {}
        self._flat: dict[tuple[str, Kind], Intensity] = {}

    async def refresh(self, grid_zones: Sequence[str], now: float) -> None:
        """Ask the sources about ``grid_zones``; a failing or hanging one is noted and passed over.

        Takes at most ``timeout_s`` for each call (a source makes up to three). Never raises for
        what a source does.
        """
        round_ = _Round(dict.fromkeys(grid_zones), now)
        for source in self._sources:
            asked = [zone for zone in round_.hops if zone not in round_.answered]
            try:
                await self._read(source, round_)
                if isinstance(source, Publisher):
                    await self._read_forecast(source, round_)
            except Exception as error:
                # A defect of one source must not silence the others.
                _log.exception("carbon source %s failed in a way it should not", source.name)
                for zone in asked:
                    round_.note(zone, source.name, f"internal error: {type(error).__name__}")
        self.hops = {**self.hops, **{zone: tuple(hops) for zone, hops in round_.hops.items()}}

    def view(self, grid_zones: Sequence[str], now: float, hours: int) -> Mapping[str, Forecast]:
        """What is known now: ``hours`` hourly slots from the hour containing ``now``; pure.

        A zone that nobody knows is left out; one known for fewer hours has fewer slots.
        """
        start = math.floor(now / _HOUR_S) * _HOUR_S
        views = {}
        for zone in grid_zones if hours > 0 else ():
            slots = self._slots(zone, start, now, hours)
            if slots:
                views[zone] = Forecast(zone, start, _HOUR_S, slots)
        return views

    def annual_mean(self, grid_zone: str) -> Intensity | None:
        """The annual mean of a grid zone, None when nobody states one."""
        return self._annual.mean(grid_zone) if self._annual else None

    async def _read(self, source: CarbonSource, round_: _Round) -> None:
        zones = [zone for zone in round_.hops if zone not in round_.answered]
        answer = await self._call(
            source.name, lambda: source.read(zones, round_.now), zones, round_
        )
        good: dict[str, Intensity] = {}
        for zone, value in answer.items():
            why = self._defect(value)
            if not why:
                good[zone] = value
                if value.expires_at <= round_.now:
                    why = "stale"
                elif value.kind in _OBSERVED:
                    round_.answered.add(zone)
            round_.note(zone, source.name, why)
        await self._catch_up(source, good, round_)
        for zone, value in good.items():
            self._take(zone, value, round_.now)

    async def _read_forecast(self, source: ForecastSource, round_: _Round) -> None:
        name = f"{source.name} forecast"
        zones = [zone for zone in round_.hops if zone not in round_.forecast]
        answer = await self._call(
            name, lambda: source.forecast(zones, round_.now, _HORIZON_H), zones, round_
        )
        for zone, forecast in answer.items():
            why = next(filter(None, map(self._defect, forecast.slots)), "")
            round_.note(zone, name, why)
            if not why:
                round_.forecast.add(zone)
                self._published[zone] = forecast

    async def _catch_up(
        self, source: CarbonSource, values: Mapping[str, Intensity], round_: _Round
    ) -> None:
        """Feed what was published since the last observation, where more than one hour passed."""
        if not isinstance(source, HistorySource):
            return
        history = source.history
        behind: list[str] = []
        since = math.inf
        for zone, value in values.items():
            known = self._observed.get(zone)
            last = -math.inf if known is None else known.observed_at
            if value.kind in _OBSERVED and value.observed_at - last > _HOUR_S:
                behind.append(zone)
                since = min(since, last)
        if not behind:
            return
        hours = math.ceil(min(_HISTORY_H, (round_.now - since) / _HOUR_S + 1))
        past = await self._call(
            f"{source.name} history", lambda: history(behind, round_.now, hours), behind, round_
        )
        for zone, observations in past.items():
            for observation in observations:
                if not self._defect(observation):
                    self._forecaster.observe(zone, observation)
            # Nine days of many zones take a while: let requests through in between.
            await asyncio.sleep(0)

    async def _call(
        self,
        name: str,
        call: Callable[[], Awaitable[Mapping[str, _T]]],
        zones: Sequence[str],
        round_: _Round,
    ) -> Mapping[str, _T]:
        """The answers for ``zones``; whatever is missing becomes a hop of its zone."""
        if not zones:
            return {}
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await call()
            found = {zone: answer[zone] for zone in zones if zone in answer}
            why = "no value for this grid zone"
        except TimeoutError:
            found, why = {}, f"no answer within {self._timeout_s:g} s"
        except (DataError, OSError) as error:
            found, why = {}, f"{type(error).__name__}: {error}"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Raised by the source itself: passed on, it would end the caller's task without a word.
            found, why = {}, "cancelled itself"
        for zone in zones:
            if zone not in found:
                round_.note(zone, name, why)
        return found

    def _defect(self, value: Intensity) -> str:
        """Why a source's value cannot be used, or ""."""
        if value.signal != self.signal:
            return f"answered in {'/'.join(value.signal)}, not {'/'.join(self.signal)}"
        if value.g_per_kwh == 0.0 and value.signal.factors is Factors.LIFECYCLE:
            return "0 g/kWh with life-cycle factors: taken for a missing value"
        return ""

    def _take(self, zone: str, value: Intensity, now: float) -> None:
        if value.kind is Kind.FORECAST:
            self._forecast_now[zone] = (math.floor(now / _HOUR_S), value)
            return
        if value.kind not in _OBSERVED:
            self._flat[zone, value.kind] = value
            return
        self._forecaster.observe(zone, value)
        known = self._observed.get(zone)
        if known is None or value.observed_at > known.observed_at:
            self._observed[zone] = value

    def _slots(self, zone: str, start: float, now: float, hours: int) -> tuple[Intensity, ...]:
        layers: list[Sequence[Intensity | None]] = []
        if zone in self._published:
            layers.append(hourly(self._published[zone], start, now, hours))
        layers.append([self._current(zone, start, now)])
        layers.append(self._nowcast(zone, start, now, hours))
        if any(all(_at(layer, i) is None for layer in layers) for i in range(hours)):
            layers.extend(self._standing(zone, start, hours))
        slots = []
        for ahead in range(hours):
            found = next((v for layer in layers if (v := _at(layer, ahead)) is not None), None)
            if found is None:
                break
            slots.append(found)
        return tuple(slots)

    def _current(self, zone: str, start: float, now: float) -> Intensity | None:
        """A value that its source gave for the very hour of ``start``."""
        observed = self._observed.get(zone)
        if observed is not None and now < observed.observed_at <= now + _HOUR_S:
            return observed
        hour, forecast = self._forecast_now.get(zone, (0, None))
        return forecast if hour == start / _HOUR_S else None

    def _nowcast(self, zone: str, start: float, now: float, hours: int) -> Sequence[Intensity]:
        observed = self._observed.get(zone)
        if observed is None or observed.age_s(now) > self._nowcast_max_age_s:
            return ()
        try:
            forecast = self._forecaster.forecast(zone, now, hours)
        except MissingIntensityError:
            return ()
        return forecast.slots if forecast.start == start else ()

    def _standing(self, zone: str, start: float, hours: int) -> list[Sequence[Intensity]]:
        """Climatology before annual means."""
        usual = [s.slots(zone, start, hours) for s in self._sources if isinstance(s, SlotSource)]
        for kind in (Kind.CLIMATOLOGY, Kind.ANNUAL_MEAN):
            if flat := self._flat.get((zone, kind)):
                usual.append([flat] * hours)
        mean = self.annual_mean(zone)
        if mean is not None:
            usual.append([mean] * hours)
        return usual


class _Round:
    """One refresh: who was asked for which zone, and which zones have their answer."""

    def __init__(self, grid_zones: Iterable[str], now: float) -> None:
        self.now = now
        self.hops: dict[str, list[Hop]] = {zone: [] for zone in grid_zones}
        self.answered: set[str] = set()
        self.forecast: set[str] = set()

    def note(self, zone: str, source: str, why: str) -> None:
        self.hops[zone].append(Hop(source, not why, why))


def _at(layer: Sequence[Intensity | None], index: int) -> Intensity | None:
    return layer[index] if index < len(layer) else None
