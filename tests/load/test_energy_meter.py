"""Meters as exporters really write them, and what is no meter."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load.energy_meter import NO_READING, MeterReading, MeterScan, WattSum, drawn_j
from router.model import EnergyMeter

EMULATED = b"""# HELP emulated:energy_joules_total GPU and host energy, idle draw included.
# TYPE emulated:energy_joules_total counter
emulated:energy_joules_total{model_name="a b} c"} 1.5e3
emulated:energy_joules_total{model_name="d"} 500
emulated:idle_joules_total{model_name="d"} 7
"""

# Lines in the shape of dcgm-exporter 3.3 and 4.x: two whole GPUs and one that is divided (MIG).
DCGM = b"""# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-aa",pci_bus_id="00000000:37:00.0",device="nvidia0",\
modelName="NVIDIA H100 80GB HBM3",Hostname="node-7",DCGM_FI_DRIVER_VERSION="590.48.01"} 68.244000
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-bb",device="nvidia1",Hostname="node-7"} 71.5
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-aa",pci_bus_id="00000000:37:00.0",\
device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-7"} 15152422938
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="1",UUID="GPU-bb",device="nvidia1",Hostname="node-7"} 1e6
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="2",UUID="GPU-cc",device="nvidia2",\
GPU_I_PROFILE="1g.6gb",GPU_I_ID="3",Hostname="node-7",pod="left"} 126272101025
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="2",UUID="GPU-cc",device="nvidia2",\
GPU_I_PROFILE="1g.6gb",GPU_I_ID="5",Hostname="node-7",pod="right"} 126272106318
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-aa",device="nvidia0",Hostname="node-7"} 91
"""

TRITON = b"""# HELP nv_gpu_power_usage GPU power usage in watts
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{gpu_uuid="GPU-71"} 60.320000
nv_gpu_power_usage{gpu_uuid="GPU-86"} 58.993000
# HELP nv_energy_consumption GPU energy consumption in joules since the Triton Server started
# TYPE nv_energy_consumption counter
nv_energy_consumption{gpu_uuid="GPU-71"} 205620.582000
nv_energy_consumption{gpu_uuid="GPU-86"} 203679.455000
"""


def meter(kind, **labels):
    of = {name: frozenset(values) for name, values in labels.items()}
    return EnergyMeter("http://node:9400/metrics", kind, of)


def read(page, of, piece=10_000):
    scan = MeterScan(of)
    for place in range(0, len(page), piece):
        scan.take(page[place : place + piece])
    return scan.reading()


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_meters_of_all_models_add_up(piece) -> None:
    assert sum(read(EMULATED, meter("emulated"), piece).joules.values()) == 2000.0


def test_dcgm_counts_millijoules_by_gpu_and_once_of_a_divided_one() -> None:
    found = read(DCGM, meter("dcgm"))
    assert found.joules == pytest.approx(
        {"GPU-aa": 15152422.938, "GPU-bb": 1e3, "GPU-cc": 126272106.318}
    )
    assert found.total_w == pytest.approx(139.744)
    assert found.shared == ()


def test_labels_say_which_gpus_are_the_endpoints() -> None:
    assert read(DCGM, meter("dcgm", gpu=["0", "1"], Hostname=["node-7"])).joules.keys() == {
        "GPU-aa", "GPU-bb",
    }  # fmt: skip
    assert read(DCGM, meter("dcgm", Hostname=["node-8"])) == NO_READING


def test_a_gpu_that_others_use_too_is_no_meter_of_one() -> None:
    found = read(DCGM, meter("dcgm", pod=["left"]))
    assert (found.joules, found.shared) == ({}, ("GPU-cc",))


def test_triton_counts_joules() -> None:
    found = read(TRITON, meter("triton", gpu_uuid=["GPU-86"]))
    assert (found.joules, found.watts) == ({"GPU-86": 203679.455}, {"GPU-86": 58.993})


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"up 1\n",
        b"emulated:energy_joules_total nan\n",
        b"emulated:energy_joules_total -1\n",
        b"emulated:energy_joules_total 1e99\n",
        b"emulated:energy_joules_total{a} much\n",
        b"emulated:energy_joules_total 5",
        b"x" * 200_000,
    ],
)
def test_what_is_no_meter_tells_nothing(page) -> None:
    assert read(page, meter("emulated")) == NO_READING


def test_what_dcgm_writes_for_blank_tells_nothing() -> None:
    page = b'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0"} 9223372036854775794\n'
    assert read(page, meter("dcgm")) == NO_READING


@pytest.mark.parametrize(
    ("before", "after", "drawn"),
    [
        ({"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 6.5}, 3.5),
        ({"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 4.0}, math.nan),
        ({"a": 1.0}, {"a": 3.0, "b": 4e9}, math.nan),
        ({"a": 1.0, "b": 1.0}, {"a": 3.0}, math.nan),
        ({}, {}, math.nan),
    ],
)
def test_between_two_readings_of_the_same_meters_lies_what_was_drawn(before, after, drawn) -> None:
    found = drawn_j(MeterReading(before), MeterReading(after))
    assert found == drawn or (math.isnan(found) and math.isnan(drawn))


@given(st.lists(st.tuples(st.floats(0.1, 20.0), st.floats(0, 1e4)), min_size=2, max_size=20))
def test_watts_are_added_up_as_by_trapezoids(steps) -> None:
    sum_, at, expected, before = WattSum(30.0), 0.0, 0.0, None
    for seconds, watts in steps:
        at += seconds
        sum_.take(watts, at)
        if before is not None:
            expected += seconds * (watts + before) / 2.0
        before = watts
    (joules,) = sum_.reading(at).joules.values()
    assert joules == pytest.approx(expected)


def test_after_a_gap_watts_are_another_meter() -> None:
    sum_ = WattSum(30.0)
    assert sum_.reading(0.0) == NO_READING
    sum_.take(100.0, 0.0)
    sum_.take(math.nan, 5.0)
    sum_.take(100.0, 10.0)
    before = sum_.reading(10.0)
    assert drawn_j(MeterReading({}), before) != drawn_j(before, before) == 0.0
    assert sum_.reading(41.0) == NO_READING
    sum_.take(100.0, 60.0)
    sum_.take(100.0, 70.0)
    assert math.isnan(drawn_j(before, sum_.reading(70.0)))
