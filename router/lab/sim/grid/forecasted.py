"""The product's own forecaster as a carbon signal: fed with every value once it is published."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.carbon.chain.sources import SlotSource
from router.carbon.forecast.nowcast import OFFSET_G, usual_of, widened
from router.carbon.forecast.regressions import LEADS_H
from router.carbon.forecast.rolling import Rolling
from router.carbon.forecast.zone import grams_of
from router.carbon.tables.table import TraceTable
from router.carbon.weather.conditions import WeatherForecast
from router.core.rungs import CI_HOURS
from router.lab.sim.grid.actual import select
from router.lab.sim.grid.signal_columns import ColumnsBuilder, SignalColumns, side_by_side
from router.lab.sim.grid.signals import HORIZON_H, Hourly, Standing, with_standing
from router.model import Forecast, Intensity, Kind, Signal
from router.units import HOUR_S

Floats = NDArray[np.float64]
# Beyond the lag and the horizon: the hours at both ends that are under way.
_MARGIN_H: Final = 2
# Grid zones whose forecasts are made together: more are quicker, fewer keep more cores busy.
_TOGETHER: Final = 12


class _Look(NamedTuple):
    """All zones at one moment: ``bands`` (3, zones, hours) value, low, high; ``newest_h`` (zones,),
    the last hour that was known, -1 where none was.
    """

    bands: Floats
    newest_h: NDArray[np.int64]


class Forecasted:
    """A GridSignal of what the forecaster says at every moment of what was published by then.

    Figures are those of `router.carbon.forecast.Nowcast` when it observes every value, but for
    rounding. Views, and columns over a span, are kept, so that only the first pass pays.
    """

    def __init__(
        self,
        table: TraceTable,
        signal: Signal,
        lag_s: float,
        standing: Standing,
        usual: SlotSource | None,
        history_s: float,
        weather: Mapping[str, WeatherForecast] = MappingProxyType({}),
    ) -> None:
        """``usual``: what is usual, for hours not seen yet; ignored where its signal differs.
        ``history_s``: how far back the forecaster is fed before the first view. ``weather``: by
        grid zone; what one says of an hour is taken to have been known as far ahead as is asked.
        """
        self._known = Hourly(table, signal, lag_s)
        self._standing = standing
        self._prior = usual
        self._history_h = math.ceil(history_s / HOUR_S)
        self._weather = dict(weather)
        self._views: dict[float, _Look] = {}
        self._columns: dict[tuple[float, float], SignalColumns] = {}
        self._leads_h = LEADS_H
        reach = math.ceil(lag_s / HOUR_S) + HORIZON_H + _MARGIN_H
        if reach < len(LEADS_H) and not _gaps(table.g_per_kwh).any():
            # Each lead is forecast as it would be alone, and no more are asked for.
            self._leads_h = LEADS_H[:reach]
        self._apart: Sequence[Forecasted] = ()
        self._rolling: Rolling | None = None
        self._first_row = 0

    def __getstate__(self) -> dict[str, Any]:
        """Travels to other processes with what it keeps; a forecaster is made anew where needed."""
        return {**self.__dict__, "_rolling": None, "_apart": ()}

    @property
    def grid_zones(self) -> tuple[str, ...]:
        """Of the table."""
        return self._known.table.grid_zones

    def parts(self) -> Sequence[Forecasted]:
        """The same signal on some of its grid zones each: how many together depends on the table
        alone, as the last bits of a figure may depend on it.
        """
        known, count = self._known, math.ceil(len(self.grid_zones) / _TOGETHER)
        return [
            Forecasted(
                select(known.table, zones.tolist()), known.signal, known.lag_s, self._standing,
                self._prior, self._history_h * HOUR_S,
                {zone: self._weather[zone] for zone in zones.tolist() if zone in self._weather},
            )
            for zones in np.array_split(np.array(self.grid_zones), count)
        ]  # fmt: skip

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start``, every full hour and every publication."""
        return self._known.updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """HORIZON_H hours as the forecaster sees them at ``now``."""
        look = self._views.get(now)
        if look is None:
            look = self._views[now] = self._look(now)
        return self._forecasts(now, look)

    def columns(self, start: float, end: float) -> SignalColumns:
        """The views at every update in [start, end); see `router.lab.sim.grid.signal_columns`."""
        found = self._columns.get((start, end))
        if found is None:
            if len(self.grid_zones) > _TOGETHER:
                self._apart = self._apart or self.parts()
                found = side_by_side([part.columns(start, end) for part in self._apart])
            else:
                found = self._tell(list(self.updates(start, end)))
            self._columns[start, end] = found
        return found

    def _tell(self, at: list[float]) -> SignalColumns:
        builder = ColumnsBuilder(at)
        zones = [builder.zone(zone) for zone in self.grid_zones]
        for update, now in enumerate(at):
            look = self._look(now)
            if update == 0:
                builder.first = self._forecasts(now, look)
            for place, newest_h in enumerate(look.newest_h.tolist()):
                if newest_h >= 0:
                    g_per_kwh, observed_at, expires_at, _ = zones[place]
                    g_per_kwh[update] = look.bands[0, place, :CI_HOURS]
                    observed_at[update], expires_at[update] = self._known_from(newest_h)
                elif usual := self._standing.forecast(self.grid_zones[place], now):
                    builder.put(update, usual.grid_zone, usual.slots)
        return builder.build()

    def _forecasts(self, now: float, look: _Look) -> Mapping[str, Forecast]:
        known, start = self._known, math.floor(now / HOUR_S) * HOUR_S
        found = {}
        for place, zone in enumerate(self.grid_zones):
            newest_h = int(look.newest_h[place])
            if newest_h < 0:
                continue
            observed_at, expires_at = self._known_from(newest_h)
            source = self._source(zone)
            slots = tuple(
                Intensity(
                    value, low, high, known.signal, Kind.FORECAST, source,
                    observed_at, expires_at,
                )
                for value, low, high in look.bands[:, place].T.tolist()
            )  # fmt: skip
            found[zone] = Forecast(zone, start, HOUR_S, slots)
        return with_standing(found, self.grid_zones, self._standing, now)

    def _source(self, zone: str) -> str:
        beside = f", {self._weather[zone].source}" if zone in self._weather else ""
        return f"nowcast(trace:{self._known.table.name}{beside})"

    def _known_from(self, newest_h: int) -> tuple[float, float]:
        """When the value of an hour was observed, and when it expires."""
        observed_at = (newest_h + 1) * HOUR_S
        return observed_at, observed_at + self._known.lag_s + 2 * HOUR_S

    def _look(self, now: float) -> _Look:
        known = self._known
        rows = known.published(now)
        first_h = math.floor(now / HOUR_S)
        rolling = self._rolled(rows)
        newest_h = rolling.newest_h.copy()
        lead_h = first_h + np.arange(HORIZON_H) - newest_h[:, None]
        seen = newest_h >= 0
        if len(self._leads_h) < len(LEADS_H) and (lead_h[seen] > self._leads_h[-1]).any():
            # Past the end of the table: leads that nobody thought of.
            self._leads_h = LEADS_H
            self._rolling = self._begin()
            return self._look(now)
        lead_h = np.where(seen[:, None], lead_h, 1)
        place = rolling.place(lead_h)
        log_point, low, high = (
            np.take_along_axis(part, place, axis=1)
            for part in (rolling.log_point, rolling.low, rolling.high)
        )
        wider = widened(lead_h)
        offset_g = OFFSET_G[known.signal.factors]
        value = grams_of(log_point, offset_g)
        bottom = grams_of(log_point - np.maximum(-low * wider, 0.0), offset_g)
        top = grams_of(log_point + np.maximum(high * wider, 0.0), offset_g)
        bands = np.stack([value, np.minimum(bottom, value), np.maximum(top, value)])
        return _Look(bands, newest_h)

    def _rolled(self, rows: int) -> Rolling:
        """The forecaster, fed with the first ``rows`` rows, from ``history_s`` before them on."""
        if self._rolling is None or rows < self._first_row + self._rolling.rows:
            self._first_row = max(0, rows - self._history_h)
            self._rolling = self._begin()
        self._rolling.advance(rows - self._first_row)
        return self._rolling

    def _begin(self) -> Rolling:
        known = self._known
        usual = [usual_of(self._prior, zone, known.signal) for zone in self.grid_zones]
        return Rolling(
            known.table.g_per_kwh[self._first_row :], known.first_h + self._first_row, usual,
            OFFSET_G[known.signal.factors], self._leads_h,
            [self._weather.get(zone) for zone in self.grid_zones],
        )  # fmt: skip


def _gaps(g_per_kwh: Floats) -> NDArray[np.bool_]:
    """Shape (zones,): whether something is missing after the first value."""
    known = ~np.isnan(g_per_kwh)
    begun = np.maximum.accumulate(known, axis=0)
    gaps: NDArray[np.bool_] = np.any(begun & ~known, axis=0)
    return gaps
