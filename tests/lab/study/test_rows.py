from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from router.lab.sim.result import RowNames
from router.lab.study import rows
from router.lab.study.rows import Occupancy, ParquetSink, folder_of

NAMES = RowNames(("here", "there"), ("m",), ("west", "east"), ("west-0", "east-0"))


def requests(count: int, first: int = 0, **changes: Any) -> dict[str, Any]:
    whole = {
        "request": np.arange(first, first + count), "origin": np.zeros(count, np.int64),
        "model": np.zeros(count, np.int64), "region": np.ones(count, np.int64),
        "endpoint": np.ones(count, np.int64), "input_tokens": np.full(count, 10),
        "output_tokens": np.full(count, 20), "budget_met": np.ones(count, np.int64),
        "shed_reason": np.zeros(count, np.int64),
    }  # fmt: skip
    numbers = (
        "arrival_s", "start_s", "ttft_s", "end_s", "energy_j_attributional", "energy_j_marginal",
        "prompt_energy_j_attributional", "cached_tokens",
        "gco2e_attributional", "gco2e_marginal", "g_per_kwh",
    )  # fmt: skip
    return {**whole, **{name: np.arange(count) / 7.0 for name in numbers}, **changes}


def minute(at_s: float, *batches: float) -> dict[str, Any]:
    count = len(batches)
    return {
        "minute_s": np.full(count, at_s), "endpoint": np.arange(count), "model": np.zeros(count),
        "batch": np.array(batches), "power_w": np.full(count, 90.0), "active": np.ones(count),
    }  # fmt: skip


def test_codes_become_names_and_what_is_unknown_is_null(tmp_path: Path) -> None:
    shed = requests(
        1, 5, region=np.array([-1]), endpoint=np.array([-1]), ttft_s=np.array([np.nan]),
        budget_met=np.array([0]), shed_reason=np.array([1]), origin=np.array([1]),
    )  # fmt: skip
    with ParquetSink(tmp_path, NAMES) as sink:
        sink.requests(requests(1))
        sink.requests(shed)
    first, second = parquet.read_table(tmp_path / "requests.parquet").to_pylist()
    assert (first["origin"], first["region"], first["endpoint"]) == ("here", "east", "east-0")
    assert (first["shed_reason"], first["budget_met"]) == ("", True)
    assert (second["origin"], second["shed_reason"], second["budget_met"]) == (
        "there", "shed", False,
    )  # fmt: skip
    assert second["region"] is second["endpoint"] is second["ttft_s"] is None


def test_row_groups_do_not_depend_on_how_rows_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_GROUP_ROWS", 10)
    for folder, parts in (("a", (35,)), ("b", (3, 9, 1, 20, 2))):
        first = 0
        with ParquetSink(tmp_path / folder, NAMES) as sink:
            for count in parts:
                values = requests(count, first)
                for name, column in values.items():
                    if column.dtype == np.float64:
                        values[name] = np.arange(first, first + count) / 7.0
                sink.requests(values)
                first += count
    one, other = (tmp_path / folder / "requests.parquet" for folder in "ab")
    assert one.read_bytes() == other.read_bytes()
    found = parquet.ParquetFile(one)
    assert [found.metadata.row_group(i).num_rows for i in range(found.num_row_groups)] == [
        10, 10, 10, 5,
    ]  # fmt: skip
    assert found.read()["request"].to_pylist() == list(range(35))


def test_a_run_without_a_request_still_leaves_both_files(tmp_path: Path) -> None:
    with ParquetSink(tmp_path, NAMES):
        pass
    assert parquet.read_table(tmp_path / "requests.parquet").num_rows == 0
    assert parquet.read_table(tmp_path / "replicas.parquet").num_rows == 0


def test_a_run_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ParquetSink(tmp_path, NAMES) as sink:
        sink.requests(requests(3))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_occupancy_is_the_mean_of_its_minutes(tmp_path: Path) -> None:
    kept = Occupancy(4 * 3600.0 * 2)
    assert kept.span_s == 120.0
    kept.replicas(minute(0.0, 4.0, 0.0))
    kept.replicas(minute(60.0, 6.0, 1.0))
    kept.replicas(minute(120.0, 8.0, 2.0))
    batch = kept.batch()
    assert batch.shape == (240, 2)
    assert batch[0].tolist() == [5.0, 0.5]
    assert batch[1].tolist() == [8.0, 2.0]
    assert np.isnan(batch[2:]).all()


def test_occupancy_passes_rows_on(tmp_path: Path) -> None:
    with ParquetSink(tmp_path, NAMES) as sink:
        kept = Occupancy(600.0, sink)
        kept.requests(requests(2))
        kept.replicas(minute(0.0, 1.0, 2.0))
    assert parquet.read_table(tmp_path / "requests.parquet").num_rows == 2
    assert parquet.read_table(tmp_path / "replicas.parquet")["batch"].to_pylist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "folder"),
    [("carbon-first", "carbon-first"), ("a/b", "a%2Fb"), ("..", "%2E%2E"), ("../x", "..%2Fx")],
)
def test_a_policy_cannot_name_another_folder(name: str, folder: str) -> None:
    assert folder_of(name) == folder
