"""What the studies read: files of a folder outside the repository, which are never copied into it.

The hourly intensities are under the Open Database License and may not be embedded; the others are
read from the same folder so that one argument says where everything is. docs/evidence.md lists
each file with its origin and licence.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.carbon.tables.table import TraceTable, read_table
from router.errors import ConfigError, TraceError
from router.model import Factors
from router.units import HOUR_S

Floats = NDArray[np.float64]

COMMAND: Final = "carbon-router replicate"
VARIABLE: Final = "CARBON_ROUTER_LITERATURE"
SIBLING: Final = Path("..") / "shared" / "data"

INTENSITIES: Final = "ci-hourly-2022-123zones/ci_lca_gco2_per_kwh_2022.csv.gz"
GCP_RTT: Final = "latency/gcp_rtt_ms.csv"
GCP_ZONES: Final = "latency/gcp_region_to_zone.json"
AWS_RTT: Final = "latency/aws_casper_rtt_ms_6x6.csv"
WIKI_DEMAND: Final = "geo-demand-wiki-2022/wiki_requests_per_region_hourly.csv"
FILES: Final = (INTENSITIES, GCP_RTT, GCP_ZONES, AWS_RTT, WIKI_DEMAND)

NOTICE: Final = (
    "Contains information from Electricity Maps, made available under the Open Database License "
    "(ODbL 1.0), by way of umassos/decarbonization-potential."
)
# The study's table of data centres writes Australia's zones in another way than its intensities.
_RESPELT: Final = {"AUS-NSW": "AU-NSW", "AUS-VIC": "AU-VIC"}


class GcpZones(NamedTuple):
    """Grid zones with a Google region, one each: ``rtt_ms`` (zones, zones), 0 on the diagonal;
    ``g_per_kwh`` (hours, zones), whole year.
    """

    grid_zones: tuple[str, ...]
    rtt_ms: Floats
    g_per_kwh: Floats

    @property
    def mean_g_per_kwh(self) -> Floats:
        """Annual means (zones,)."""
        return np.asarray(self.g_per_kwh.mean(axis=0))


class RegionTable(NamedTuple):
    """A CSV with a name in front of each row. ``values`` (rows, columns), NaN where blank;
    ``file``: its path, for messages.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats
    file: str

    def row(self, name: str) -> int:
        """Place of a row. Raises TraceError where there is none of that name."""
        return self._place(name, self.rows, "row")

    def column(self, name: str) -> int:
        """Place of a column. Raises TraceError where there is none of that name."""
        return self._place(name, self.columns, "column")

    def _place(self, name: str, among: tuple[str, ...], what: str) -> int:
        if name not in among:
            raise TraceError(f"{self.file}: no {what} {name}; {how_to_get()}")
        return among.index(name)


def find_folder(given: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The folder of the studies' data: the argument, else the variable, else the sibling of the
    working directory; None where there is neither. Raises ConfigError for one that is named and
    is not there.
    """
    named = given or (Path(environment[VARIABLE]) if environment.get(VARIABLE) else None)
    if named is None:
        return SIBLING if SIBLING.is_dir() else None
    if not named.is_dir():
        key = "--data" if given else VARIABLE
        raise ConfigError(COMMAND, [(key, f"{named}: no such folder; {how_to_get()}")])
    return named


class Literature:
    """The studies' inputs; each file is read once, when it is first asked for.

    Raises TraceError naming file and fix where one is missing or malformed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def intensities(self) -> TraceTable:
        """Life-cycle g/kWh of every hour of 2022 by grid zone (hours, zones), without gaps."""
        table = read_table(self._path(INTENSITIES), Factors.LIFECYCLE)
        if table.step_s != HOUR_S or np.isnan(table.g_per_kwh).any():
            raise TraceError(
                f"{self.folder / INTENSITIES}: the studies need every hour of every grid zone; "
                f"{how_to_get()}"
            )
        return table

    def g_per_kwh(self, grid_zones: tuple[str, ...]) -> Floats:
        """Hourly intensities (hours, zones) of ``grid_zones``, in that order."""
        known = self.intensities.grid_zones
        missing = [zone for zone in grid_zones if zone not in known]
        if missing:
            raise TraceError(
                f"{self.folder / INTENSITIES}: no column {', '.join(missing)}; {how_to_get()}"
            )
        return self.intensities.g_per_kwh[:, [known.index(zone) for zone in grid_zones]]

    def gcp_zones(self, with_australia: bool = False) -> GcpZones:
        """One Google region a grid zone, the first in the file; regions whose zone has no
        intensities are left out. ``with_australia``: with the two that the study loses.
        """
        rtt = read_region_table(self._path(GCP_RTT))
        zone_of = self._gcp_zone_of()
        chosen: dict[str, str] = {}
        for region in rtt.rows:
            zone = zone_of.get(region, "")
            zone = _RESPELT.get(zone, zone) if with_australia else zone
            if zone in self.intensities.grid_zones:
                chosen.setdefault(zone, region)
        regions = chosen.values()
        square = rtt.values[np.ix_(list(map(rtt.row, regions)), list(map(rtt.column, regions)))]
        np.fill_diagonal(square, 0.0)
        if np.isnan(square).any():
            raise TraceError(f"{rtt.file}: a pair of regions has no round-trip time")
        return GcpZones(tuple(chosen), square, self.g_per_kwh(tuple(chosen)))

    def aws_rtt(self) -> RegionTable:
        """Round-trip times in ms between the six regions of CASPER, rows: from."""
        return read_region_table(self._path(AWS_RTT))

    def wiki_demand(self) -> RegionTable:
        """Requests an hour by region, rows: the start of the hour, UTC."""
        return read_region_table(self._path(WIKI_DEMAND))

    def _gcp_zone_of(self) -> dict[str, str]:
        path = self._path(GCP_ZONES)
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise TraceError(f"{path}: not JSON: {error}; {how_to_get()}") from error
        if not isinstance(found, dict):
            raise TraceError(f"{path}: needs grid zones by region; {how_to_get()}")
        return {str(region): str(zone) for region, zone in found.items()}

    def _path(self, file: str) -> Path:
        path = self.folder / file
        if not path.is_file():
            raise TraceError(f"{path}: no such file; {how_to_get()}")
        return path


def read_region_table(path: Path) -> RegionTable:
    """A CSV whose first column names the row. Raises TraceError naming file, row and column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: not CSV: {error}; {how_to_get()}") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise TraceError(f"{path}: needs a header and a row; {how_to_get()}")
    header = rows[0][1:]
    values = np.full((len(rows) - 1, len(header)), math.nan)
    for number, row in enumerate(rows[1:]):
        if len(row) != len(rows[0]):
            raise TraceError(f"{path}: row {row[0]}: {len(row)} cells, the header {len(rows[0])}")
        for column, cell in enumerate(row[1:]):
            if not cell.strip():
                continue
            try:
                values[number, column] = float(cell)
            except ValueError:
                where = f"{path}: row {row[0]}, column {header[column]}"
                raise TraceError(f"{where}: {cell[:40]!r} is no number") from None
    return RegionTable(tuple(row[0] for row in rows[1:]), tuple(header), values, str(path))


def how_to_get() -> str:
    """What to do about a missing or malformed file."""
    return (
        "docs/evidence.md says what belongs in the folder; in a clone, "
        "`python tools/fetch_literature.py --to DIR` fills one"
    )
