"""Compute the small tables of ``router/data`` from the reference data sets.

Run by maintainers: ``python tools/build_tables.py [--shared DIR] [--check]``. The results are
checked in; ``--check`` recomputes them and exits 1 where they differ. ``router/data/README.md``
says what each table is, and ``NOTICE`` under which licence its sources are.

All intensities are average, life-cycle, gCO2e/kWh, per hour in UTC, stamped with the start of the
hour.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "router" / "data"

Series = dict[datetime, float]

# The factors of the EIA-930 set (recovered there by least squares, residual 0): IPCC AR5 medians.
# ENTSO-E columns that EIA lacks: biomass is AR5's 230, which the EIA set uses for OTH; "unknown"
# is treated as OTH; geothermal is AR5's 38.
FACTORS = {
    "wind": 11.0,
    "solar": 41.0,
    "hydro": 24.0,
    "oil": 650.0,
    "nat_gas": 490.0,
    "coal": 820.0,
    "nuclear": 12.0,
    "other": 230.0,
    "unknown": 230.0,
    "biomass": 230.0,
    "geothermal": 38.0,
}

DEMO_ZONES = (
    "US-CAL-CISO",
    "US-TEX-ERCO",
    "US-MIDA-PJM",
    "US-MIDW-MISO",
    "US-NY-NYIS",
    "US-NW-BPAT",
    "US-SE-SOCO",
)
DEMO_START = datetime(2022, 5, 3, tzinfo=UTC)
DEMO_DAYS = 14

# All of them have a published RTT to each other in both directions.
RTT_REGIONS = (
    "westus",
    "westus2",
    "southcentralus",
    "centralus",
    "northcentralus",
    "eastus",
    "canadacentral",
    "canadaeast",
    "northeurope",
    "westeurope",
    "germanywestcentral",
    "swedencentral",
    "japaneast",
    "southeastasia",
)
RTT_DIAGONAL_MS = 1

# Indian zones were merged by grid region since the curated file's; the newer names are those that
# Electricity Maps answers to.
RENAMED_ZONES = {"IN-MH": "IN-WE", "IN-UP": "IN-NO"}
PUE_SOURCES = {
    "provider fleet average": "provider's fleet average, 2024",
    "site trailing-12-month": "site, trailing twelve months, 2024",
}

HOURS = tuple(f"h{hour:02d}" for hour in range(24))
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV or gzipped CSV file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    yield from csv.DictReader(io.StringIO(text))


def hour(stamp: str) -> datetime:
    """Parse ``YYYY-MM-DDTHH:MMZ``."""
    return datetime.strptime(stamp, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)


def eia_series(shared: Path) -> dict[str, Series]:
    """Hourly intensity of the eight EIA-930 zones of 2022; flagged and missing hours are absent.

    The set's stamps are hour-ending, hence the shift by one hour.
    """
    series: dict[str, Series] = defaultdict(dict)
    path = shared / "data/us-generation-mix-2022/eia930_generation_and_ci_2022.csv.gz"
    for row in rows_of(path):
        if row["flag"] == "0" and row["ci_gco2_per_kwh"]:
            start = hour(row["datetime_utc"]) - timedelta(hours=1)
            series[row["zone"]][start] = float(row["ci_gco2_per_kwh"])
    return dict(series)


def dacf_series(shared: Path) -> dict[str, Series]:
    """Hourly intensity of DE and US-NE-ISNE, 2020-2021, from the generation mix of the DACF set.

    Only shares enter, so the German volumes (sums of four quarter-hours) need no division. Sweden
    is left out: 7 % of its mix is "unknown", which would make up half of its intensity. US stamps
    are hour-ending. Hours with under half the median total are taken for reporting gaps.
    """
    mixes: dict[str, dict[datetime, dict[str, float]]] = {"DE": {}, "US-NE-ISNE": {}}
    path = shared / "data/dacf-dayahead-forecast-2021/actual_ci_mix_weatherfc_2020_2021.csv.gz"
    for row in rows_of(path):
        zone = row["zone"]
        if zone not in mixes or row["datetime_utc"] < "2020":
            continue
        start = hour(row["datetime_utc"]) - timedelta(hours=1 if zone.startswith("US-") else 0)
        mixes[zone][start] = {fuel: float(row[fuel]) for fuel in FACTORS if row[fuel]}
    return {zone: _intensity_of_mix(mix) for zone, mix in mixes.items()}


def _intensity_of_mix(mix: Mapping[datetime, Mapping[str, float]]) -> Series:
    totals = {start: sum(fuels.values()) for start, fuels in mix.items()}
    least = 0.5 * float(np.median(list(totals.values())))
    return {
        start: sum(FACTORS[fuel] * amount for fuel, amount in fuels.items()) / totals[start]
        for start, fuels in mix.items()
        if totals[start] >= least
    }


def month_hour_means(series: Series) -> np.ndarray:
    """Means by month and hour, shape (12, 24), g/kWh."""
    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    for start, value in series.items():
        cells[start.month - 1, start.hour].append(value)
    return np.array([[np.mean(cells[month, h]) for h in range(24)] for month in range(12)])


def band(ratios: Iterable[float]) -> tuple[float, float]:
    """The 5 and 95 percentile, three decimals."""
    low, high = np.percentile(list(ratios), [5, 95])
    return round(float(low), 3), round(float(high), 3)


def month_bands(series: Series) -> list[tuple[float, float]]:
    """Per month: 5 and 95 percentile of an hour's value over its month-and-hour mean."""
    means = month_hour_means(series)
    ratios: list[list[float]] = [[] for _ in range(12)]
    for start, value in series.items():
        ratios[start.month - 1].append(value / means[start.month - 1, start.hour])
    return [band(month) for month in ratios]


def widest(bands: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The band that covers every zone's: what a zone without hourly data is given."""
    pairs = list(bands)
    return min(low for low, _ in pairs), max(high for _, high in pairs)


def whole_year_band(series: Series) -> tuple[float, float]:
    """5 and 95 percentile of value over month-and-hour mean, all months pooled."""
    means = month_hour_means(series)
    return band(v / means[t.month - 1, t.hour] for t, v in series.items())


def annual_band(series: Series) -> tuple[float, float]:
    """5 and 95 percentile of an hour's value over the mean of the whole series."""
    mean = float(np.mean(list(series.values())))
    return band(value / mean for value in series.values())


def typical_profiles(shared: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Month-hour means (12, 24) per zone, and the date at which each zone's year ends."""
    means: dict[str, np.ndarray] = {}
    until: dict[str, str] = {}
    path = shared / "data/typical-profiles-2025-2026/typical_ci_by_zone_month_hour.csv"
    for row in rows_of(path):
        zone = row["zone"]
        table = means.setdefault(zone, np.full((12, 24), np.nan))
        table[int(row["month"]) - 1] = [float(row[h]) for h in HOURS]
        until[zone] = row["period_to"][:10]
    return means, until


class Tables:
    """Every input, loaded once; each method renders one table as CSV text."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self.eia = eia_series(shared)
        self.dacf = dacf_series(shared)
        self.typical, self.typical_until = typical_profiles(shared)
        self.hourly = {**self.eia, **self.dacf}

    def climatology(self) -> str:
        """``climatology.csv``: 12 rows a zone."""
        pooled = widest(whole_year_band(series) for series in self.hourly.values())
        rows: list[list[object]] = []
        for zone in sorted({*self.hourly, *self.typical}):
            source, until, means = self._level(zone)
            bands = month_bands(self.hourly[zone]) if zone in self.hourly else [pooled] * 12
            for month in range(12):
                cells = [f"{value:.1f}" for value in means[month]]
                rows.append([zone, source, until, month + 1, *cells, *bands[month]])
        header = ["zone", "source", "until", "month", *HOURS, "p05_ratio", "p95_ratio"]
        return _csv(header, rows)

    def annual_means(self) -> str:
        """``annual_means.csv``: one row a zone."""
        pooled = widest(annual_band(series) for series in self.hourly.values())
        rows: list[list[object]] = []
        for zone in sorted({*self.hourly, *self.typical}):
            source, until, means = self._level(zone)
            mean = float(np.average(means.mean(axis=1), weights=MONTH_DAYS))
            low, high = annual_band(self.hourly[zone]) if zone in self.hourly else pooled
            last_day = datetime.fromisoformat(until) - timedelta(days=1)
            rows.append([zone, f"{mean:.1f}", source, last_day.year, low, high])
        annual = json.loads(
            (self.shared / "data/typical-profiles-2025-2026/annual.json").read_text("utf-8")
        )
        for zone, entry in sorted(annual["zones"].items()):
            value = f"{entry['g_co2_per_kwh']:.1f}"
            rows.append([zone, value, f"ember-{entry['year']}", entry["year"], *pooled])
        header = ["zone", "g_per_kwh", "source", "year", "p05_ratio", "p95_ratio"]
        return _csv(header, rows)

    def _level(self, zone: str) -> tuple[str, str, np.ndarray]:
        """Source, end of its period (exclusive) and month-hour means: the newest set wins."""
        if zone in self.typical:
            return "typical-2025-2026", self.typical_until[zone], self.typical[zone]
        if zone in self.eia:
            return "eia930-2022", "2023-01-01", month_hour_means(self.eia[zone])
        return "dacf-2020-2021", "2022-01-01", month_hour_means(self.dacf[zone])

    def demo_grid(self) -> str:
        """``demo_grid.csv``: fourteen real days; raises KeyError if one hour were flagged."""
        rows: list[list[object]] = []
        for index in range(24 * DEMO_DAYS):
            start = DEMO_START + timedelta(hours=index)
            values = [f"{self.eia[zone][start]:.1f}" for zone in DEMO_ZONES]
            rows.append([start.strftime("%Y-%m-%dT%H:%MZ"), *values])
        return _csv(["datetime", *DEMO_ZONES], rows)

    def rtt_azure_ms(self) -> str:
        """``rtt_azure_ms.csv``: median RTT, ms; raises ValueError if a pair were unpublished."""
        path = self.shared / "data/latency/azure_rtt_p50_ms.csv"
        published = {row["from_region"]: row for row in rows_of(path)}
        rows: list[list[object]] = []
        for origin in RTT_REGIONS:
            cells = [
                RTT_DIAGONAL_MS if origin == region else int(published[origin][region])
                for region in RTT_REGIONS
            ]
            rows.append([origin, *cells])
        return _csv(["from_region", *RTT_REGIONS], rows)

    def cloud_regions(self) -> str:
        """``cloud_regions.csv``: without the columns that derive from ODbL data."""
        path = self.shared / "data/regions/cloud_region_to_zone_curated.csv"
        rows: list[list[object]] = []
        for row in rows_of(path):
            zone = RENAMED_ZONES.get(row["zone_2022"], row["zone_2022"])
            source = PUE_SOURCES[row["pue_basis"]]
            key = f"{row['provider']}:{row['region']}"
            rows.append([key, row["place"], zone, row["lat"], row["lon"], row["pue"], source])
        header = ["cloud", "place", "grid_zone", "lat", "lon", "pue", "pue_source"]
        return _csv(header, sorted(rows, key=str))

    def all(self) -> dict[str, str]:
        """File name to text."""
        return {
            "climatology.csv": self.climatology(),
            "annual_means.csv": self.annual_means(),
            "demo_grid.csv": self.demo_grid(),
            "rtt_azure_ms.csv": self.rtt_azure_ms(),
            "cloud_regions.csv": self.cloud_regions(),
        }


def _csv(header: list[str], rows: list[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def main() -> int:
    """Write or check every table; 0 when written, or when nothing differs."""
    parser = argparse.ArgumentParser(description="Compute the tables of router/data.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    differing = []
    for name, text in Tables(options.shared).all().items():
        path = DATA / name
        if options.check:
            if not path.exists() or path.read_text("utf-8") != text:
                differing.append(name)
        else:
            path.write_text(text, "utf-8")
        print(f"{name}: {len(text.encode())} bytes")
    if differing:
        print(f"differ from what is checked in: {', '.join(differing)}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
