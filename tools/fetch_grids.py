"""Download the grid intensities of 2022 that docs/scenarios/europe.yaml and global-*.yaml read.

    python tools/fetch_grids.py               # about 40 small files from GitHub, into one table
    python tools/fetch_grids.py --from DIR    # from a clone of that repository instead

They are hourly, life-cycle and consumption-based, and may not be embedded in this repository:
*contains information from Electricity Maps, made available under the Open Database License (ODbL
1.0)*, by way of umassos/decarbonization-potential (Apache-2.0). Results carry that notice.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ROOT / "docs" / "scenarios"
TARGET = SCENARIOS / "data" / "electricity_maps_2022.csv.gz"
REPOSITORY = "umassos/decarbonization-potential"
COMMIT = "3493a63016bd2aaa71cae1f33809576786b331d4"
# A study of prediction errors; its column 0 is without error: the intensities themselves.
FOLDER = "sim_what_ifs/prediction_error/data_output/added_error"
COLUMN = "0"
START = datetime(2022, 1, 1, tzinfo=UTC)
HOURS = 365 * 24
_ZONE = re.compile(r"grid_zone: ([A-Z0-9-]+)")


def zones() -> list[str]:
    """The grid zones of the scenarios that need the table."""
    files = [SCENARIOS / "europe.yaml", *SCENARIOS.glob("global-*.yaml")]
    return sorted({zone for file in files for zone in _ZONE.findall(file.read_text("utf-8"))})


def series(text: str, zone: str) -> list[str]:
    """The hourly values in one of the repository's files; raises ValueError for another shape."""
    rows = list(csv.DictReader(io.StringIO(text)))
    if len(rows) != HOURS or COLUMN not in rows[0]:
        raise ValueError(f"{zone}.csv: {len(rows)} rows; {HOURS} with a column {COLUMN!r} expected")
    return [f"{float(row[COLUMN]):g}" for row in rows]


def table(columns: Mapping[str, Sequence[str]]) -> str:
    """The wide table: the start of each hour, UTC, then a column a grid zone, gCO2e/kWh."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["datetime", *columns])
    for hour, values in enumerate(zip(*columns.values(), strict=True)):
        stamp = START + timedelta(hours=hour)
        writer.writerow([stamp.strftime("%Y-%m-%dT%H:%MZ"), *values])
    return out.getvalue()


def downloaded(zone: str) -> str:
    """The file of one grid zone from GitHub."""
    url = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/{FOLDER}/{zone}.csv"
    with urllib.request.urlopen(url, timeout=60) as reply:
        return str(reply.read().decode("utf-8"))


def cloned(folder: Path) -> Callable[[str], str]:
    """The same from a clone in ``folder``."""
    return lambda zone: (folder / FOLDER / f"{zone}.csv").read_text("utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the table stands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="folder", type=Path, help="a clone of the repository")
    parser.add_argument("--to", type=Path, default=TARGET, help=str(TARGET.relative_to(ROOT)))
    options = parser.parse_args(arguments)
    read = cloned(options.folder) if options.folder else downloaded
    columns = {}
    for zone in zones():
        try:
            columns[zone] = series(read(zone), zone)
        except (OSError, ValueError) as error:
            print(f"{zone}: {error}", file=sys.stderr)
            print(
                f"Nothing was written. Clone https://github.com/{REPOSITORY} and give --from, or "
                "write a table of your own: docs/config.md, Tables of intensity.",
                file=sys.stderr,
            )
            return 1
    options.to.write_bytes(gzip.compress(table(columns).encode(), mtime=0))
    print(f"{options.to}: {len(columns)} grid zones, {HOURS} hours")
    return 0


if __name__ == "__main__":
    sys.exit(main())
