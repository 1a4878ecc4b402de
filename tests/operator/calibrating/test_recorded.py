"""Series as they were kept: tables and pages; what is wrong is told with its place."""

import math

import pytest

from router.errors import TraceError
from router.load.work_counters import WorkCounters
from router.model import EnergyMeter
from router.operator.calibrating.recorded import read_recorded

METER = EnergyMeter("", "dcgm", {"gpu": frozenset("0")})


def read(path):
    return read_recorded(path, "vllm", METER)


def test_a_table_says_in_its_header_what_it_has(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "time,energy_mj,answer_tokens,running,note\n"
        "1764500000,5000,10,0,x\n2025-11-30T10:53:22Z,7000,,nan,\n1764500004,-3,12,1,\n"
    )
    first, second, third = read(path)
    assert (first.at, second.at) == (1764500000.0, 1764500002.0)
    assert first.meter.joules == {"a.csv": 5.0}
    assert first.work.answer_tokens == 10.0 and math.isnan(first.work.prompt_tokens)
    assert math.isnan(second.work.answer_tokens) and math.isnan(second.work.running)
    # No meter counts below nothing.
    assert third.meter.joules == {}


def test_watts_are_no_joules(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,power_w,requests\n1,250,3\n")
    (only,) = read(path)
    assert (only.meter.joules, only.watts, only.work.requests) == ({}, 250.0, 3.0)


def test_parquet_is_read_alike(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    columns = {"time": [1.0, 2.0], "energy_j": [5.0, None], "iterations": [7, 8]}
    pq.write_table(pa.table(columns), path)
    first, second = read(path)
    assert (first.meter.joules, first.work.iterations) == ({"a.parquet": 5.0}, 7.0)
    assert second.meter.joules == {}


def test_a_folder_holds_pages_by_their_time(tmp_path):
    for at, joules in ((1764500002, 7000), (1764500000.5, 5000)):
        (tmp_path / f"{at}.prom").write_text(
            'vllm:generation_tokens_total{model_name="m"} 10\nvllm:num_requests_running 2\n'
            f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="GPU-a"}} {joules}\n'
            'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a"} 70.5'
        )
    (tmp_path / "readme.md").write_text("none")
    first, second = read(tmp_path)
    assert (first.at, second.at) == (1764500000.5, 1764500002.0)
    assert (first.meter.joules, first.watts) == ({"GPU-a": 5.0}, 70.5)
    assert first.work == pytest.approx(WorkCounters(answer_tokens=10.0, running=2.0), nan_ok=True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("time,energy_j\n1,2\n", "needs the columns time"),
        ("time,energy_j,power_w,running\n1,2,3,4\n", "one of energy_j, energy_mj, power_w"),
        ("energy_j,running\n1,2\n", "needs the columns time"),
        ("time,energy_j,running\n1,much,2\n", r"row 2, energy_j: 'much' is not a number"),
        ("time,energy_j,running\nnoon,1,2\n", r"row 2, time: "),
        ("time,energy_j,running\nnan,1,2\n", r"row 2, time: 'nan' is no time"),
        ("time,energy_j,running\n1e300,1,2\n", r"row 2, time: '1e300' is no time"),
        # ms.
        ("time,energy_j,running\n1764500000000,1,2\n", r"row 2, time: '1764500000000' is no"),
        ("time,energy_j,running\n-1,1,2\n", r"row 2, time: '-1' is no time"),
        ("time,energy_j,running\n1,2\n", "cells and header differ"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_row(tmp_path, text, why):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=why) as caught:
        read(path)
    assert "a.csv" in str(caught.value)


def test_what_is_no_series_is_told(tmp_path):
    with pytest.raises(TraceError, match=r"no file of a page"):
        read(tmp_path)
    with pytest.raises(TraceError, match="cannot be read"):
        read(tmp_path / "none.csv")
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(TraceError, match="not a readable Parquet file"):
        read(tmp_path / "a.parquet")
    (tmp_path / "noon.prom").write_text("up 1\n")
    with pytest.raises(TraceError, match=r"noon\.prom: its name"):
        read(tmp_path)
