import math

import pytest

from router.load.energy_meter import MeterScan

PAGE = b"""# HELP emulated:energy_joules_total GPU and host energy, idle draw included.
# TYPE emulated:energy_joules_total counter
emulated:energy_joules_total{model_name="a b} c"} 1.5e3
emulated:energy_joules_total{model_name="d"} 500
emulated:idle_joules_total{model_name="d"} 7
"""


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_meters_of_all_models_add_up(piece) -> None:
    scan = MeterScan()
    for place in range(0, len(PAGE), piece):
        scan.take(PAGE[place : place + piece])
    assert scan.joules == 2000.0


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
    scan = MeterScan()
    scan.take(page)
    assert math.isnan(scan.joules)
