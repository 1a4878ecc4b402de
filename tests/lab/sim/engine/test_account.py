import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.lab.sim.engine import state as s
from router.lab.sim.engine.account import integrals
from router.lab.sim.engine.build import build_plant, survey
from router.lab.sim.engine.replica import accrue
from router.lab.sim.engine.run import simulate
from router.model import Budget
from tests.lab.sim import worlds as w
from tests.lab.sim.worlds import PACKED, busy


def test_the_account_is_complete():
    """What the requests are charged is what the replicas drew while awake."""
    outcome = simulate(busy(), PACKED)
    charged = outcome.by_region.energy_j @ np.array([1.1, 1.2, 1.3])
    assert charged == pytest.approx(outcome.fleet.busy_j, rel=1e-9)
    assert outcome.gco2e == pytest.approx(outcome.fleet.busy_g, rel=1e-9)


def test_a_gap_between_events_needs_no_events():
    """Two requests a day apart, and every hour of idle draw in between."""
    fleet = w.fleet(("a", w.SMALL, "m"))
    rows = [(1.0, 0, 0, 0, 0, 100, 50, Budget()), (86_000.0, 0, 0, 0, 0, 100, 50, Budget())]
    simulation = w.simulation(fleet, rows, {"grid-a": 100.0}, duration_s=86_400.0, hours=24)
    outcome = simulate(simulation, PACKED)
    assert outcome.completed == 2
    assert len(outcome.fleet_hours) == 24
    whole = sum(hour.total_j for hour in outcome.fleet_hours)
    assert whole == pytest.approx(outcome.fleet.total_j)
    assert outcome.fleet.idle_j == pytest.approx(86_400.0 * 90.0 * 1.3 * 1.1, rel=1e-3)


@given(
    st.sampled_from([0, 0, 1, 6]), st.integers(0, 6),
    st.sampled_from([s.UP, s.DOWN, s.WAKING, s.ASLEEP]),
    st.floats(0.0, 30.0), st.floats(0.0, 100.0), st.just(math.inf) | st.floats(0.0, 60.0),
    st.sampled_from([0.0, 0.05]),
)  # fmt: skip
@example(0, 0, s.UP, 10.0, 50.0, 30.0, 0.0)
@example(6, 2, s.UP, 10.0, 50.0, 30.0, 0.05)
def test_what_is_read_is_what_would_accrue(
    running, decoding, state, idle_s, elapsed_s, release_s, prompts_s
):
    """Without changing anything, and whatever the replica is at."""
    one = w.simulation(w.fleet(("a", w.SMALL, "m")), [], {"grid-a": 100.0})
    plant = build_plant(one, survey(one))
    plant.replicas[0, s.NOW] = 100.0
    plant.replicas[0, s.IDLE_SINCE] = 100.0 - idle_s
    plant.states[0, s.RUNNING] = running
    plant.states[0, s.DECODING] = min(running, decoding)
    plant.replicas[0, s.ITERATION_S] += prompts_s
    plant.states[0, s.STATE] = s.UP if running else state
    before = plant.replicas.copy()
    read = integrals(plant, 100.0 + elapsed_s, release_s)
    assert np.array_equal(plant.replicas, before)
    accrue.py_func(plant, 0, 100.0 + elapsed_s, release_s)
    columns = [s.BUSY_S, s.TOKENS, s.IDLE_S, s.WAKE_S, s.OFF_S, s.BATCH_S, s.PROMPT_S]
    columns.append(s.ASLEEP_S)
    assert read[:, 0] == pytest.approx(plant.replicas[0, columns], abs=1e-12)
    busy, _, idle, waking, off, _, prompt, asleep = read[:, 0]
    assert busy + idle + waking + off + asleep == pytest.approx(elapsed_s, abs=1e-9)
    whole_s = plant.replicas[0, s.ITERATION_S]
    assert prompt == pytest.approx(busy * prompts_s / whole_s, abs=1e-9)
