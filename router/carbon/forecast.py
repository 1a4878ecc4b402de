"""A nowcast: what was observed lately, carried to now and the coming hours.

Method: profile(t) is the mean of the same hour on the days before, newest days weighing most, a
climatology filling in for days not seen yet; the last observed departure from it decays with lead:

    f(t) = profile(t) + (x(last) - profile(last)) * DECAY ** (t - last)

DECAY and DAY_WEIGHT were chosen on ten grids of 2020-2022 (EIA-930 2022; DACF 2020-2021). There the
mean absolute percentage error is 2.1 / 4.2 / 6.2 / 7.9 / 9.1 / 11.2 / 12.4 at 1 / 3 / 6 / 12 / 24 /
48 / 96 h, against 2.8 / 6.3 / 8.5 / 9.5 / 9.5 / 12.5 / 13.9 of the best of persistence, same hour
yesterday and same hour last week; the 90 % interval covers 93 to 95 % at every lead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.carbon.roles import SlotSource
from router.errors import MissingIntensityError, MixedBasisError
from router.model import Forecast, Intensity, Kind, Signal

DAYS: Final = 9
WINDOW_H: Final = 24 * DAYS
DECAY: Final = 0.97
DAY_WEIGHT: Final = 0.85
# What the climatology weighs in a profile, in days like yesterday.
PRIOR_DAYS: Final = 0.5

# Half-width of the 90 % interval before a zone's own errors are known: ln 10 (Laplace error) times
# the persistence MAPE of eleven grids, 2021: 2.6 / 6.5 / 10.9 / 14.5 / 9.8 % at 1 / 3 / 6 / 12 /
# 24 h and 15 % at 96 h. Widths never shrink with lead, so 24 h takes the 14.5 of 12 h.
LEADS_H: Final = (0, 1, 3, 6, 12, 24, 48, 96)
PRIOR_HALF_WIDTH: Final = (0.0, 0.060, 0.150, 0.251, 0.334, 0.334, 0.340, 0.345)
# Own errors count as much as the prior once this many were seen.
PRIOR_ERRORS: Final = 48

# A horizon of 96 h after 48 h of silence reaches six days past the window.
_DAYS_BACK: Final = np.arange(1, DAYS + 7)[:, None]
_HOUR_S: Final = 3600.0
Hours = NDArray[np.float64]


@dataclass(slots=True)
class _Zone:
    """Hourly means of one grid zone: a ring of WINDOW_H hours, NaN where nothing was observed."""

    signal: Signal
    last: Intensity
    newest_h: int
    ring: Hours = field(default_factory=lambda: np.full(WINDOW_H, np.nan))
    readings: int = 0
    half_width: Hours | None = None

    def window(self) -> Hours:
        """The ring in order: oldest hour first, ``newest_h`` last."""
        return self.ring[np.arange(self.newest_h + 1, self.newest_h + 1 + WINDOW_H) % WINDOW_H]


class Nowcast:
    """The seasonal nowcast behind the Forecaster contract; bounded memory, no I/O, no clock."""

    def __init__(self, prior: SlotSource | None = None) -> None:
        """``prior``: what is usual, for hours not seen yet; ignored where its signal differs."""
        self._prior = prior
        self._zones: dict[str, _Zone] = {}

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        """Take in one observation; an older or repeated one changes nothing.

        It belongs to the hour in which its slot ends (``observed_at``); readings of one hour are
        averaged. Raises MixedBasisError when its signal is not that of the zone's earlier ones.
        """
        # A slot that ends on the hour belongs to the hour before.
        hour = math.ceil(intensity.observed_at / _HOUR_S) - 1
        zone = self._zones.get(grid_zone)
        if zone is None:
            zone = self._zones[grid_zone] = _Zone(intensity.signal, intensity, hour)
        elif intensity.signal != zone.signal:
            raise MixedBasisError(
                f"grid zone {grid_zone}: {intensity.source} is {'/'.join(intensity.signal)}, "
                f"observed so far: {'/'.join(zone.signal)}; use one signal a forecaster"
            )
        elif intensity.observed_at <= zone.last.observed_at:
            return
        if hour > zone.newest_h or not zone.readings:
            missed = range(zone.newest_h + 1, hour + 1)[-WINDOW_H:]
            zone.ring[[h % WINDOW_H for h in missed]] = np.nan
            zone.newest_h, zone.readings = hour, 0
        value, place = intensity.g_per_kwh, hour % WINDOW_H
        before = zone.ring[place] if zone.readings else 0.0
        zone.readings += 1
        zone.ring[place] = before + (value - before) / zone.readings
        zone.last = intensity
        zone.half_width = None

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        """``horizon_h`` hourly slots from the one containing ``now`` on, with a 90 % interval.

        ``observed_at`` and ``expires_at`` are those of the newest observation: a nowcast is as old
        as what it is made of. Raises MissingIntensityError when nothing was observed by ``now``.
        """
        zone = self._zones.get(grid_zone)
        first_h = math.floor(now / _HOUR_S)
        if zone is None or zone.newest_h > first_h:
            raise MissingIntensityError(f"grid zone {grid_zone}: nothing observed by {now:.0f}")
        lead_h = np.arange(first_h, first_h + horizon_h) - zone.newest_h
        window = zone.window()
        usual = self._usual(grid_zone, zone, window, first_h + horizon_h - zone.newest_h)
        values = _predict(window, usual, lead_h)
        halves = self._half_widths(zone, window, usual, lead_h)
        source = f"nowcast({zone.last.source})"
        slots = tuple(
            Intensity(
                g_per_kwh=value,
                low_g_per_kwh=value * max(0.0, 1.0 - half),
                high_g_per_kwh=value * (1.0 + half),
                signal=zone.signal,
                kind=Kind.FORECAST,
                source=source,
                observed_at=zone.last.observed_at,
                expires_at=zone.last.expires_at,
            )
            for value, half in zip(values.tolist(), halves.tolist(), strict=True)
        )
        return Forecast(grid_zone, first_h * _HOUR_S, _HOUR_S, slots)

    def _usual(self, grid_zone: str, zone: _Zone, window: Hours, ahead_h: int) -> Hours:
        """The prior over the window and the hours ahead, at the level lately observed; or NaN."""
        count = WINDOW_H + ahead_h
        start = (zone.newest_h - WINDOW_H + 1) * _HOUR_S
        known: Sequence[Intensity] = ()
        if self._prior is not None and self._prior.signal == zone.signal:
            known = self._prior.slots(grid_zone, start, count)
        if not known:
            return np.full(count, np.nan)
        usual = np.array([slot.g_per_kwh for slot in known])
        seen = ~np.isnan(window)
        observed_days = int(seen.sum()) / 24.0
        level = float(window[seen].mean() / usual[:WINDOW_H][seen].mean())
        # One day observed is worth as much as the prior's own level.
        scaled: Hours = usual * (1.0 + observed_days * level) / (1.0 + observed_days)
        return scaled

    def _half_widths(
        self, zone: _Zone, window: Hours, usual: Hours, lead_h: NDArray[np.int_]
    ) -> Hours:
        if zone.half_width is None:
            zone.half_width = _own_half_widths(window, usual[:WINDOW_H])
        last = zone.last
        own = (last.high_g_per_kwh - last.low_g_per_kwh) / 2.0
        own_relative = own / last.g_per_kwh if last.g_per_kwh > 0.0 else 0.0
        widths: Hours = np.hypot(np.interp(lead_h, LEADS_H, zone.half_width), own_relative)
        return widths


def _predict(window: Hours, usual: Hours, lead_h: NDArray[np.int_]) -> Hours:
    """f(t) of the module's docstring for leads >= 0 after the last hour of ``window``."""
    last = WINDOW_H - 1
    seen = window[~np.isnan(window)]
    profile = _profile(window, usual, last + np.append(lead_h, 0))
    profile = np.where(np.isnan(profile), seen.mean(), profile)
    departure = window[last] - profile[-1]
    values = profile[:-1] + departure * DECAY**lead_h
    plausible = np.concatenate([seen, usual[~np.isnan(usual)]])
    bounded: Hours = np.clip(values, 0.5 * plausible.min(), 1.5 * plausible.max())
    return np.where(lead_h == 0, window[last], bounded)


def _profile(window: Hours, usual: Hours, at: NDArray[np.int_]) -> Hours:
    """Weighted mean of the same hour on earlier days of ``window`` and of ``usual``.

    ``at``: indices into ``window``, past its end for hours ahead. NaN where nothing is known.
    """
    weights, weighted = _same_hour(window, at)
    return _blend(weights.sum(axis=0), weighted.sum(axis=0), usual[at])


def _same_hour(window: Hours, at: NDArray[np.int_]) -> tuple[Hours, Hours]:
    """Weights, and weights times values, of 1, 2, ... days before each index; shape (days, at)."""
    earlier = at[None, :] - 24 * _DAYS_BACK
    inside = (earlier >= 0) & (earlier < WINDOW_H)
    values = window[np.where(inside, earlier, 0)]
    known = inside & ~np.isnan(values)
    weights = np.where(known, DAY_WEIGHT**_DAYS_BACK, 0.0)
    return weights, weights * np.where(known, values, 0.0)


def _blend(weight: Hours, weighted: Hours, usual: Hours) -> Hours:
    known = ~np.isnan(usual)
    total = weight + PRIOR_DAYS * known
    summed = weighted + PRIOR_DAYS * np.where(known, usual, 0.0)
    return np.where(total > 0.0, summed / np.where(total > 0.0, total, 1.0), np.nan)


def _own_half_widths(window: Hours, usual: Hours) -> Hours:
    """Relative half-width of the 90 % interval at LEADS_H: own past errors, the prior when few.

    Every hour of the window is predicted from what was known at each lead; the 90 % quantile of
    the relative error counts by the number of errors seen.
    """
    weights, weighted = _same_hour(window, np.arange(WINDOW_H))
    # Row k: the sums over k + 1 and more days back, which is all that is known 24 k h before.
    weights, weighted = (np.cumsum(part[::-1], axis=0)[::-1] for part in (weights, weighted))
    departure = window - _blend(weights[0], weighted[0], usual)
    widths = np.array(PRIOR_HALF_WIDTH)
    for index, lead_h in enumerate(LEADS_H[1:], 1):
        row = (lead_h - 1) // 24
        values = _blend(weights[row], weighted[row], usual)[lead_h:]
        values = values + departure[:-lead_h] * DECAY**lead_h
        usable = ~np.isnan(window[lead_h:]) & (values > 0.0)
        errors = np.abs(window[lead_h:] - values)[usable] / values[usable]
        if errors.size:
            quantile = float(np.quantile(errors, 0.9))
            widths[index] += (quantile - widths[index]) * errors.size / (errors.size + PRIOR_ERRORS)
    grown: Hours = np.maximum.accumulate(widths)
    return grown
