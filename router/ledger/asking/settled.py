"""What a row's grams are by the prices of its hours, beside its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from router.errors import DataError
from router.ledger.columns import G_QUANTUM
from router.ledger.month import US_PER_HOUR
from router.ledger.prices import price_files, read_price_file
from router.ledger.receipt_cells import in_steps
from router.ledger.settlement import Price, PriceKey
from router.model import Basis, Factors, Kind
from router.units import DAY_S, grams
from router.url_files import file_system

_PER_G: Final = 1.0 / G_QUANTUM
# Of a row that says more, whoever wrote it, hours are not worth their number.
_LONGEST_S: Final = 31.0 * DAY_S
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SettledFigures(NamedTuple):
    """``g_per_kwh``: mean over the run, by time, with its 90 % interval; ``gco2e``: the facility's
    energy at it, g; ``kind``: the worst of its hours'; ``revision``: the largest; ``settled_at``:
    the last, unix s."""

    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    gco2e: float | None
    kind: Kind
    source: str
    revision: int
    settled_at: float


class PriceLookup:
    """Prices of some hours of a ledger, without reading those of all. ``where``: folder or URL."""

    def __init__(self, where: str) -> None:
        self._where = where
        # Of each file the first hour and the last: files are added and never changed.
        self._spans: dict[str, tuple[int, int]] = {}

    def prices(self, first: int, last: int) -> dict[PriceKey, Price]:
        """The newest of each zone in hours since 1970 from ``first`` through ``last``.

        Raises DataError for a file that cannot be read, and for two that say the same revision.
        """
        system, root = file_system(self._where)
        found: dict[PriceKey, Price] = {}
        for name in price_files(self._where):
            begin, end = self._span(system, f"{root}/{name}")
            if begin > last or end < first:
                continue
            for price in read_price_file(system, f"{root}/{name}", first, last):
                key = price.measured.key
                known = found.get(key)
                if known is not None and known.revision == price.revision:
                    raise DataError(f"{name}: a revision that is there twice")
                if known is None or known.revision < price.revision:
                    found[key] = price
        return found

    def _span(self, system: fs.FileSystem, path: str) -> tuple[int, int]:
        if path not in self._spans:
            self._spans[path] = _span_of(system, path)
        return self._spans[path]


def hours_of(row: Mapping[str, Any]) -> dict[int, int]:
    """Of one row: hour since 1970 -> microseconds that its run was in it, as reports divide it; a
    run without a length is of the hour in which it ended."""
    end_us = _us(row["finished_at"])
    run_us = round(min(max(row["run_s"] or 0.0, 0.0), _LONGEST_S) * 1e6)
    start_us = end_us - run_us
    first, last = start_us // US_PER_HOUR, (end_us - min(run_us, 1)) // US_PER_HOUR
    if first == last:
        return {first: max(run_us, 1)}
    return {
        hour: min((hour + 1) * US_PER_HOUR, end_us) - max(hour * US_PER_HOUR, start_us)
        for hour in range(first, last + 1)
    }


def settled(row: Mapping[str, Any], prices: Mapping[PriceKey, Price]) -> SettledFigures | None:
    """None where an hour of the row has no price, or the row no intensity.

    ``row``: by the names of its columns.
    """
    try:
        basis, factors = Basis(row["basis"]), Factors(row["factors"])
    except ValueError:
        # Not known, or of a version after this.
        return None
    parts = hours_of(row)
    found = [prices.get(PriceKey(row["grid_zone"], hour, basis, factors)) for hour in parts]
    known = [price for price in found if price is not None]
    if len(known) < len(parts):
        return None
    weights = [us / sum(parts.values()) for us in parts.values()]
    measured = [price.measured for price in known]
    g_per_kwh = _mean(weights, [one.g_per_kwh for one in measured])
    return SettledFigures(
        g_per_kwh,
        _mean(weights, [one.low_g_per_kwh for one in measured]),
        _mean(weights, [one.high_g_per_kwh for one in measured]),
        _grams(row, g_per_kwh),
        Kind.MEASURED if all(one.kind is Kind.MEASURED for one in measured) else Kind.ESTIMATED,
        "; ".join(sorted({one.source for one in measured})),
        max(price.revision for price in known),
        max(price.settled_at for price in known),
    )


def _grams(row: Mapping[str, Any], g_per_kwh: float) -> float | None:
    if row["energy_j"] is None:
        return None
    facility_j = row["energy_j"] * (1.0 if row["pue"] is None else row["pue"])
    return in_steps(grams(facility_j + (row["network_j"] or 0.0), g_per_kwh), _PER_G)


def _mean(weights: Sequence[float], values: Sequence[float]) -> float:
    if len(values) == 1:
        return values[0]
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _us(when: datetime) -> int:
    past = when - _EPOCH
    return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds


def _span_of(system: fs.FileSystem, path: str) -> tuple[int, int]:
    """Raises DataError."""
    try:
        with system.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
            hours = file.read(["hour"]).column("hour").cast(pa.int64()).to_numpy()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(f"prices cannot be read: {type(error).__name__}") from error
    if not len(hours):
        return 1, 0
    return int(hours.min()) // US_PER_HOUR, int(hours.max()) // US_PER_HOUR
