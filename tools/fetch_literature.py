"""Download what `carbon-router replicate` reads, laid out as docs/evidence.md says.

    python tools/fetch_literature.py --to DIR          # about 130 small files from GitHub
    python tools/fetch_literature.py --to DIR --carbon CLONE --casper CLONE    # from clones instead

The intensities may not be embedded in this repository: *contains information from Electricity Maps,
made available under the Open Database License (ODbL 1.0)*, by way of
umassos/decarbonization-potential (Apache-2.0). Results carry that notice. Round-trip times and
demand are of that repository and of carbonfirst/casper, both Apache-2.0.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import sys
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fetch_grids import COMMIT, FOLDER, REPOSITORY, series, table

CASPER = "carbonfirst/casper"
CASPER_COMMIT = "7b70ea5704a120255ccd863dc2aeeea111c6af38"
# The grid zones of the study, in a list that it keeps by year.
ZONE_LISTS = "shared_data/mean_order.json"
YEAR = "2022"
# CASPER's stamps are local time taken for UTC.
CASPER_LATE = timedelta(hours=4)

Read = Callable[[str], str]


def intensities(read: Read) -> dict[str, bytes]:
    """The hourly table of all grid zones, packed."""
    zones = sorted(json.loads(read(ZONE_LISTS))[YEAR])
    columns = {zone: series(read(f"{FOLDER}/{zone}.csv"), zone) for zone in zones}
    text = table(columns).replace("datetime,", "datetime_utc,", 1)
    name = "ci-hourly-2022-123zones/ci_lca_gco2_per_kwh_2022.csv.gz"
    return {name: gzip.compress(text.encode(), mtime=0)}


def gcp(read: Read) -> dict[str, bytes]:
    """Round-trip times as a square, blank on its diagonal, and the grid zone of each region."""
    rtt_ms: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(io.StringIO(read("shared_data/raw_gcp_latency.csv"))):
        sender, receiver = row["sending_region"], row["receiving_region"]
        rtt_ms.setdefault(sender, {})[receiver] = row["milliseconds"]
    regions = sorted(rtt_ms)
    rows = [[one, *(rtt_ms[one].get(other, "") for other in regions)] for one in regions]
    return {
        "latency/gcp_rtt_ms.csv": _csv([["from_region", *regions], *rows]),
        "latency/gcp_region_to_zone.json": read("shared_data/gcp_dc_zonecode_mapper.json").encode(),
    }


def casper(read: Read) -> dict[str, bytes]:
    """Round-trip times with the sender in front of each row, and the demand at its true hour."""
    folder = "CAP/dataset/wiki"
    header, *square = csv.reader(io.StringIO(read(f"{folder}/latency.csv")))
    named = [[name, *row] for name, row in zip(header, square, strict=True)]
    regions = header
    hours = []
    for row in csv.DictReader(io.StringIO(read(f"{folder}/requests_original.csv"))):
        start = datetime.fromtimestamp(int(row["timestamp"]), UTC) - CASPER_LATE
        hours.append([start.strftime("%Y-%m-%dT%H:%MZ"), *(row[name] for name in regions)])
    return {
        "latency/aws_casper_rtt_ms_6x6.csv": _csv([["from_region", *header], *named]),
        "geo-demand-wiki-2022/wiki_requests_per_region_hourly.csv": _csv(
            [["datetime_utc", *regions], *hours]
        ),
    }


def github(repository: str, commit: str) -> Read:
    """Reads files of a repository as they were at ``commit``."""

    def read(path: str) -> str:
        url = f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            return str(reply.read().decode("utf-8"))

    return read


def clone(folder: Path) -> Read:
    """Reads the same files from a clone."""
    return lambda path: (folder / path).read_text("utf-8")


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all files are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="folder for the files")
    parser.add_argument("--carbon", type=Path, help=f"a clone of {REPOSITORY}")
    parser.add_argument("--casper", type=Path, help=f"a clone of {CASPER}")
    options = parser.parse_args(arguments)
    carbon = clone(options.carbon) if options.carbon else github(REPOSITORY, COMMIT)
    wiki = clone(options.casper) if options.casper else github(CASPER, CASPER_COMMIT)
    try:
        files = intensities(carbon) | gcp(carbon) | casper(wiki)
    except (OSError, ValueError, KeyError) as error:
        print(f"{error}\nNothing was written.", file=sys.stderr)
        print("Clone both repositories and give --carbon and --casper.", file=sys.stderr)
        return 1
    for name, content in files.items():
        path = options.to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(f"{options.to}: {len(files)} files; carbon-router replicate --data {options.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
