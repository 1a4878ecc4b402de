"""One figure a grid zone: annual means, the last resort and the basis of static-greenest routing.

From the operator's own figures, and from the embedded ``router/data/annual_means.csv`` (average,
life-cycle; sources in its README) where the signal is that one.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Final

from router.errors import ConfigError, DataError, TraceError
from router.model import Basis, Factors, Intensity, Kind, Signal

EMBEDDED_SIGNAL: Final = Signal(Basis.AVERAGE, Factors.LIFECYCLE)

# An hour's value over its annual mean, 5 and 95 percentile: the widest among the grids with hourly
# data (tools/build_tables.py), since nothing is known of how a stated figure varies.
WIDEST_RATIOS: Final = (0.445, 1.655)


class StaticSource:
    """Annual means: a CarbonSource that always answers for the zones it has."""

    name = "static"

    def __init__(self, signal: Signal, means: Mapping[str, Intensity]) -> None:
        """``means``: one intensity of ``signal`` a grid zone."""
        self.signal = signal
        self._means = dict(means)

    @classmethod
    def load(cls, signal: Signal, g_per_kwh: Mapping[str, float], as_of: float) -> StaticSource:
        """The embedded table (if ``signal`` is its own) under the operator's ``g_per_kwh``.

        ``as_of``: unix seconds at which the operator's figures were read. Raises ConfigError for a
        figure that is no intensity.
        """
        means = dict(embedded()) if signal == EMBEDDED_SIGNAL else {}
        low, high = WIDEST_RATIOS
        for zone, value in g_per_kwh.items():
            positive = value > 0.0 or (value == 0.0 and signal.factors is not Factors.LIFECYCLE)
            if not (positive and value <= 5_000.0):
                fix = f"{value} is no annual mean in gCO2e/kWh; leave out a zone that is not known"
                raise ConfigError("static carbon source", [(f"g_per_kwh.{zone}", fix)])
            means[zone] = Intensity(
                g_per_kwh=value,
                low_g_per_kwh=value * low,
                high_g_per_kwh=value * high,
                signal=signal,
                kind=Kind.ANNUAL_MEAN,
                source="static(config)",
                observed_at=as_of,
                expires_at=math.inf,
            )
        return cls(signal, means)

    @property
    def grid_zones(self) -> frozenset[str]:
        """The zones that have a figure."""
        return frozenset(self._means)

    def mean(self, grid_zone: str) -> Intensity | None:
        """The annual mean, or None when nobody stated one."""
        return self._means.get(grid_zone)

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """The annual mean of each zone that has one."""
        return {zone: self._means[zone] for zone in grid_zones if zone in self._means}


def embedded() -> Mapping[str, Intensity]:
    """The embedded table of annual means."""
    name = "annual_means.csv"
    text = resources.files("router.data").joinpath(name).read_text("utf-8")
    return parse(text.splitlines(), name)


def parse(lines: Iterable[str], name: str) -> Mapping[str, Intensity]:
    """Parse the table's CSV. Raises TraceError naming file and row."""
    means: dict[str, Intensity] = {}
    reader = csv.DictReader(lines, strict=True)
    for row in reader:
        try:
            value = float(row["g_per_kwh"])
            if not 0.0 < value < math.inf:
                raise ValueError("a life-cycle mean must be above 0 g/kWh")
            means[row["zone"]] = Intensity(
                g_per_kwh=value,
                low_g_per_kwh=value * float(row["p05_ratio"]),
                high_g_per_kwh=value * float(row["p95_ratio"]),
                signal=EMBEDDED_SIGNAL,
                kind=Kind.ANNUAL_MEAN,
                source=f"static({row['source']})",
                observed_at=datetime(int(row["year"]) + 1, 1, 1, tzinfo=UTC).timestamp(),
                expires_at=math.inf,
            )
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise TraceError(f"{name}: row {reader.line_num}: unusable: {error!r}") from error
    return means
