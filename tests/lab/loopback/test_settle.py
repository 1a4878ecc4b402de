import math

import numpy as np
import pytest

from router.carbon.tables.table import TraceTable
from router.lab.loopback.settle import actual, settled
from router.lab.replay.records import Record
from router.lab.replay.timed import Period
from router.units import J_PER_KWH
from tests import factories as f

START = 1_652_511_600.0


def record(serial, region="west", at_s=0.0, e2e_ms=1000.0, energy_j=360.0):
    return Record(
        serial, "chat", "home", region, "a", at_s, 50.0, e2e_ms, 10.0, energy_j, 100.0, 9.9, True
    )


def test_grams_are_at_the_intensity_while_it_ran():
    fleet = f.fleet(regions=[f.region("west", pue=1.5, grid_zone="Z")])
    table = TraceTable("t", ("Z",), START, 3600.0, np.array([[100.0], [300.0]]))
    truth = actual(table, ["Z"], f.SIGNAL)
    # An hour lasts 2 s: the second request runs half in either hour, the third after both.
    period = Period(4.0, START, 1800.0)
    late = record(2, at_s=5.0)
    found = settled([late, record(1, at_s=1.5), record(0), ], fleet, truth, period)  # fmt: skip
    assert [one.serial for one in found] == [0, 1, 2]
    kwh = 360.0 * 1.5 / J_PER_KWH
    assert [one.gco2e for one in found] == pytest.approx([kwh * 100, kwh * 200, kwh * 300])


def test_without_a_receipt_nothing_is_known():
    fleet = f.fleet(regions=[f.region("west", grid_zone="Z")])
    table = TraceTable("t", ("Z",), START, 3600.0, np.array([[100.0]]))
    unknown = record(0, region="?", energy_j=math.nan)._replace(gco2e=math.nan)
    (found,) = settled([unknown], fleet, actual(table, ["Z"], f.SIGNAL), Period(4.0, START, 900.0))
    assert math.isnan(found.gco2e)
