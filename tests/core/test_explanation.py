import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.explanation import REASONS, explain
from router.errors import InvalidMetadataError, RefusedError, UnknownModelError
from router.model import UNLIMITED, Budget, Kind, Outcome, Relax
from tests.core.worlds import EXPECTED, REGIONS, REQUESTS, RTT, World, two, worlds
from tests.examples import examples
from tests.factories import (
    LATENCY_FIRST,
    NOW,
    Dice,
    endpoint,
    fleet,
    forecasts,
    intensity,
    policy,
    region,
    request,
    served,
    token_profile,
)


def explained(world, a_request=None, u=0.5, now=NOW, **options):
    return explain(
        a_request or request(), world.snapshot, world.board, EXPECTED, now, Dice(u), **options
    )


def test_the_chosen_one_comes_first_with_the_decisions_figures():
    world = World()
    told = explained(world, network_j=3600.0)
    decision = world.decide(network_j=3600.0)
    first = told.candidates[0]
    assert told.decision == decision
    assert [one.endpoint for one in told.candidates] == ["w", "e"]
    assert (first.region, first.grid_zone) == ("west", "grid-west")
    assert first.excluded == ""
    assert first.g_per_kwh == decision.run_g_per_kwh == 200.0
    assert first.gco2e == first.cost == pytest.approx(decision.gco2e, rel=1e-12)
    assert (first.rtt_ms, first.ttft_ms) == (decision.rtt_ms, decision.ttft_ms)
    assert (first.tpot_ms, first.e2e_ms) == (decision.tpot_ms, decision.e2e_ms)
    assert (first.energy_j, first.pue) == (decision.energy_j, 1.1)
    # 100 input tokens of 0.05 ms at 665 W, and 0.3 of that beside.
    assert first.prompt_energy_j == pytest.approx(0.1 * 0.05 * 665.0 * 1.3)
    assert first.intensity == decision.intensity
    assert told.candidates[1].gco2e == pytest.approx(decision.latency_first_gco2e, rel=1e-12)
    assert (told.refusal, told.refusal_reason) == ("", "")
    assert (told.policy, told.quantile, told.at) == ("test", 0.95, NOW)


def test_where_each_figure_comes_from_is_said():
    the_fleet = fleet(
        endpoint("real", "west", served(token_profile("p"))),
        endpoint("toy", "east", served(token_profile("p")), emulated=True),
        regions=REGIONS, rtt_ms=RTT,
    )  # fmt: skip
    told = {one.endpoint: one for one in explained(World(the_fleet)).candidates}
    assert told["real"].profile == told["toy"].profile == "p"
    assert told["real"].profile_provenance == "measured"
    assert told["toy"].profile_provenance == "emulated"
    assert told["real"].intensity.kind is Kind.MEASURED


def exclude(world, what):
    """Make the west infeasible for one reason; the request that meets it."""
    if what == "unhealthy":
        world.eject("w")
    if what == "full":
        world.fill("w")
    return {
        "residency": request(residency=frozenset({"va"})),
        "ttft_budget": request(budget=Budget(ttft_ms=50.0)),
        "e2e_budget": request(budget=Budget(e2e_ms=3690.0)),
    }.get(what, request())


@pytest.mark.parametrize("what", ["unhealthy", "full", "residency", "ttft_budget", "e2e_budget"])
def test_each_exclusion_names_its_reason(what):
    world = World()
    told = explained(world, exclude(world, what))
    assert [(one.endpoint, one.excluded) for one in told.candidates] == [("e", ""), ("w", what)]
    # What is excluded has its figures all the same, but no rank to compare.
    assert told.candidates[1].cost is None
    assert told.candidates[1].ttft_ms > 80.0


def test_exclusions_of_single_endpoints_and_zones():
    slow, small = token_profile(tpot_base_ms=30.0), served(context_tokens=10.0)
    the_fleet = fleet(
        endpoint("slow", "west", served(slow)), endpoint("small", "west", small),
        endpoint("dirty", "east"), endpoint("dark", "north"), endpoint("good", "west"),
        rtt_ms={"home": {"east": 10.0, "north": 10.0, "west": 10.0}},
    )  # fmt: skip
    world = World(the_fleet, policy(max_g_per_kwh=400.0), forecasts(west=200, east=500))
    told = explained(world, request(budget=Budget(tpot_ms=20.0)))
    assert {one.endpoint: one.excluded for one in told.candidates} == {
        "good": "", "slow": "tpot_budget", "small": "context_length", "dirty": "carbon_budget",
        "dark": "carbon_unknown",
    }  # fmt: skip
    dark = next(one for one in told.candidates if one.endpoint == "dark")
    assert dark.intensity is None
    assert math.isnan(dark.g_per_kwh)
    assert math.isnan(dark.gco2e)


def test_every_reason_has_a_name_of_its_own():
    assert REASONS[k.FEASIBLE] == ""
    assert len(set(REASONS.values())) == len(REASONS) == 11


def test_a_refusal_is_explained_with_all_that_stood_in_the_way():
    world = World(the_policy=policy(budget=Budget(ttft_ms=1.0)))
    world.eject("e")
    told = explained(world)
    assert told.decision is None
    assert told.refusal_reason == "budget_impossible"
    assert "TTFT budget of 1 ms" in told.refusal
    assert {one.endpoint: one.excluded for one in told.candidates} == {
        "e": "unhealthy", "w": "ttft_budget",
    }  # fmt: skip


def test_a_relaxed_decision_is_explained_by_the_rules_that_made_it():
    chosen = policy(max_g_per_kwh=100.0, budget=Budget(ttft_ms=1.0), ladder=tuple(Relax))
    told = explained(World(the_policy=chosen))
    assert told.decision.relaxed == tuple(Relax)
    assert told.budget == Budget()
    assert [(one.endpoint, one.excluded) for one in told.candidates] == [("e", ""), ("w", "")]
    assert told.candidates[0].cost == pytest.approx(told.candidates[0].e2e_ms)


def test_the_budget_is_the_one_that_counted():
    told = explained(
        World(the_policy=policy(budget=Budget(ttft_ms=500.0, e2e_ms=9000.0))),
        request(budget=Budget(ttft_ms=300.0, explicit=True)),
    )
    assert told.budget == Budget(300.0, UNLIMITED, 9000.0, True)


def test_an_annual_mean_policy_shows_what_it_decided_by_beside_the_hour():
    means = {"grid-east": intensity(100.0), "grid-west": intensity(300.0)}
    told = explained(World(the_policy=policy(annual_mean=True), annual_means=means))
    first = told.candidates[0]
    assert (first.endpoint, first.g_per_kwh, first.intensity.g_per_kwh) == ("e", 100.0, 500.0)
    assert told.decision.run_g_per_kwh == 500.0


def test_two_versions_on_one_endpoint_are_told_apart():
    lean, fat = token_profile("lean"), token_profile("fat", base_w=900.0)
    both = endpoint("both", "west", served(fat, version="1"), served(lean, version="2"))
    world = World(fleet(both), policy(weights=LATENCY_FIRST), forecasts(west=100))
    for u in (0.0, 0.9):
        told = explained(world, u=u)
        assert told.candidates[0].profile == told.decision.served.profile.name
    assert explained(World(fleet(both), policy(), forecasts(west=100))).candidates[0].profile == (
        "lean"
    )


def test_a_wrong_request_is_the_callers_error_here_too():
    with pytest.raises(UnknownModelError):
        explained(World(), request(model="gpt"))
    nowhere = fleet(
        endpoint("w"), regions=[region("west")], rtt_ms={"home": {"west": 1.0}}, default_origin=""
    )
    with pytest.raises(InvalidMetadataError):
        explained(World(nowhere), request(origin="atlantis"))
    assert explained(World(two(served(version="1"))), request(version="1")).decision is not None


@settings(max_examples=examples(62), deadline=None)
@given(worlds(), REQUESTS, st.floats(0.0, 1.0, exclude_max=True))
def test_an_explanation_agrees_with_the_decision(world, a_request, u):
    told = explained(world, a_request, u)
    names = sorted(one.name for one in world.snapshot.layout.find("llama", "").endpoints)
    assert sorted(one.endpoint for one in told.candidates) == names
    try:
        decision = world.decide(a_request, u=u)
    except RefusedError as error:
        assert (told.decision, told.refusal) == (None, str(error))
        assert told.refusal_reason == error.reason
        assert all(one.excluded for one in told.candidates)
        return
    assert repr(told.decision) == repr(decision)  # repr: NaN grams are equal
    assert (told.refusal, told.refusal_reason) == ("", "")
    first = told.candidates[0]
    assert (first.endpoint, first.excluded) == (decision.endpoint.name, "")
    assert (first.ttft_ms, first.e2e_ms) == (decision.ttft_ms, decision.e2e_ms)
    assert first.energy_j == decision.energy_j
    if not math.isnan(first.gco2e):
        assert first.gco2e == pytest.approx(decision.gco2e, rel=1e-9)
    # Feasible ones by cost after the chosen one, then the excluded ones.
    kept = [one for one in told.candidates if not one.excluded]
    costs = [one.cost for one in kept[1:]]
    assert costs == sorted(costs)
    least = min(one.cost for one in kept)
    near_tie = world.snapshot.policy.near_tie
    assert first.cost <= least + near_tie * least
    assert told.candidates[: len(kept)] == tuple(kept)
    near = min(kept, key=lambda one: one.ttft_ms)
    assert near.ttft_ms == min(
        one.ttft_ms for one in kept if one.endpoint == decision.latency_first_endpoint
    )


def test_the_premium_of_a_full_region_is_told_and_asking_teaches_nothing():
    world = World(the_policy=policy(near_tie=0.0, scarcity=0.5))
    held = world.fill("w")
    before = explained(world).candidates
    assert {one.endpoint: one.premium_g for one in before} == {"e": 0.0, "w": 0.0}
    assert explained(world).candidates == before
    world.decide(u=0.0)
    assert explained(world).candidates == before
    world.forward(u=0.0)
    for lease in held[:1]:
        lease.close(Outcome.SUCCEEDED)
    told = {one.endpoint: one for one in explained(world).candidates}
    assert told["e"].premium_g == 0.0
    assert told["w"].premium_g > 0.0
    assert told["w"].cost == pytest.approx(told["w"].gco2e + told["w"].premium_g)


def test_the_delay_that_the_path_adds_is_told():
    world = World()
    before = {one.endpoint: one for one in explained(world).candidates}
    assert {one.delay_ms for one in before.values()} == {0.0}
    live = world.board.live("llama", "")
    names = [one.name for one in world.snapshot.layout.find("llama", "").endpoints]
    live[k.TTFT_DELAY, names.index("w")] = 7.0
    after = {one.endpoint: one for one in explained(world).candidates}
    assert after["e"] == before["e"]
    assert after["w"].delay_ms == 7.0
    assert after["w"].ttft_ms == pytest.approx(before["w"].ttft_ms + 7.0)
