"""The fluid plan: against the engine, against closed forms, and what must add up."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from router.lab.sim.engine.run import simulate
from router.lab.sim.fluid.demand import gather
from router.lab.sim.fluid.run import run_fluid
from router.lab.sim.scenario.loading import load
from router.lab.sim.simulation import Autoscaling, Outage, Simulation
from router.lab.sim.tune.train_test import window
from tests.lab.sim.fluid.six_grids import POLICIES, SCENARIOS, scenario

# What the plan leaves out, and why it strays more with some policies since prompts are work:
# * one that fills replicas to a cap (PACKING) is let in by how little a request adds: in the engine
#   short prompts take the place that anyone leaves, and long ones are sent on (of 410 and 1,590
#   tokens on the mean, where all have 760); here each flow is placed in proportion, so that fuller
#   replicas hold more of the work than they would. And in the engine a long prompt beside few
#   others is a large part of a cap: room is left that is too small for the next.
#   Learning makes it more: the engine's gateways come to factors of 2 to 8 for queues, each replica
#   to another; at 0.7 of the load grams of carbon-first are 13 % apart, 8 % if nobody learns.
# * one that goes by TTFT (NEAREST) sees in the engine when a long prompt is being read; here it
#   sees the mean wait. Grams hold; marginal ones, which go by how many are alone, are up to a
#   quarter apart, less than half of it if nobody learns.
# Flows come evenly, so whose turn it is (`router.core.terms`) never matters here: at low load the
# engine uses a second replica where a burst would have been too much for one.
PACKING = ("carbon-first", "static-greenest")
NEAREST = ("latency-first",)


@pytest.mark.parametrize("name", POLICIES)
def test_it_comes_to_what_the_engine_comes_to(name: str) -> None:
    policy = next(one for one in scenario().policies if one.name == name)
    exact, fluid = simulate(scenario(), policy), run_fluid(scenario(), policy)
    assert fluid.completed == pytest.approx(exact.completed, abs=1)
    assert fluid.prompt_energy_j == pytest.approx(exact.prompt_energy_j, rel=0.01)
    grams, marginal, fleet = (0.25, 0.13, 0.12) if name in PACKING else (0.06, 0.06, 0.03)
    marginal = 0.27 if name in NEAREST else marginal
    assert fluid.gco2e == pytest.approx(exact.gco2e, rel=grams)
    assert fluid.energy_j == pytest.approx(exact.energy_j, rel=grams)
    assert fluid.marginal_gco2e == pytest.approx(exact.marginal_gco2e, rel=marginal)
    assert fluid.fleet.total_g == pytest.approx(exact.fleet.total_g, rel=fleet)
    # Of the work, as it is not the same requests that are where it is done.
    found, real = (one.by_region.energy_j / one.energy_j for one in (fluid, exact))
    assert np.abs(found - real).max() < (0.18 if name in PACKING else 0.04)


# Load to the largest gaps that were measured, and some: of grams, of marginal grams, of shares; of
# policies that spread, of those that go by TTFT, of those that pack.
GAPS = {
    0.02: ((0.06, 0.14, 0.02), (0.06, 0.14, 0.06), (0.06, 0.14, 0.02)),
    0.1: ((0.06, 0.22, 0.02), (0.10, 0.27, 0.10), (0.12, 0.15, 0.02)),
    0.3: ((0.03, 0.09, 0.03), (0.04, 0.24, 0.08), (0.25, 0.22, 0.05)),
    0.5: ((0.03, 0.06, 0.03), (0.04, 0.14, 0.05), (0.20, 0.14, 0.03)),
    0.7: ((0.03, 0.04, 0.02), (0.04, 0.04, 0.05), (0.15, 0.10, 0.03)),
}
# With prompts of 2,000 tokens and answers of 50 most of the time goes into prompts. Packed, half a
# replica more or less is the next grid's: 0.3 of the load is where the first region is just full.
LONG_GAPS = {
    0.1: ((0.04, 0.06, 0.02), (0.06, 0.06, 0.06), (0.10, 0.10, 0.06)),
    0.3: ((0.04, 0.10, 0.02), (0.06, 0.10, 0.09), (0.25, 0.30, 0.50)),
    0.5: ((0.04, 0.08, 0.02), (0.06, 0.06, 0.06), (0.10, 0.08, 0.20)),
}
LONG = "model: llama-3.1-70b\n        input_tokens: {mean: 2000, p95: 5000}\n        output_tokens: {mean: 50, p95: 120}\n"  # noqa: E501


@cache
def loaded(share: float, classes: str = "model: llama-3.1-70b\n") -> Simulation:
    """Twenty minutes of six grids with ten replicas, at this share of what they can serve."""
    text = (SCENARIOS / "us-six-grids-30.yaml").read_text("utf-8")
    for old, new in (
        ("data/", f"{SCENARIOS}/data/"), ("duration: 24h", "duration: 20m"),
        ("kind: forecaster", "kind: persistence"), ("load: 0.3", f"load: {share}"),
        ("california: 4, texas: 4, iowa: 4, virginia: 4, new-york: 4, georgia: 4",
         "california: 2, texas: 2, iowa: 2, virginia: 2, new-york: 1, georgia: 1"),
        ("max_in_flight: 200", "max_in_flight: 64"), ("05-14T07", "05-14T19"),
        ("model: llama-3.1-70b\n", classes),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    with TemporaryDirectory() as folder:
        file = Path(folder, "scenario.yaml")
        file.write_text(text, "utf-8")
        return load(file, policies=POLICIES).simulation


def within(simulation: Simulation, gaps: tuple[tuple[float, ...], ...]) -> None:
    for name in POLICIES:
        policy = next(one for one in simulation.policies if one.name == name)
        exact, fluid = simulate(simulation, policy), run_fluid(simulation, policy)
        grams, marginal, apart = gaps[2 if name in PACKING else 1 if name in NEAREST else 0]
        assert fluid.gco2e == pytest.approx(exact.gco2e, rel=grams), name
        assert fluid.marginal_gco2e == pytest.approx(exact.marginal_gco2e, rel=marginal), name
        assert fluid.fleet.total_g == pytest.approx(exact.fleet.total_g, rel=grams), name
        shares = exact.shares()
        for region, share in fluid.shares().items():
            assert abs(share - shares[region]) < apart, (name, region)


# Of all policies at once: files of many tests are run first, and this one comes better after those
# of the engine, whose compiled loop it then finds on disk.
@pytest.mark.parametrize("share", GAPS)
def test_it_holds_from_an_idle_fleet_to_a_full_one(share: float) -> None:
    within(loaded(share), GAPS[share])


@pytest.mark.parametrize("share", LONG_GAPS)
def test_it_holds_where_prompts_are_most_of_the_work(share: float) -> None:
    within(loaded(share, LONG), LONG_GAPS[share])


def test_part_of_a_request_is_no_idle_replica() -> None:
    """A policy that pays for waking packs a few requests a second on one replica."""
    simulation = loaded(0.02)
    policy = next(one for one in simulation.policies if one.name == "carbon-first")
    exact = simulate(simulation, policy)
    for wake_share in (0.03, 0.3):
        fluid = run_fluid(simulation, replace(policy, wake_share=wake_share))
        assert fluid.marginal_energy_j == pytest.approx(exact.marginal_energy_j, rel=0.02)


def test_a_trace_may_end_before_the_scenario_does() -> None:
    policy = next(one for one in scenario().policies if one.name == "latency-first")
    short = window(scenario(), 0.0, 600.0)
    exact = run_fluid(short, policy)
    longer = replace(short, duration_s=900.0)
    assert gather(longer, 900.0).slots[-1].active == pytest.approx(540.0 / 840.0, abs=0.01)
    assert run_fluid(longer, policy).energy_j == pytest.approx(exact.energy_j, rel=0.02)


def test_it_claims_no_latency() -> None:
    fluid = run_fluid(scenario(), scenario().policies[0])
    assert math.isnan(fluid.met) and math.isnan(fluid.peak_over_cap)
    assert math.isnan(fluid.ttft_ms.quantile(0.5)) and math.isnan(fluid.e2e_ms.quantile(0.5))


def test_the_same_demand_gives_the_same_figures() -> None:
    demand = gather(scenario(), 300.0)
    first, again = (run_fluid(scenario(), scenario().policies[1], demand) for _ in range(2))
    assert first.fleet == again.fleet and first.moved == again.moved


def test_what_does_not_fit_is_refused() -> None:
    fleet = scenario().fleet
    small = replace(
        fleet, endpoints=tuple(replace(one, max_in_flight=7) for one in fleet.endpoints)
    )
    fluid = run_fluid(replace(scenario(), fleet=small), scenario().policies[0])
    assert fluid.refused["shed"] > 0.3 * fluid.offered
    assert fluid.completed + sum(fluid.refused.values()) == pytest.approx(fluid.offered, abs=2)


def test_an_outage_loses_requests_until_it_is_noticed() -> None:
    lost = frozenset(one.name for one in scenario().fleet.endpoints if one.region == "california")
    down = replace(scenario(), outages=(Outage(lost, 300.0, 1e6, 30.0),))
    whole = run_fluid(scenario(), scenario().policies[0])
    fluid = run_fluid(down, scenario().policies[0])
    arrivals = np.concatenate([chunk.arrival_s for chunk in down.workload.chunks()])
    unnoticed = int(((arrivals >= 300.0) & (arrivals < 330.0)).sum())
    assert 0.2 * unnoticed < fluid.failed <= unnoticed
    assert fluid.shares()["california"] < 0.4 * whole.shares()["california"]


def test_idle_replicas_are_released() -> None:
    scaled = replace(scenario(), autoscaling=Autoscaling(60.0, 30.0, 500.0))
    kept = run_fluid(scenario(), scenario().policies[0]).fleet
    released = run_fluid(scaled, scenario().policies[0]).fleet
    assert released.idle_j < 0.2 * kept.idle_j
    assert released.busy_j == kept.busy_j
    assert released.idle_j + released.spared_j == pytest.approx(kept.idle_j)
    # A server that is released may draw power for all that.
    drawing = replace(scaled, autoscaling=Autoscaling(60.0, 30.0, 500.0, asleep_w=30.0))
    asleep = run_fluid(drawing, scenario().policies[0]).fleet
    assert asleep.idle_j > released.idle_j
    assert asleep.idle_j + asleep.spared_j == pytest.approx(kept.idle_j)
