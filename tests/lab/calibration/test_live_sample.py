from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from router.lab.calibration.live_sample import LEAST_CAP, MOST_ENDPOINTS, sample, shrink
from tests import factories as f
from tests.lab.calibration.scenarios import small


def test_requests_come_at_the_scenarios_own_rate_while_the_carbon_clock_runs_faster():
    chosen = sample(small(rps=30), 60.0, seed=1)
    assert chosen.period.seconds == 60.0
    assert chosen.period.speed == pytest.approx(360.0)
    assert len(chosen.requests) == pytest.approx(1800, rel=0.1)
    arrivals = chosen.traffic.arrival_s
    assert (np.diff(arrivals) >= 0.0).all() and 0.0 <= arrivals[0] < arrivals[-1] < 60.0
    assert [timed.at_s for timed in chosen.requests] == arrivals.tolist()
    assert len({timed.request.request_id for timed in chosen.requests}) == len(chosen.requests)
    assert chosen.endpoints == small().fleet.endpoints


def test_requests_are_the_scenarios():
    simulation = small()
    kinds = Counter(
        (t.request.tenant, t.request.residency, t.request.budget, t.streamed)
        for t in sample(simulation, 60.0, seed=1).requests
    )
    acme = next(kind for kind in kinds if kind[0] == "acme")
    assert acme[1] == frozenset({"us-west"}) and acme[2].e2e_ms == 10_000.0
    assert kinds[acme] / kinds.total() == pytest.approx(0.1, abs=0.03)
    other = next(kind for kind in kinds if kind != acme)
    assert other[1] == frozenset() and other[2][:2] == (400.0, 20.0)
    assert all(kind[2].explicit and kind[3] for kind in kinds)
    origins = Counter(t.request.origin for t in sample(simulation, 60.0, seed=1).requests)
    assert origins["east"] / origins.total() == pytest.approx(0.6, abs=0.05)


def test_the_same_seed_takes_the_same_requests():
    simulation = small()
    assert sample(simulation, 30.0, 1).requests == sample(simulation, 30.0, 1).requests
    assert sample(simulation, 30.0, 1).requests != sample(simulation, 30.0, 2).requests


def test_little_time_takes_fewer_hours_not_shorter_ones():
    chosen = sample(small(), 6.0, seed=1)
    assert chosen.period.speed == pytest.approx(1800.0)
    assert chosen.traffic.arrival_s[-1] < 6.0
    assert "3 h in 6 s" in chosen.notes[0]


def test_a_scenario_shorter_than_the_time_is_not_stretched():
    chosen = sample(replace(small(), duration_s=20.0), 60.0, seed=1)
    assert chosen.period.seconds == 20.0 and chosen.period.speed == 1.0


def test_a_rate_that_the_machine_cannot_play_cuts_requests_and_caps_alike():
    simulation = small(rps=300)
    wide = [replace(one, max_in_flight=80) for one in simulation.fleet.endpoints]
    simulation = replace(simulation, fleet=replace(simulation.fleet, endpoints=tuple(wide)))
    chosen = sample(simulation, 60.0, seed=1, most_rps=50.0)
    counts, _ = np.histogram(chosen.traffic.arrival_s, 20, (0.0, 60.0))
    assert counts.max() / 3.0 <= 50.0 * 1.25
    share = len(chosen.requests) / (300 * 60)
    caps = {endpoint.max_in_flight for endpoint in chosen.endpoints}
    assert len(chosen.endpoints) == 6 and len(caps) == 1
    assert caps.pop() / 80 == pytest.approx(share, rel=0.2)
    assert any("max_in_flight cut to match" in note for note in chosen.notes)


def test_a_large_fleet_loses_replicas_but_no_region_and_keeps_its_room():
    regions = [f"r{i}" for i in range(8)]
    fleet = [f.endpoint(f"{r}-{i}", r, max_in_flight=100) for r in regions for i in range(10)]
    small_fleet = shrink(fleet, 0.05)
    assert {endpoint.region for endpoint in small_fleet} == set(regions)
    assert len(small_fleet) <= MOST_ENDPOINTS
    room = sum(endpoint.max_in_flight for endpoint in small_fleet)
    assert room == pytest.approx(0.05 * 100 * len(fleet), rel=0.05)
    assert all(endpoint.max_in_flight >= LEAST_CAP for endpoint in small_fleet)
    assert shrink(fleet[:5], 1.0) == tuple(fleet[:5])


def test_what_would_run_for_most_of_the_time_is_left_out_and_said():
    simulation = small(longest=4000)
    whole, short = sample(simulation, 60.0, seed=1), sample(simulation, 4.0, seed=1)
    assert not any("left out: alone" in note for note in whole.notes)
    assert any("left out: alone" in note for note in short.notes)
    longest = max(timed.output_tokens for timed in short.requests)
    assert longest * 0.0062 < 2.0 < longest * 0.0062 * 1.5


def test_what_the_live_side_does_not_have_is_said():
    notes = " ".join(sample(small(), 30.0, seed=1).notes)
    for what in ("One gateway on both sides, not 3", "Outages", "Autoscaling", "No warm-up"):
        assert what in notes
