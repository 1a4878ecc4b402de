from __future__ import annotations

import math

import numpy as np
import pytest

from router.lab.sim.engine import state as s
from router.lab.sim.engine.build import build_plant, survey
from router.lab.sim.fluid.fill import LOADS, RATE, TOKENS, batch_of, occupancy
from tests import factories as f
from tests.lab.sim import worlds as w


def plant_of(slope_s: float) -> s.Plant:
    one = w.simulation(w.fleet(("a", f.token_profile(), "m")), [], {"grid-a": 100.0})
    plant = build_plant(one, survey(one))
    plant.replicas[:, s.TPOT_SLOPE] = slope_s
    return plant


def test_without_slow_down_a_replica_is_empty_as_an_infinite_server_queue_is() -> None:
    plant, load_now = plant_of(0.0), np.zeros(LOADS)
    load_now[RATE], load_now[TOKENS] = 0.5, 2.0 / plant.replicas[0, s.TPOT_BASE]
    busy, _ = occupancy(plant, 0, load_now, 1.0)
    assert busy == pytest.approx(1.0 - math.exp(-2.0), rel=1e-6)


def test_little_holds_with_slow_down() -> None:
    plant, load_now = plant_of(1e-4), np.zeros(LOADS)
    load_now[TOKENS] = 3000.0
    batch, full = batch_of(plant, 0, load_now)
    assert not full
    assert batch == pytest.approx(3000.0 * (plant.replicas[0, s.TPOT_BASE] + 1e-4 * batch))
