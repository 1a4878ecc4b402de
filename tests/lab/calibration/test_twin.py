"""The simulation on its compressed clock against what a reader would compute by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router.config.loading import parse_policy
from router.core.columns import mean_over
from router.lab.calibration import twin
from router.lab.calibration.figures import checks
from router.lab.calibration.live_sample import sample
from router.lab.calibration.signal_table import longer, signal_table
from router.lab.loopback.settle import actual
from router.lab.replay.timed import Period
from router.units import J_PER_KWH
from tests import factories as f
from tests.lab.calibration.scenarios import small

SECONDS = 20.0


@pytest.fixture(scope="module")
def played():
    """One draw, for a gateway that came up 40 minutes of carbon time late."""
    simulation = small()
    chosen = sample(simulation, SECONDS, seed=1)
    period = replace(chosen.period, carbon_start=simulation.start + 2400.0)
    known = signal_table(simulation, period)
    virtual = twin.twin_of(simulation, simulation.fleet, chosen, period, known)
    answers, fleet = twin.run(virtual, simulation.policies[0], 1)
    return simulation, chosen, period, virtual, answers, fleet


def test_every_request_is_accounted_for(played):
    _, chosen, _, _, answers, _ = played
    assert len(answers.region) + sum(answers.refused.values()) == len(chosen.requests) > 400
    assert (answers.e2e_ms >= answers.ttft_ms).all() and (answers.ttft_ms > 0.0).all()
    assert (answers.energy_j > 0.0).all() and set(answers.region) <= {0, 1, 2}


def test_grams_count_the_carbon_clock_while_a_request_runs(played):
    simulation, _, period, virtual, _, _ = played
    rows = twin._Kept()
    twin.simulate(replace(virtual, network_kwh_per_gb=0.0), simulation.policies[0], rows)
    zones = sorted({region.grid_zone for region in simulation.fleet.regions.values()})
    truth = actual(longer(simulation.actual), zones, simulation.carbon_signal)
    served = rows._column("shed_reason") == 0
    regions = [*simulation.fleet.regions.values()]
    origins = virtual.workload.names.origins
    columns = ("region", "origin", "start_s", "end_s", "energy_j_attributional")
    place, origin, start_s, end_s, joules = (rows._column(name)[served] for name in columns)
    grams = rows._column("gco2e_attributional")[served]
    hours = set()
    for i in range(0, len(grams), 7):
        region = regions[int(place[i])]
        back_s = simulation.fleet.rtt_ms[origins[int(origin[i])]][region.name] / 2e3
        begin = period.carbon_time(start_s[i])
        run_s = (end_s[i] - back_s - start_s[i]) * period.speed
        mean = mean_over(truth[region.grid_zone], begin, run_s)
        expected = joules[i] * region.pue / J_PER_KWH * mean
        assert grams[i] == pytest.approx(expected, rel=1e-6)
        hours.add(math.floor(begin / 3600.0))
    assert len(hours) >= 6


def test_the_fleet_draws_what_its_requests_do(played):
    simulation, _, _, _, answers, fleet = played
    pue = np.array([region.pue for region in simulation.fleet.regions.values()])
    assert fleet.busy_j == pytest.approx(float((answers.energy_j * pue[answers.region]).sum()))
    assert fleet.busy_g == pytest.approx(float(answers.gco2e.sum()), rel=0.02)
    assert fleet.idle_j > 0.0 and fleet.wake_j == fleet.spared_j == 0.0


def test_the_same_seed_draws_the_same(played):
    simulation, _, _, virtual, answers, _ = played
    again, _ = twin.run(virtual, simulation.policies[0], 1)
    assert (again.region == answers.region).all() and (again.e2e_ms == answers.e2e_ms).all()


def test_no_requests_no_answers():
    simulation = small()
    chosen = sample(simulation, SECONDS, seed=1)
    nobody = replace(chosen, requests=(), traffic=chosen.traffic.taken(slice(0)))
    period = Period(SECONDS, simulation.start, 360.0)
    virtual = twin.twin_of(
        simulation, simulation.fleet, nobody, period, signal_table(simulation, period)
    )
    answers, _ = twin.run(virtual, simulation.policies[0], 1)
    assert len(answers.region) == 0 and not answers.refused


def test_another_policy_would_not_pass_for_this_one(played):
    simulation, chosen, _, virtual, answers, _ = played
    spread, _ = twin.run(virtual, parse("round-robin"), 1)
    held = checks(tuple(simulation.fleet.regions), spread, [answers], len(chosen.requests))
    assert {check.what for check in held if not check.ok} >= {"share of california", "emissions"}


def parse(name):
    schema, _ = parse_policy(name, Path(name))
    return schema.build(name, f.SIGNAL)
