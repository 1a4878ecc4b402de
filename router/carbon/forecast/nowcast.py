"""The forecaster behind the contract: what was observed, carried to now and the coming hours.

A model a grid zone (``zone``): ridge regressions that forget, a seasonal expert and the three naive
forecasts, weighed by recent skill at each lead, inside intervals that follow their own misses.
docs/forecast.md has the method and its measured errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.carbon.chain.sources import SlotSource
from router.carbon.forecast.conformal import LEVELS
from router.carbon.forecast.design import Array
from router.carbon.forecast.regressions import REACH_H
from router.carbon.forecast.zone import ZoneModel
from router.carbon.weather.conditions import WeatherForecast
from router.errors import MissingIntensityError, MixedBasisError
from router.model import Factors, Forecast, Intensity, Kind, Signal
from router.units import HOUR_S

_LOW, _HIGH = LEVELS.index(0.05), LEVELS.index(0.95)
# Signals that come near 0 are forecast as log(g + offset); life-cycle factors never do.
OFFSET_G: Final = {Factors.LIFECYCLE: 0.0, Factors.DIRECT: 10.0, Factors.NONE: 10.0}
# Of a history: every how many hours a forecast is made of it, to learn from how it fared, and how
# far back; errors of before have faded (``conformal.HALF_LIFE_H``).
_LEARN_EVERY_H: Final = 3
_LEARN_BACK_H: Final = 30 * 24
# Past the last lead a band widens with the fourth root of it, as sizes do from 48 to 96 h.
_WIDENING: Final = 0.25


@dataclass(slots=True)
class _Zone:
    signal: Signal
    last: Intensity
    model: ZoneModel
    readings: int = 0


class Nowcast:
    """Forecasts every zone it is fed. Memory is bounded: about 2.5 MB a zone; no I/O, no clock."""

    def __init__(self, prior: SlotSource | None = None) -> None:
        """``prior``: what is usual, for hours not seen yet; ignored where its signal differs."""
        self._prior = prior
        self._zones: dict[str, _Zone] = {}
        self._weather: dict[str, WeatherForecast] = {}

    def take_weather(self, grid_zone: str, forecast: WeatherForecast | None) -> None:
        """The newest weather forecast of a grid zone, which what is forecast from now on heeds.

        A history that is learned after it takes its hours of the past for what was forecast then.
        None: there is none any more.
        """
        zone, known = self._zones.get(grid_zone), self._weather.pop(grid_zone, None)
        if forecast is not None:
            self._weather[grid_zone] = forecast
        if zone is not None and (forecast is not None or known is not None):
            zone.model.take_weather(forecast)

    def weather(self, grid_zone: str) -> WeatherForecast | None:
        """The newest one that was taken."""
        return self._weather.get(grid_zone)

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        """Take in one observation.

        It belongs to the hour in which its slot ends (``observed_at``). Readings of one hour are
        averaged as they come; one that repeats the newest slot, or is of an earlier hour, replaces
        what was known of that hour if that was a single reading, so that late revisions and
        late arrivals count. Raises MixedBasisError when its signal is not that of the zone's
        earlier ones.
        """
        self._take(grid_zone, intensity, score=True, issue=True)

    def learn(self, grid_zone: str, past: Sequence[Intensity]) -> None:
        """Take in a history, oldest first: as ``observe``, but errors are learned from fewer hours.

        Three times as quick. Raises MixedBasisError as ``observe`` does.
        """
        if not past:
            return
        faded = past[-1].observed_at - _LEARN_BACK_H * HOUR_S
        for value in past:
            hour = _hour(value)
            issue = hour % _LEARN_EVERY_H == 0
            self._take(grid_zone, value, score=value.observed_at > faded, issue=issue)

    def forget(self, grid_zone: str) -> None:
        """See `contract.Forecaster`."""
        self._zones.pop(grid_zone, None)

    def _take(self, grid_zone: str, intensity: Intensity, *, score: bool, issue: bool) -> None:
        hour = _hour(intensity)
        zone = self._zones.get(grid_zone)
        if zone is None:
            model = ZoneModel(
                hour,
                offset_g=OFFSET_G[intensity.signal.factors],
                usual=usual_of(self._prior, grid_zone, intensity.signal),
            )
            zone = self._zones[grid_zone] = _Zone(intensity.signal, intensity, model)
            if grid_zone in self._weather:
                model.take_weather(self._weather[grid_zone])
        elif intensity.signal != zone.signal:
            raise MixedBasisError(
                f"grid zone {grid_zone}: {intensity.source} is {'/'.join(intensity.signal)}, "
                f"observed so far: {'/'.join(zone.signal)}; use one signal a forecaster"
            )
        elif intensity.observed_at <= zone.last.observed_at and zone.readings:
            self._revise(zone, hour, intensity)
            return
        self._append(zone, hour, intensity, score, issue)

    def _append(
        self, zone: _Zone, hour: int, intensity: Intensity, score: bool, issue: bool
    ) -> None:
        model, value = zone.model, intensity.g_per_kwh
        if hour > model.newest_h:
            zone.readings = 0
        before = model.value(hour) if zone.readings else 0.0
        zone.readings += 1
        mean = before + (value - before) / zone.readings
        model.observe(hour, mean, score=score, issue=issue)
        zone.last = intensity

    def _revise(self, zone: _Zone, hour: int, intensity: Intensity) -> None:
        model = zone.model
        newest = intensity.observed_at == zone.last.observed_at
        if hour == model.newest_h and (zone.readings > 1 or not newest):
            return
        # Part of an hour does not stand for it, and a finer series is not revised reading by one.
        whole = intensity.observed_at % HOUR_S == 0.0
        if whole and model.value(hour) != intensity.g_per_kwh:
            model.observe(hour, intensity.g_per_kwh)
            zone.last = intensity if newest else zone.last

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        """``horizon_h`` hourly slots from the one containing ``now`` on, with a 90 % interval.

        ``observed_at`` and ``expires_at`` are those of the newest observation: a nowcast is as old
        as what it is made of. Raises MissingIntensityError when nothing was observed by ``now``.
        """
        zone = self._zones.get(grid_zone)
        first_h = math.floor(now / HOUR_S)
        if zone is None or zone.model.newest_h > first_h:
            raise MissingIntensityError(f"grid zone {grid_zone}: nothing observed by {now:.0f}")
        lead_h = np.arange(first_h, first_h + horizon_h) - zone.model.newest_h
        values, low, high = _band(zone, lead_h)
        last = zone.last
        sources = self._sources(grid_zone, zone, lead_h)
        slots = tuple(
            Intensity(
                g_per_kwh=value,
                low_g_per_kwh=min(bottom, value),
                high_g_per_kwh=max(top, value),
                signal=zone.signal,
                kind=Kind.FORECAST,
                source=source,
                observed_at=last.observed_at,
                expires_at=last.expires_at,
            )
            for value, bottom, top, source in zip(
                values.tolist(), low.tolist(), high.tolist(), sources, strict=True
            )
        )
        return Forecast(grid_zone, first_h * HOUR_S, HOUR_S, slots)

    def _sources(self, grid_zone: str, zone: _Zone, lead_h: NDArray[np.int64]) -> list[str]:
        """What each slot is made of; lead 0 is what was observed."""
        plain = f"nowcast({zone.last.source})"
        said = zone.model.issue().weather
        if said is None:
            return [plain] * len(lead_h)
        both = f"nowcast({zone.last.source}, {self._weather[grid_zone].source})"
        heeded = ~np.isnan(said.corrected)[zone.model.place(np.maximum(lead_h, 1))] & (lead_h > 0)
        return [both if yes else plain for yes in heeded.tolist()]


def usual_of(
    prior: SlotSource | None, grid_zone: str, signal: Signal
) -> Callable[[int, int], Array] | None:
    """What ``prior`` says of a zone, as `ZoneModel` asks; None where its signal differs."""
    if prior is None or prior.signal != signal:
        return None

    def usual(first_h: int, count: int) -> Array:
        slots = prior.slots(grid_zone, first_h * HOUR_S, count)
        return np.array([slot.g_per_kwh for slot in slots])

    return usual


def widened(lead_h: NDArray[np.int64]) -> Array:
    """By how much bands widen past the last lead."""
    wider: Array = np.maximum(lead_h / REACH_H, 1.0) ** _WIDENING
    return wider


def _hour(intensity: Intensity) -> int:
    """A slot that ends on the hour belongs to the hour before."""
    return math.ceil(intensity.observed_at / HOUR_S) - 1


def _band(zone: _Zone, lead_h: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Values and 90 % bounds at leads >= 0; lead 0 is the newest hour itself."""
    issue = zone.model.issue()
    place = zone.model.place(np.maximum(lead_h, 1))
    wider = widened(lead_h)
    last = zone.last
    # The observation's own uncertainty, where it is an estimate.
    own = (last.high_g_per_kwh - last.low_g_per_kwh) / 2.0
    own = own / last.g_per_kwh if last.g_per_kwh > 0.0 else 0.0
    now = lead_h == 0
    down, up = (
        np.hypot(np.where(now, 0.0, np.maximum(side * wider, 0.0)), own)
        for side in (-issue.offsets[_LOW][place], issue.offsets[_HIGH][place])
    )
    logs = issue.log_point[place]
    known = zone.model.value(zone.model.newest_h)
    values = np.where(now, known, issue.point[place])
    low = np.where(now, known * np.exp(-down), zone.model.grams(logs - down))
    high = np.where(now, known * np.exp(up), zone.model.grams(logs + up))
    return values, low, high
