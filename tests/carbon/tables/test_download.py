from __future__ import annotations

from pathlib import Path

import pytest

from router.carbon.tables.download import download_of
from router.carbon.tables.table import TraceTable, parse_csv, read_table
from router.errors import TraceError
from router.model import Factors

LIFECYCLE = "Carbon intensity gCO₂eq/kWh (Life cycle)"
DIRECT = "Carbon intensity gCO₂eq/kWh (direct)"
HEADER = [
    "Datetime (UTC)", "Country", "Zone name", "Zone id", DIRECT, LIFECYCLE,
    "Carbon-free energy percentage (CFE%)", "Data source", "Data estimated",
]  # fmt: skip


def lines(zone_ids: tuple[str, ...] = ("DE", "DE"), header: list[str] = HEADER) -> list[str]:
    rows = [
        f"2023-01-01 0{hour}:00:00,Germany,Germany,{zone},{300 + hour},{340 + hour},55.1,"
        '"opendata.example, b",false'
        for hour, zone in enumerate(zone_ids)
    ]
    return [",".join(header), *rows]


def column(table: TraceTable, name: str) -> list[float]:
    return table.g_per_kwh[:, table.grid_zones.index(name)].tolist()


@pytest.mark.parametrize(
    ("factors", "first"), [(Factors.DIRECT, 300.0), (Factors.LIFECYCLE, 340.0)]
)
def test_a_portal_s_file_is_a_table_of_its_zone_in_the_factors_asked_for(
    factors: Factors, first: float
) -> None:
    table = parse_csv(lines(), "DE_2023.csv", factors)
    assert table.grid_zones == ("DE",)
    assert column(table, "DE") == [first, first + 1]


def test_its_columns_can_be_asked_for_by_their_own_names_too() -> None:
    table = parse_csv(lines(), "DE_2023.csv", Factors.LIFECYCLE, only=["DE", DIRECT])
    assert column(table, "DE") == [340.0, 341.0] and column(table, DIRECT) == [300.0, 301.0]


def test_a_file_of_several_zones_is_refused() -> None:
    with pytest.raises(TraceError, match="one grid zone, has DE, FR"):
        parse_csv(lines(("DE", "FR")), "grid.csv", Factors.LIFECYCLE)


def test_an_older_file_says_lca_and_other_tables_are_left_alone() -> None:
    old = [*HEADER[:3], "Zone Id", "Carbon Intensity gCO₂eq/kWh (direct)",
           "Carbon Intensity gCO₂eq/kWh (LCA)"]  # fmt: skip
    assert download_of(old, Factors.LIFECYCLE) == (3, 5)
    assert download_of(["datetime", "DE", "FR"], Factors.LIFECYCLE) is None
    assert download_of(HEADER, Factors.NONE) is None


def test_parquet_of_the_same_columns_reads_the_same(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "DE.parquet"
    stamps = ["2023-01-01T00:00Z", "2023-01-01T01:00Z"]
    cells = [stamps, *([["Germany"] * 2] * 2), ["DE"] * 2, [300.0, 301.0], [340.0, 341.0],
             [1.0, 1.0], ["x", "y"], [False, True]]  # fmt: skip
    parquet.write_table(arrow.table(dict(zip(HEADER, cells, strict=True))), path)
    for only in (None, ["DE"]):
        assert column(read_table(path, Factors.LIFECYCLE, only=only), "DE") == [340.0, 341.0]
