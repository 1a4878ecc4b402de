import numpy as np
import pytest

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
