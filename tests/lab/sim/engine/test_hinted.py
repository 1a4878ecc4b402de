"""A simulated fleet that is scaled by the product's hints."""

import math
from dataclasses import replace

import numpy as np
import pytest

from router.app.scaling.looks import LOOK_S, PEAK_S
from router.core.deferral.needs import PlaceNeed, WaitingNeeds
from router.lab.sim.engine.run import simulate
from router.lab.sim.simulation import Autoscaling, Gateways, Outage, ScaledBy
from router.model import Budget, Spread
from tests import factories as f
from tests.lab.sim import worlds as w

CARBON = f.policy(name="green", near_tie=0.0, spread=Spread.PACK)
GRIDS = {"grid-a": 400.0, "grid-b": 50.0}
AFTER_S, WAKE_S, WAKE_W, ASLEEP_W = 60.0, 20.0, 700.0, 30.0
HINTED = Autoscaling(AFTER_S, WAKE_S, WAKE_W, ScaledBy.HINTS, ASLEEP_W)
# From the start on nobody is let go for as long as a peak is of.
LET_GO_S = PEAK_S + AFTER_S
PUE_A, PUE_B = 1.1, 1.2
IDLE_W = 90.0 * 1.3


def fleet(*regions):
    """Of six places each, all of which are run at once."""
    kinds = [(region, w.SMALL, "m") for region in regions or ("a", "b")]
    return w.fleet(*kinds, max_in_flight=6)


def one(at_s, tokens=50, budget=None):
    return (at_s, 0, 0, 0, 0, 100, tokens, budget or Budget())


def run(rows, the_fleet=None, duration_s=3600.0, needs=None, **changes):
    kept = w.Kept()
    made = w.simulation(the_fleet or fleet(), rows, GRIDS, duration_s,
                        **{"autoscaling": HINTED, **changes})  # fmt: skip
    given = {} if needs is None else {"needs": needs}
    return simulate(made, CARBON, kept, **given), kept


def test_what_nobody_wants_sleeps_but_for_a_spare_where_it_is_cleanest():
    outcome, _ = run([one(10.0)])
    asleep_s = 3600.0 - LET_GO_S
    assert outcome.fleet.spared_j == pytest.approx((IDLE_W - ASLEEP_W) * PUE_A * asleep_s, rel=1e-9)
    kept_on, _ = run([one(10.0)], autoscaling=None)
    saved_j = kept_on.fleet.idle_j - outcome.fleet.idle_j
    assert saved_j == pytest.approx(outcome.fleet.spared_j, rel=1e-9)
    assert outcome.fleet.wake_j == 0.0


def busy(count, first_s, gap_s, tokens=2000):
    return [one(first_s + gap_s * i, tokens, Budget(ttft_ms=1000.0)) for i in range(count)]


def growing(count=200, first_s=900.0, over_s=1800.0):
    """From none a second to one in 4 s, each of which takes up to a minute."""
    return [one(first_s + over_s * math.sqrt(i / count), tokens=2000) for i in range(count)]


def test_what_grows_is_woken_for_in_time():
    the_fleet = fleet("a", "b", "b", "b", "a")
    rows = [one(1.0), *growing()]
    outcome, kept = run(rows, the_fleet)
    assert outcome.completed == len(rows)
    found = kept.rows()
    assert (found["ttft_s"] < 1.0).all()
    assert outcome.fleet.wake_j >= WAKE_S * WAKE_W * PUE_B
    kept_on, _ = run(rows, the_fleet, autoscaling=None)
    assert outcome.fleet.idle_j < kept_on.fleet.idle_j


def test_one_that_goes_ends_what_it_has_and_is_sent_nobody():
    """A long answer begins on a before that is let go."""
    long = one(LET_GO_S - 10.0, tokens=30_000)
    # b is full when it comes.
    rows = [*busy(8, LET_GO_S - 12.0, 0.1, tokens=300), long]
    outcome, kept = run(rows)
    assert outcome.completed == len(rows) and outcome.failed == 0
    assert kept.rows()["region"][-1] == 0
    minutes = {name: np.concatenate([part[name] for part in kept.minutes])
               for name in kept.minutes[0]}  # fmt: skip
    on_a = minutes["endpoint"] == 0
    # Its power falls to that of a sleeper once it is done.
    assert minutes["power_w"][on_a][-1] == pytest.approx(ASLEEP_W)
    assert minutes["power_w"][on_a][10] > IDLE_W


def test_work_that_is_planned_finds_its_replicas_awake():
    at_s, until_s = 1800.0, 2700.0

    def needs(now):
        begins = f.START + at_s
        ahead = {("m", "a"): (PlaceNeed(begins, f.START + until_s, 3.0),)}
        return WaitingNeeds(ahead if now < f.START + until_s else {})

    outcome, kept = run([one(1.0)], needs=needs)
    assert outcome.fleet.wake_j == pytest.approx(WAKE_S * WAKE_W * PUE_A)
    on_a = [part["power_w"][part["endpoint"] == 0][0] for part in kept.minutes]
    assert on_a[int(at_s / 60) - 3] == pytest.approx(ASLEEP_W)
    assert on_a[int(at_s / 60)] == pytest.approx(IDLE_W)
    # Until the need is over, and as long again as any is kept for.
    assert on_a[int((until_s + AFTER_S) / 60) + 1] == pytest.approx(ASLEEP_W)


def test_an_outage_of_one_that_sleeps_costs_nobody_anything():
    lost = Outage(frozenset({"a-0"}), LET_GO_S + 100.0, LET_GO_S + 160.0, 5.0)
    rows = [one(10.0 * i) for i in range(300)]
    outcome, kept = run(rows, outages=(lost,))
    assert outcome.completed == len(rows) and outcome.failed == 0
    # It comes back awake, and is let go again.
    on_a = [part["power_w"][part["endpoint"] == 0][0] for part in kept.minutes]
    assert on_a[-1] == pytest.approx(ASLEEP_W)
    assert outcome.fleet.wake_j == 0.0


def test_an_outage_is_known_when_it_is_noticed():
    lost = Outage(frozenset({"b-1"}), 600.0, 900.0, 30.0)
    outcome, _ = run([one(610.0), one(640.0)], outages=(lost,))
    # The first is lost; for the second b is out, and a is woken only later.
    assert outcome.failed == 1
    assert outcome.completed + sum(outcome.refused.values()) == 1


def test_where_the_spare_is_out_another_region_is_woken():
    """For ten minutes a sleeps; then b, which is cleaner and all that serves, is out for longer
    than waking takes."""
    lost = Outage(frozenset({"b-1"}), 600.0, 2000.0, 5.0)
    rows = [one(10.0 * i) for i in range(300)]
    outcome, _ = run(rows, outages=(lost,))
    # Of one request in ten seconds none is served until a is awake, and all from then on.
    gone = outcome.failed + sum(outcome.refused.values())
    assert gone <= (5.0 + WAKE_S + 2 * LOOK_S) / 10.0 + 1
    assert outcome.fleet.wake_j > 0.0


@pytest.mark.parametrize(
    "gateways", [Gateways(3, 5.0), Gateways(3, 0.0), Gateways(2, 1.0, exchange_s=1.0)]
)
def test_several_gateways_are_told_alike(gateways):
    rows = [one(1.0), *growing()]
    outcome, _ = run(rows, fleet("a", "b", "b", "b", "a"), gateways=gateways)
    assert outcome.completed == len(rows)
    assert outcome.fleet.spared_j > 0.0


def test_the_same_twice_and_in_pieces():
    rows = [one(1.0), *busy(100, 400.0, 4.0)]
    first, _ = run(rows)
    again, _ = run(rows, chunk=7)
    assert first.fleet == again.fleet and first.gco2e == again.gco2e


def test_without_hints_nothing_differs():
    rows = busy(50, 400.0, 4.0)
    kept_on, _ = run(rows, autoscaling=None)
    endless, _ = run(rows, autoscaling=replace(HINTED, release_after_s=math.inf))
    assert kept_on.fleet == endless.fleet
