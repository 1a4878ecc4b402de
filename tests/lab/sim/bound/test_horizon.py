"""The bound of work that may wait: exact where it can be counted, and below every schedule."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.replay.physics import Physics
from router.lab.sim.bound.run import bound
from router.lab.sim.deferral.run import (
    DeferrableTraffic,
    Releases,
    Whole,
    sent_at,
    simulate_sent,
    usual_of,
)
from router.lab.sim.simulation import Autoscaling, Simulation
from router.lab.sim.traffic.columns import joined
from router.model import Alias, LengthPrior, QualityFloors, Variant
from tests import factories as f
from tests.examples import examples
from tests.factories import HOUR, policy
from tests.lab.sim.bound import cases

pytest.importorskip("scipy")
CARBON = policy()
# Idle replicas are released at once, so that a run's grams are those of its busy replicas.
RELEASED = {"autoscaling": Autoscaling(0.0, 0.0, 0.0)}


def waiting(
    requests: list[cases.TimedRequest],
    deadlines_s: list[float],
    g_per_kwh: list[float],
    places: dict[str, int] | None = None,
    **changes: object,
) -> Simulation:
    """In one region, unless said otherwise; ``deadlines_s``: inf for those that may not wait."""
    fleet = cases.fleet(places or {"a": 1}, one=changes.pop("one", None))
    hours = {f"Z-{name}": g_per_kwh for name in places or {"a": 1}}
    made = cases.simulation(
        requests, fleet, hours, CARBON, duration_s=len(g_per_kwh) * HOUR, **changes
    )
    traffic = joined(list(made.workload.chunks()))
    limited = replace(traffic, deadline_s=np.array(deadlines_s, np.float64))
    return replace(made, workload=Whole(made.workload.names, limited), defers=True)


def test_one_request_runs_in_the_cleanest_hour_that_it_can_reach() -> None:
    hours = [300.0, 200.0, 100.0, 50.0]

    def least(at_s: float, deadline_s: float) -> float:
        return bound(waiting([cases.ask(at_s)], [deadline_s], hours), CARBON).busy_g

    at_once = [least(HOUR * hour, math.inf) for hour in range(4)]
    assert least(0.0, 2.5 * HOUR) == pytest.approx(at_once[2])
    assert least(0.0, 3.0 * HOUR) == pytest.approx(at_once[2])
    assert least(0.0, 3.0 * HOUR + 1.0) == pytest.approx(at_once[3])
    assert least(0.0, 60.0) == pytest.approx(at_once[0])


def test_what_finds_no_room_in_the_cleanest_hour_takes_the_next() -> None:
    hours, count, n_out = [300.0, 100.0, 200.0], 1200, 2000
    many = [cases.ask(0.0, n_out=n_out) for _ in range(count)]
    found = bound(waiting(many, [3.0 * HOUR] * count, hours), CARBON)
    physics = Physics.of(cases.profile())
    # Four at once, the most that are allowed.
    each_s = physics.prompt_s(100) + (n_out - 1) * (
        physics.tpot_base_s / 4 + physics.tpot_s_per_sequence
    )
    assert HOUR < count * each_s < 3.0 * HOUR
    assert found.overloaded_slots == 0
    joules = physics.base_w * each_s + physics.j_per_token * n_out
    joules += (physics.prefill_w - physics.base_w) * physics.prompt_s(100)
    left = count
    grams = 0.0
    for g in sorted(hours):
        taken = min(left, HOUR / each_s)
        grams += taken * joules * 1.2 / 3.6e6 * g
        left -= taken
    # What takes more energy for its seconds is done in the cleaner hours, which none of this knows.
    assert grams * (1.0 - 5e-4) <= found.busy_g <= grams


def test_no_schedule_of_a_small_case_gets_below() -> None:
    """Every way to send three requests at the full hours or at once."""
    requests = [cases.ask(10.0), cases.ask(20.0, n_out=400), cases.ask(30.0, n_in=400)]
    made = waiting(requests, [2.5 * HOUR, 1.5 * HOUR, math.inf], [300.0, 120.0, 100.0], **RELEASED)
    work = DeferrableTraffic.of(made)
    least = bound(made, CARBON).busy_g
    found = []
    for first, second in itertools.product((10.0, HOUR, 2.0 * HOUR), (20.0, HOUR)):
        sent = simulate_sent(made, CARBON, work, Releases(np.sort(np.array([first, second, 30.0]))))
        if sent.in_time.sum() == work.may_wait.sum():
            found.append(sent.result.gco2e)
    assert found and min(found) >= least * (1.0 - 1e-6)
    at_once = simulate_sent(made, CARBON, work, Releases.at_once(work)).result.gco2e
    assert min(found) < at_once


@settings(max_examples=examples(12), deadline=None)
@given(st.data())
def test_neither_the_scheduler_nor_chance_gets_below(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    at_s = sorted(data.draw(st.lists(st.floats(0.0, 3600.0), min_size=count, max_size=count)))
    later = data.draw(
        st.lists(st.sampled_from((math.inf, 900.0, 5000.0, 9000.0)), min_size=count, max_size=count)
    )
    hours = data.draw(st.lists(st.floats(20.0, 900.0), min_size=3, max_size=3))
    requests = [cases.ask(at, n_out=data.draw(st.integers(1, 300))) for at in at_s]
    deadlines = [at + more for at, more in zip(at_s, later, strict=True)]
    made = waiting(requests, deadlines, hours, {"a": 1, "b": 1}, **RELEASED)
    work = DeferrableTraffic.of(made)
    least = bound(made, CARBON)
    by_plan = sent_at(made, work, usual_of(made, CARBON), made.signal.view)
    by_chance = work.traffic.arrival_s.copy()
    by_chance[work.may_wait] += (
        np.array([data.draw(st.floats(0.0, 0.9)) for _ in range(int(work.may_wait.sum()))])
        * (work.traffic.deadline_s - work.traffic.arrival_s)[work.may_wait]
    )
    for sent in (Releases.at_once(work), by_plan, Releases(by_chance)):
        run = simulate_sent(made, CARBON, work, sent)
        if run.in_time.sum() == work.may_wait.sum() and run.result.met == 1.0:
            assert run.result.gco2e >= least.busy_g * (1.0 - 1e-6)
            assert run.result.fleet.total_g >= least.busy_g * (1.0 - 1e-6)


def test_the_fleet_that_stays_on_is_bounded_too() -> None:
    made = waiting([cases.ask(0.0)], [2.0 * HOUR], [300.0, 100.0])
    work = DeferrableTraffic.of(made)
    least = bound(made, CARBON)
    for at_s in (0.0, HOUR):
        run = simulate_sent(made, CARBON, work, Releases(np.array([at_s])))
        assert run.result.fleet.total_g >= least.fleet_g
    assert least.fleet_g < bound(replace(made, defers=False), CARBON).fleet_g


def test_two_aliases_share_the_room_of_their_variants() -> None:
    small, large = f.served(cases.profile(), "small"), f.served(cases.profile(base_w=900.0), "m")
    fleet = f.fleet(
        f.endpoint("s", "a", small, max_in_flight=4), f.endpoint("l", "a", large, max_in_flight=4),
        regions=[f.region("a", ("a",), grid_zone="Z-a")], rtt_ms={"me": {"a": 0.0}},
        default_origin="me", priors={"m": LengthPrior(100.0, 60.0, 120.0)},
    )  # fmt: skip
    both = (Variant("small", 0.4), Variant("m", 0.8))
    aliases = {
        "any": Alias("any", both, "made up"),
        "best": Alias("best", both, "made up", QualityFloors(0.8)),
    }
    priors = dict.fromkeys(("any", "best", "small", "m"), fleet.priors["m"])
    fleet = replace(fleet, aliases=aliases, priors=priors)
    rows = [cases.ask(float(at), n_out=200) for at in range(400)]
    made = cases.simulation(rows, fleet, {"Z-a": [100.0]}, CARBON, duration_s=HOUR)
    names = replace(made.workload.names, models=("any", "best"))
    traffic = joined(list(made.workload.chunks()))
    model = np.arange(len(traffic), dtype=np.int32) % 2
    made = replace(made, workload=Whole(names, replace(traffic, model=model)))
    found = bound(made, CARBON)
    assert math.isfinite(found.fleet_g) and found.overloaded_slots == 0
    work = DeferrableTraffic.of(made)
    run = simulate_sent(made, CARBON, work, Releases.at_once(work)).result
    assert run.completed == len(traffic)
    assert run.gco2e >= found.busy_g and run.fleet.total_g >= found.fleet_g
