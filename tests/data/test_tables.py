"""The shipped tables: sane by themselves, and equal to what their sources give when at hand."""

from __future__ import annotations

import csv
import importlib.util
import math
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import WIDEST_RATIOS, embedded
from router.carbon.tables.table import read_table
from router.model import Factors

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
TABLES = (
    "climatology.csv", "annual_means.csv", "demo_grid.csv", "rtt_azure_ms.csv", "cloud_regions.csv",
)  # fmt: skip
# Kept by hand; tests of their readers look at what they say.
BY_HAND = (
    "grid_zones.csv", "fuel_factors.csv", "profiles.yaml", "energy_models.csv", "energy_tasks.csv",
    "energy_everyday.csv", "energy_published.csv",
)  # fmt: skip


def shipped(name: str) -> str:
    return resources.files("router.data").joinpath(name).read_text("utf-8")


@pytest.fixture(scope="module")
def build_tables() -> ModuleType:
    path = ROOT / "tools" / "build_tables.py"
    if not path.exists():
        pytest.skip("TABLES NOT RECOMPUTED: tools/ is not part of this distribution")
    if not (SHARED / "data" / "us-generation-mix-2022").is_dir():
        pytest.skip("TABLES NOT RECOMPUTED: the reference data sets are not beside the repository")
    spec = importlib.util.spec_from_file_location("build_tables", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_what_its_sources_give(build_tables: ModuleType) -> None:
    computed = build_tables.Tables(SHARED).all()
    assert sorted(computed) == sorted(TABLES)
    for name, text in computed.items():
        assert text == shipped(name), f"{name}: run tools/build_tables.py and read the difference"


def test_an_eia_hour_is_stamped_with_its_start(build_tables: ModuleType) -> None:
    series = build_tables.eia_series(SHARED)["US-SW-AZPS"]
    # The file's first row says 2022-01-01T00:00Z, hour-ending.
    assert series[datetime(2021, 12, 31, 23, tzinfo=UTC)] == 631.662


def test_the_tables_are_small() -> None:
    assert all(len(shipped(name).encode()) < 100_000 for name in TABLES)


@pytest.mark.parametrize("name", [*TABLES, *BY_HAND])
def test_every_table_is_credited(name: str) -> None:
    assert name in (ROOT / "router" / "data" / "README.md").read_text("utf-8")
    assert f"router/data/{name}" in (ROOT / "NOTICE").read_text("utf-8")


def test_the_demo_grid_is_a_whole_fortnight() -> None:
    path = ROOT / "router" / "data" / "demo_grid.csv"
    table = read_table(path, Factors.LIFECYCLE)
    assert table.g_per_kwh.shape == (14 * 24, 7)
    assert table.step_s == 3600.0
    assert table.start == datetime(2022, 5, 3, tzinfo=UTC).timestamp()
    assert not np.isnan(table.g_per_kwh).any()
    means = dict(zip(table.grid_zones, table.g_per_kwh.mean(axis=0), strict=True))
    assert means["US-NW-BPAT"] < means["US-CAL-CISO"] < means["US-MIDA-PJM"]
    # The sun is up in California at 20 h UTC (13 h local) and not at 08 h.
    california = table.g_per_kwh[:, table.grid_zones.index("US-CAL-CISO")].reshape(14, 24)
    assert california[:, 20].mean() < 0.7 * california[:, 8].mean()


def test_the_rtt_table_is_square_and_plausible() -> None:
    rows = list(csv.DictReader(shipped("rtt_azure_ms.csv").splitlines()))
    regions = [row.pop("from_region") for row in rows]
    assert len(regions) == 14 and all(list(row) == regions for row in rows)
    rtt = np.array([[float(row[region]) for region in regions] for row in rows])
    assert (np.diag(rtt) == 1.0).all()
    assert rtt[~np.eye(14, dtype=bool)].min() >= 5.0 and rtt.max() < 300.0
    assert np.abs(rtt - rtt.T).max() <= 12.0


def test_annual_means_are_those_of_the_climatology() -> None:
    climatology = Climatology.load()
    start = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
    means = embedded()
    assert climatology.grid_zones <= means.keys()
    for zone in climatology.grid_zones:
        year = [slot.g_per_kwh for slot in climatology.slots(zone, start, 8760)]
        assert means[zone].g_per_kwh == pytest.approx(sum(year) / 8760, abs=0.11)


def test_the_widest_ratios_are_the_widest() -> None:
    for mean in embedded().values():
        low, high = mean.low_g_per_kwh / mean.g_per_kwh, mean.high_g_per_kwh / mean.g_per_kwh
        assert low >= WIDEST_RATIOS[0] - 1e-9 and high <= WIDEST_RATIOS[1] + 1e-9
    unknown = embedded()["SG"]
    assert math.isclose(unknown.low_g_per_kwh / unknown.g_per_kwh, WIDEST_RATIOS[0])
    assert math.isclose(unknown.high_g_per_kwh / unknown.g_per_kwh, WIDEST_RATIOS[1])
