"""``forecast-eval``: from a file of intensities to scores, files and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from router.carbon.forecast.nowcast import OFFSET_G
from router.carbon.tables.table import read_table
from router.carbon.weather.table import FORMAT as WEATHER_FORMAT
from router.carbon.weather.table import read_weather
from router.errors import TraceError
from router.lab.backtest import files
from router.lab.backtest.metrics import Regret, Score, regret, score
from router.lab.backtest.rolling import HORIZONS_H, ZoneRun, run_zone
from router.lab.backtest.series import HourlySeries, choose, hourly_series
from router.model import Factors
from router.units import HOUR_S

PLOT: Final = "mape.png"


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """All scores, in the order of the file's grid zones, and the paths written."""

    file: str
    grid_zones: tuple[str, ...]
    first_origin: float
    origins: int
    scores: tuple[Score, ...]
    regrets: tuple[Regret, ...]
    written: tuple[Path, ...]


def parse_zones(text: str) -> tuple[str, ...]:
    """Zone names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def evaluate(
    data: Path,
    grid_zones: Sequence[str],
    train_until: float,
    *,
    factors: Factors = Factors.LIFECYCLE,
    every: int = 1,
    out: Path | None = None,
    weather: Path | None = None,
    progress: Callable[[str, float], None] = lambda zone, share: None,
) -> BacktestResult:
    """Backtest every zone of ``data`` from ``train_until`` (unix seconds) to its end.

    ``every``: an origin every so many hours. ``out``: folder for metrics.csv, regret.csv,
    forecasts.parquet and, with matplotlib, the plot; it is created. ``progress`` is given the grid
    zone at work and the share done. ``weather``: a table of `router.carbon.weather.table`, whose
    hours are taken to have been known at every origin as they stand there. Raises TraceError (file,
    zones, dates), ConfigError.
    """
    series = choose(hourly_series(read_table(data, factors, only=grid_zones or None)), grid_zones)
    origins = _origins(series, train_until, every)
    ahead = {} if weather is None else read_weather(weather, series.grid_zones, math.inf)
    if weather is not None and not ahead:
        raise TraceError(f"{weather.name}: has none of the grid zones; {WEATHER_FORMAT}")
    runs: list[ZoneRun] = []
    scores: list[Score] = []
    hours = len(series.g_per_kwh)
    with ExitStack() as stack:
        writer = None
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            writer = stack.enter_context(
                files.ForecastWriter(out / files.FORECASTS, series.first_h)
            )
        for column, zone in enumerate(series.grid_zones):
            ticks = _Ticks(zone, column, len(series.grid_zones), hours, progress)
            run = run_zone(
                zone,
                series.g_per_kwh[:, column],
                series.first_h,
                origins,
                offset_g=OFFSET_G[factors],
                tick=ticks,
                weather=ahead.get(zone),
            )
            scores += score(run)
            if writer is not None:
                writer.add(run, hours)
            runs.append(run)
    regrets = regret(runs)
    written = _write(out, scores, regrets) if out is not None else ()
    return BacktestResult(
        data.name,
        series.grid_zones,
        (series.first_h + int(origins[0])) * HOUR_S,
        len(origins),
        tuple(scores),
        tuple(regrets),
        written,
    )


class _Ticks:
    """Turns days walked through into a share of the whole."""

    def __init__(
        self,
        zone: str,
        place: int,
        zones: int,
        hours: int,
        on_progress: Callable[[str, float], None],
    ) -> None:
        self._zone, self._on_progress = zone, on_progress
        self._done, self._step = place / zones, 24.0 / hours / zones

    def __call__(self) -> None:
        self._done += self._step
        self._on_progress(self._zone, min(self._done, 1.0))


def _origins(series: HourlySeries, train_until: float, every: int) -> np.ndarray:
    """Rows of the series; the first is ``train_until`` rounded up to an hour."""
    first = int(np.ceil(train_until / HOUR_S)) - series.first_h
    last = len(series.g_per_kwh) - 1
    if not 1 <= first <= last:
        begin, end = (np.datetime64(series.first_h + row, "h").astype(str) for row in (1, last))
        raise TraceError(
            f"{series.name}: --train-until must lie between {begin}Z and {end}Z, so that there is "
            "something to learn from before it and something to forecast after it"
        )
    return np.arange(first, last + 1, every, dtype=np.int64)


def _write(out: Path, scores: Sequence[Score], regrets: Sequence[Regret]) -> tuple[Path, ...]:
    files.write_metrics(out / files.METRICS, scores)
    written = [out / files.METRICS, out / files.FORECASTS]
    if regrets:
        files.write_regret(out / files.REGRET, regrets)
        written.append(out / files.REGRET)
    try:
        from router.lab.backtest.plot import draw

        written.append(draw(scores, out / PLOT))
    except ImportError:
        # The picture is an extra; the figures are all in the files.
        pass
    return tuple(written)


__all__ = ["HORIZONS_H", "BacktestResult", "evaluate", "parse_zones"]
