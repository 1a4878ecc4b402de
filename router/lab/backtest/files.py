"""What an evaluation leaves on disk, so that anyone can recompute its table.

Stamps are starts of hours, as in the input. ``issued_at`` is the newest hour known when a forecast
was made (it is made when that hour ends), ``valid_at`` the hour forecast: their difference is the
horizon, and the value to compare with stands in the input's row of ``valid_at``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from router.extras import need
from router.lab.backtest.metrics import QUANTILES, Regret, Score
from router.lab.backtest.rolling import HORIZONS_H, METHODS, ZoneRun

METRICS: Final = "metrics.csv"
REGRET: Final = "regret.csv"
FORECASTS: Final = "forecasts.parquet"
_DIGITS: Final = 6
COLUMNS: Final = (
    *("zone", "issued_at", "valid_at", "method", "mean"),
    *("q025", "q05", "q25", "q50", "q75", "q95", "q975"),
)


def write_metrics(path: Path, scores: Iterable[Score]) -> None:
    """``metrics.csv``: a row a grid zone, horizon and method; blank where nothing was scored."""
    _write(path, Score._fields, scores)


def write_regret(path: Path, regrets: Iterable[Regret]) -> None:
    """``regret.csv``: a row a horizon and method."""
    _write(path, Regret._fields, regrets)


def _write(path: Path, header: Sequence[str], rows: Iterable[NamedTuple]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(cell) for cell in row] for row in rows)


def _cell(cell: Any) -> Any:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else round(cell, _DIGITS)
    return cell


class ForecastWriter:
    """Writes forecasts.parquet zone by zone, a context manager. Raises ConfigError without pyarrow.

    ``mean`` is the forecast itself, which for every method is also its ``q50``. A row is there when
    every method could forecast it and the input covers its hour.
    """

    def __init__(self, path: Path, first_h: int) -> None:
        """``first_h``: hour (since 1970) of the input's first row."""
        with need("parquet", "writing forecasts", file=str(path), key="--out"):
            import pyarrow
            import pyarrow.parquet
        self._arrow = pyarrow
        stamp = pyarrow.timestamp("us", tz="UTC")
        types = [pyarrow.string(), stamp, stamp, pyarrow.string()]
        types += [pyarrow.float32()] * (1 + len(QUANTILES))
        self._schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._first_h = first_h

    def __enter__(self) -> ForecastWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, run: ZoneRun, hours: int) -> None:
        """Append one grid zone; ``hours``: rows of the input."""
        targets = run.origins[:, None] + HORIZONS_H - 1
        usable = (targets < hours) & ~np.isnan(run.quantiles).any(axis=(0, 3))
        issued = np.broadcast_to(run.origins[:, None] - 1, targets.shape)[usable]
        count = int(usable.sum())
        for method, rows in zip(METHODS, run.quantiles[:, usable], strict=True):
            columns: list[Any] = [
                [run.grid_zone] * count,
                self._stamps(issued),
                self._stamps(targets[usable]),
                [method] * count,
                rows[:, QUANTILES.index(0.5)],
                *rows.T,
            ]
            arrays = [
                self._arrow.array(column, type=field.type)
                for column, field in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def _stamps(self, rows: Any) -> Any:
        return ((self._first_h + rows) * 3_600_000_000).astype("datetime64[us]")
