"""The forecaster of one grid zone: history in a ring, regressions, weights and bands on top.

Hours are counted from 1970 in UTC. Everything learnt at an hour comes from hours before it: errors
are scored when the hour after the scored one arrives, and a day enters the regressions once the
furthest lead from its last hour has been seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.carbon.forecast import seasonal
from router.carbon.forecast.conformal import Bands
from router.carbon.forecast.design import DAY_H, WEEK_H, WINDOW_H, Array
from router.carbon.forecast.mixing import EXPERTS, REGRESSIONS, Mix
from router.carbon.forecast.regressions import LEADS_H, REACH_H, RING_H, Regressions
from router.carbon.forecast.weather import CorrectedForecast, ZoneWeather
from router.carbon.weather.conditions import WeatherForecast

# A gap up to this long is bridged by the day before; a longer one stays a gap.
BRIDGED_H: Final = DAY_H
BRIDGE_FADE: Final = 0.9
# Half a gram: where a rounded reading says 0.
FLOOR_G: Final = 0.5

Usual = Callable[[int, int], Array]
"""(first hour, count) -> what is usual in g/kWh; empty when nothing is known."""


class ZoneForecast(NamedTuple):
    """A forecast as issued before ``origin_h``, for the slots ``origin_h - 1 + lead``; g/kWh.

    ``point``: (leads,), the median. ``experts``: (experts, leads) in the log, NaN where one has
    nothing to say. ``log_point``: (leads,). ``offsets``: (levels, leads) in the log. ``weather``:
    what the weather ahead made of it, None where it had no say.
    """

    origin_h: int
    point: Array
    log_point: Array
    offsets: Array
    experts: Array
    weather: CorrectedForecast | None = None


class ZoneModel:
    """Observes hourly means one after the other, and forecasts after any of them."""

    def __init__(
        self,
        first_h: int,
        leads_h: NDArray[np.int64] = LEADS_H,
        *,
        offset_g: float = 0.0,
        usual: Usual | None = None,
    ) -> None:
        """``leads_h``: which leads to forecast, 1 to 96; each is forecast as it would be alone.
        ``offset_g``: added before the log, for signals that come near 0.
        """
        leads = len(leads_h)
        self.newest_h = first_h - 1
        self._leads_h = leads_h
        self._offset_g = offset_g
        self._usual = usual
        self._ring = np.full(RING_H, np.nan)
        self._regressions = Regressions(leads_h)
        self._mix = Mix(leads)
        self._bands = Bands(leads_h.astype(np.float64))
        self._pending = np.full((REACH_H, len(EXPERTS) + 1, leads), np.nan, dtype=np.float32)
        self._issued_h = np.full(REACH_H, -1, dtype=np.int64)
        self._issue: ZoneForecast | None = None
        self._weather: ZoneWeather | None = None

    def take_weather(self, forecast: WeatherForecast | None) -> None:
        """The newest weather forecast: from now on it has its say; None: none has."""
        if self._weather is None:
            self._weather = ZoneWeather(self._leads_h)
        self._weather.forecast = forecast
        self._issue = None

    def value(self, hour: int) -> float:
        """What is known of ``hour``: g/kWh, NaN when nothing (any more)."""
        if not self.newest_h - RING_H < hour <= self.newest_h:
            return float("nan")
        return float(self._ring[hour % RING_H])

    def observe(
        self, hour: int, g_per_kwh: float, *, score: bool = True, issue: bool = True
    ) -> None:
        """Set the mean of ``hour``; a new hour makes the ones before it final and learns from them.

        An hour of the last 36 days is corrected in place; an earlier one changes nothing. Without
        ``score`` only the regressions learn: for history so old that its errors no longer count.
        Without ``issue`` no forecast is made for what comes after, to be scored in its turn.
        """
        if hour > self.newest_h:
            if score:
                self._learn(issue)
            self._advance(hour)
        elif hour <= self.newest_h - RING_H:
            return
        self._ring[hour % RING_H] = g_per_kwh
        self._issue = None

    def issue(self) -> ZoneForecast:
        """The forecast from what is known now; the newest hour must be known."""
        if self._issue is None:
            self._issue = self._forecast()
        return self._issue

    def place(self, lead_h: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where leads >= 1 stand in the last axis of an issue; past the last one its day repeats.

        Every lead must be among those of the model.
        """
        return place_of(lead_h, self._leads_h)

    def _learn(self, keep: bool) -> None:
        """Score what was forecast for the newest hour, then ``keep`` what is forecast after it."""
        value = self.value(self.newest_h)
        if np.isnan(value):
            return
        # Before anything is learnt: what is issued must not depend on whether it was asked for.
        issue = self.issue() if keep else None
        origins = self.newest_h + 1 - self._leads_h
        rows = origins % REACH_H
        past = self._pending[rows, :, np.arange(len(rows))].astype(np.float64)
        past[self._issued_h[rows] != origins] = np.nan
        log_value = float(self._log(np.array(value)))
        errors = log_value - past.T
        self._mix.learn(errors[:-1])
        self._bands.learn(errors[-1], self.newest_h % DAY_H)
        if self._weather is not None:
            self._weather.learn(self.newest_h, log_value)
        if issue is None:
            return
        if self._weather is not None and issue.weather is not None:
            self._weather.keep(issue.origin_h, issue.weather)
        row = issue.origin_h % REACH_H
        self._pending[row, :-1] = issue.experts
        self._pending[row, -1] = issue.log_point
        self._issued_h[row] = issue.origin_h

    def _advance(self, hour: int) -> None:
        """Make ``hour`` the newest, with gaps before it; days that are over are learnt from."""
        if hour - self.newest_h > RING_H:
            self._ring[:] = np.nan
            self.newest_h = hour
            return
        for midnight in range((self.newest_h // DAY_H + 1) * DAY_H, hour + 1, DAY_H):
            self._blank(midnight - 1)
            self._regressions.absorb(self._history(), midnight)
        self._blank(hour)

    def _blank(self, until_h: int) -> None:
        self._ring[np.arange(self.newest_h + 1, until_h + 1) % RING_H] = np.nan
        self.newest_h = until_h

    def _forecast(self) -> ZoneForecast:
        origin = self.newest_h + 1
        history = self._history()
        experts = np.full((len(EXPERTS), len(self._leads_h)), np.nan)
        window = history[None, -WINDOW_H:]
        experts[:REGRESSIONS] = self._regressions.predict(window, np.array([origin]))[:, 0]
        experts[REGRESSIONS] = self._seasonal()
        experts[REGRESSIONS + 1] = history[-1]
        for place, period_h in ((2, DAY_H), (3, WEEK_H)):
            experts[REGRESSIONS + place] = history[(self._leads_h - 1) % period_h - period_h]
        available = ~np.isnan(experts)
        weights = self._mix.weights(available)
        log_point = np.where(available, weights * np.where(available, experts, 0.0), 0.0).sum(
            axis=0
        )
        said = None
        if self._weather is not None:
            said = self._weather.say(origin, log_point, history[-WEEK_H:])
        if said is not None:
            log_point = said.point
        hours_of_day = (self.newest_h + self._leads_h) % DAY_H
        offsets = self._bands.offsets(hours_of_day)
        return ZoneForecast(origin, self.grams(log_point), log_point, offsets, experts, said)

    def grams(self, logs: Array) -> Array:
        """From the log back to g/kWh, never below 0."""
        return grams_of(logs, self._offset_g)

    def _seasonal(self) -> Array:
        span = seasonal.WINDOW_H
        hours = np.arange(self.newest_h - span + 1, self.newest_h + 1)
        window = self._ring[hours % RING_H]
        count = span + int(self._leads_h[-1])
        usual = self._usual(int(hours[0]), count) if self._usual is not None else np.empty(0)
        if len(usual) != count:
            usual = np.full(count, np.nan)
        values = seasonal.predict(window, seasonal.at_level(usual, window), self._leads_h)
        return self._log(values)

    def _log(self, values: Array) -> Array:
        return log_of(values, self._offset_g)

    def _history(self) -> Array:
        """The ring in order, in the log, short gaps bridged by the day before them."""
        order = np.arange(self.newest_h - RING_H + 1, self.newest_h + 1) % RING_H
        return bridge(self._log(self._ring[order]))


def place_of(lead_h: NDArray[np.int64], leads_h: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where leads >= 1 stand among ``leads_h``; past the last one its day repeats."""
    within = np.where(lead_h <= REACH_H, lead_h, REACH_H - DAY_H + (lead_h - 1) % DAY_H + 1)
    return np.searchsorted(leads_h, within)


def log_of(values: Array, offset_g: float) -> Array:
    """The log that is forecast, of g/kWh; NaN stays NaN."""
    logs: Array = np.log(np.maximum(values + offset_g, FLOOR_G))
    return logs


def grams_of(logs: Array, offset_g: float) -> Array:
    """From the log back to g/kWh, never below 0."""
    grams: Array = np.maximum(np.exp(logs) - offset_g, 0.0)
    return grams


def bridge(logs: Array) -> Array:
    """Fill gaps of up to BRIDGED_H from what came before them: the day before, shifted."""
    missing = np.flatnonzero(np.isnan(logs))
    filled = logs.copy()
    begins = np.diff(missing, prepend=-2) > 1
    run = np.arange(len(missing)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
    for place in missing[(run < BRIDGED_H) & (missing > DAY_H)].tolist():
        departure = filled[place - 1] - filled[place - 1 - DAY_H]
        yesterday = filled[place - DAY_H]
        bridged = yesterday + BRIDGE_FADE * departure
        filled[place] = filled[place - 1] if np.isnan(bridged) else bridged
    return filled
