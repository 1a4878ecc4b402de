"""Cut the small tables of ``docs/scenarios/data`` from the reference data sets.

Run by maintainers: ``python tools/build_scenarios.py [--shared DIR] [--check]``; the results are
checked in and ``--check`` compares them. ``docs/scenarios/README.md`` names sources and licences.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "scenarios" / "data"
US_ZONES = (
    "US-CAL-CISO",
    "US-TEX-ERCO",
    "US-MIDA-PJM",
    "US-MIDW-MISO",
    "US-NY-NYIS",
    "US-SE-SOCO",
)
STAMP = "%Y-%m-%dT%H:%MZ"


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV or gzipped CSV file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    yield from csv.DictReader(io.StringIO(text))


def us_grids(shared: Path) -> str:
    """Hourly intensity of 2022, stamps moved from hour-ending to hour-starting.

    Flagged and missing hours are blank: the scenarios bridge gaps of an hour or two.
    """
    series: dict[str, dict[str, str]] = {zone: {} for zone in US_ZONES}
    path = shared / "data/us-generation-mix-2022/eia930_generation_and_ci_2022.csv.gz"
    for row in rows_of(path):
        if row["zone"] in series and row["flag"] == "0" and row["ci_gco2_per_kwh"]:
            end = datetime.strptime(row["datetime_utc"], STAMP).replace(tzinfo=UTC)
            start = (end - timedelta(hours=1)).strftime(STAMP)
            series[row["zone"]][start] = f"{float(row['ci_gco2_per_kwh']):.1f}"
    stamps = sorted({stamp for zone in series.values() for stamp in zone})
    first, last = (datetime.strptime(s, STAMP) for s in (stamps[0], stamps[-1]))
    hours = int((last - first) / timedelta(hours=1)) + 1
    rows = []
    for hour in range(hours):
        stamp = (first + timedelta(hours=hour)).strftime(STAMP)
        rows.append([stamp, *(series[zone].get(stamp, "") for zone in US_ZONES)])
    return _csv(["datetime", *US_ZONES], rows)


def rtt_gcp(shared: Path) -> str:
    """Round-trip times between 34 GCP regions, ms; the diagonal was not measured."""
    rows = list(rows_of(shared / "data/latency/gcp_rtt_ms.csv"))
    columns = [name for name in rows[0] if name != "from_region"]
    cells = [
        [row["from_region"], *(f"{float(row[c]):g}" if row[c] else "" for c in columns)]
        for row in rows
    ]
    return _csv(["origin", *columns], cells)


def tables(shared: Path) -> dict[str, str]:
    """File name to text."""
    return {"us_grids_2022.csv.gz": us_grids(shared), "rtt_gcp_ms.csv": rtt_gcp(shared)}


def _csv(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def checked_in(name: str) -> str:
    """The text that is there now, "" where none is."""
    path = DATA / name
    if not path.exists():
        return ""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def main() -> int:
    """Write or check every table; 0 when written, or when nothing differs."""
    parser = argparse.ArgumentParser(description="Cut the tables of docs/scenarios/data.")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    differing = 0
    for name, text in tables(options.shared).items():
        if checked_in(name) == text:
            continue
        differing += 1
        if options.check:
            print(f"{name}: differs from what is checked in", file=sys.stderr)
            continue
        data = text.encode()
        (DATA / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        print(f"{name}: {(DATA / name).stat().st_size} bytes")
    return 1 if options.check and differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
