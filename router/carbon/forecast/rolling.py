"""Forecasts of many grid zones after every hour of a table: `ZoneModel` over what is all at hand.

What the experts say after an hour depends on the table up to that hour alone, so a day's worth is
computed at once; weights, bands and what the weather corrects learn hour by hour, as they do live.
All are the product's own (``Regressions``, ``seasonal``, ``Mix``, ``Bands``, ``ZoneWeather``), the
zones side by side where a model has leads. Figures are those of a `ZoneModel` that observes every
hour, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from router.carbon.forecast import seasonal
from router.carbon.forecast.conformal import LEVELS, Bands
from router.carbon.forecast.design import DAY_H, WEEK_H, WINDOW_H, Array
from router.carbon.forecast.mixing import EXPERTS, REGRESSIONS, Mix
from router.carbon.forecast.regressions import LEADS_H, REACH_H, RING_H, Regressions
from router.carbon.forecast.weather import CorrectedForecast, ZoneWeather
from router.carbon.forecast.zone import Usual, bridge, log_of, place_of
from router.carbon.weather.conditions import WeatherForecast

_LOW, _HIGH = LEVELS.index(0.05), LEVELS.index(0.95)


class Rolling:
    """Takes in a table row by row; holds the newest forecast of each grid zone.

    ``newest_h`` (zones,): hours since 1970, the last hour that was known, -1 for none yet.
    ``log_point``, ``low``, ``high`` (zones, leads): the forecast issued after it, in the log, and
    what to add for the 5 % and the 95 % quantile.
    """

    def __init__(
        self,
        g_per_kwh: Array,
        first_h: int,
        usual: Sequence[Usual | None],
        offset_g: float = 0.0,
        leads_h: NDArray[np.int64] = LEADS_H,
        weather: Sequence[WeatherForecast | None] = (),
    ) -> None:
        """``g_per_kwh``: (hours, zones), the first of ``first_h``; NaN where nothing is observed.

        ``usual``: a zone each. ``leads_h``: as for `ZoneModel`. ``weather``: a zone each, or none
        at all; what one says of an hour is taken to have been known at every lead.
        """
        hours, zones = g_per_kwh.shape
        self._leads_h, self._offset_g = leads_h, offset_g
        self._first_h, self._at = first_h, 0
        before = np.full((RING_H, zones), np.nan)
        # Past RING_H rows of nothing: a window of them ends at every row.
        self._grams = np.ascontiguousarray(np.concatenate([before, g_per_kwh]).T)
        self._logs = log_of(self._grams, offset_g)
        self._known = ~np.isnan(self._grams)
        self._begins = np.where(self._known.any(axis=1), self._known.argmax(axis=1), hours + RING_H)
        self._usual = self._usual_grams(usual, hours)
        self._regressions = [Regressions(leads_h) for _ in range(zones)]
        self._weather = {
            zone: ZoneWeather(leads_h, one) for zone, one in enumerate(weather) if one is not None
        }
        self._absorbed_h = np.full(zones, -1, np.int64)
        columns = zones * len(leads_h)
        self._mix = Mix(columns)
        self._bands = Bands(np.tile(leads_h.astype(np.float64), zones))
        # By the hour that is forecast, so that what is scored together lies together.
        shape = REACH_H, len(EXPERTS) + 1, zones, len(leads_h)
        self._pending = np.full(shape, np.nan, np.float32)
        self._experts = np.empty((0, len(EXPERTS), zones, len(leads_h)))
        self._experts_from = 0
        self.newest_h = np.full(zones, -1, np.int64)
        self.log_point, self.low, self.high = np.full((3, zones, len(leads_h)), np.nan)

    def advance(self, rows: int) -> None:
        """Take in the table's rows up to ``rows``; those taken in already stay so."""
        while self._at < rows:
            if self._at >= self._experts_from + len(self._experts):
                self._day()
            self._hour(self._at)
            self._at += 1

    @property
    def rows(self) -> int:
        """How many were taken in."""
        return self._at

    def place(self, lead_h: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where leads >= 1 stand in the last axis of a forecast; as `ZoneModel.place`."""
        return place_of(lead_h, self._leads_h)

    def _usual_grams(self, usual: Sequence[Usual | None], hours: int) -> Array:
        """Shape (zones, hours and what is asked around them); NaN where nothing is known."""
        begin = self._first_h - seasonal.WINDOW_H + 1
        count = hours + seasonal.WINDOW_H - 1 + int(self._leads_h[-1])
        grams = np.full((len(usual), count), np.nan)
        for zone, ask in enumerate(usual):
            found = ask(begin, count) if ask is not None else grams[:0]
            if len(found) == count:
                grams[zone] = found
        return grams

    def _day(self) -> None:
        """What the experts say after every hour from the next one to the end of its day."""
        hour = self._first_h + self._at
        count = min(DAY_H - hour % DAY_H, self._grams.shape[1] - RING_H - self._at)
        zones, leads_h = len(self._grams), self._leads_h
        said = np.empty((count, len(EXPERTS), zones, len(leads_h)))
        for zone in range(zones):
            self._absorb(zone, self._at, count)
            history = self._histories(zone, self._at, count)
            origins = hour + 1 + np.arange(count)
            fits = self._regressions[zone].predict(history[:, -WINDOW_H:], origins)
            said[:, :REGRESSIONS, zone] = fits.transpose(1, 0, 2)
            said[:, REGRESSIONS + 1, zone] = history[:, -1:]
            for place, period_h in ((2, DAY_H), (3, WEEK_H)):
                back = (leads_h - 1) % period_h - period_h
                said[:, REGRESSIONS + place, zone] = history[:, back]
        said[:, REGRESSIONS] = self._seasonal(count)
        self._experts, self._experts_from = said, self._at

    def _seasonal(self, count: int) -> Array:
        span, ahead = seasonal.WINDOW_H, int(self._leads_h[-1])
        begin = self._at + RING_H - span + 1
        seen = self._grams[:, begin : begin + span + count - 1]
        windows = sliding_window_view(seen, span, axis=1).transpose(1, 0, 2)
        expected = self._usual[:, self._at : self._at + span + ahead + count - 1]
        usual = sliding_window_view(expected, span + ahead, axis=1).transpose(1, 0, 2)
        known = ~np.isnan(windows[:, :, -1])
        said = np.full((count, len(self._grams), len(self._leads_h)), np.nan)
        if known.any():
            window = windows[known]
            grams = seasonal.predict(window, seasonal.at_level(usual[known], window), self._leads_h)
            said[known] = log_of(grams, self._offset_g)
        return said

    def _histories(self, zone: int, first: int, count: int) -> Array:
        """Shape (count, RING_H): what is known after rows from ``first`` on, gaps bridged."""
        logs = self._logs[zone, first + 1 : first + RING_H + count]
        histories = sliding_window_view(logs, RING_H)
        begins = max(0, int(self._begins[zone]) - first - 1)
        if np.isnan(logs[begins:]).any():
            return np.array([bridge(history) for history in histories])
        return histories

    def _absorb(self, zone: int, first: int, count: int) -> None:
        """Let days that are over teach the regressions, once an hour after them is observed.

        As `ZoneModel.observe` does: a silence longer than its memory teaches nothing.
        """
        seen = np.flatnonzero(self._known[zone, RING_H + first : RING_H + first + count])
        if not len(seen):
            return
        hour = self._first_h + first + int(seen[0])
        last_h = self._absorbed_h[zone]
        if last_h < 0:
            last_h = hour - 1
        if hour - last_h <= RING_H:
            for midnight in range((last_h // DAY_H + 1) * DAY_H, hour + 1, DAY_H):
                history = self._histories(zone, midnight - 1 - self._first_h, 1)[0]
                self._regressions[zone].absorb(history, midnight)
        self._absorbed_h[zone] = self._first_h + first + int(seen[-1])

    def _hour(self, row: int) -> None:
        """Issue what the experts come to, then score what was forecast for this hour."""
        hour, known = self._first_h + row, self._known[:, RING_H + row]
        if not known.any():
            self._keep(hour, np.full(self._pending.shape[1:], np.nan))
            return
        experts = self._experts[row - self._experts_from]
        if not known.all():
            # Something to weigh, lest nothing is divided by nothing; it is not used.
            experts[:, ~known] = np.nan
            experts[REGRESSIONS + 1, ~known] = 0.0
        zones, leads = self.log_point.shape
        flat = experts.reshape(len(EXPERTS), -1)
        available = ~np.isnan(flat)
        weights = self._mix.weights(available)
        point = np.where(available, weights * np.where(available, flat, 0.0), 0.0).sum(axis=0)
        point = point.reshape(zones, leads)
        corrected = self._correct(row, known, point)
        offsets = self._bands.offsets(np.tile((hour + self._leads_h) % DAY_H, zones))
        for held, fresh in (
            (self.log_point, point), (self.low, offsets[_LOW]), (self.high, offsets[_HIGH]),
        ):  # fmt: skip
            held[known] = fresh.reshape(zones, leads)[known]
        self.newest_h[known] = hour
        value = np.where(known, self._logs[:, RING_H + row], np.nan)
        past = self._pending[hour % REACH_H].astype(np.float64)
        errors = (value[:, None] - past).reshape(len(EXPERTS) + 1, -1)
        self._mix.learn(errors[:-1])
        self._bands.learn(errors[-1], hour % DAY_H)
        for zone, said in corrected.items():
            self._weather[zone].learn(hour, float(value[zone]))
            if said is not None:
                self._weather[zone].keep(hour + 1, said)
        issued = np.concatenate([experts, point[None]])
        issued[:, ~known] = np.nan
        self._keep(hour, issued)

    def _correct(
        self, row: int, known: NDArray[np.bool_], point: Array
    ) -> dict[int, CorrectedForecast | None]:
        """Lets the weather correct ``point`` (zones, leads) where it can; by zone of those with
        weather that are ``known``, what was said."""
        found = {}
        for zone, weather in self._weather.items():
            if known[zone]:
                week = self._histories(zone, row, 1)[0, -WEEK_H:]
                said = weather.say(self._first_h + row + 1, point[zone].copy(), week)
                if said is not None:
                    point[zone] = said.point
                found[zone] = said
        return found

    def _keep(self, hour: int, issued: Array) -> None:
        rows = (hour + self._leads_h) % REACH_H
        places = np.arange(len(rows))
        self._pending[rows, :, :, places] = issued.transpose(2, 0, 1)
