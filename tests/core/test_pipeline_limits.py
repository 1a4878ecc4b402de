import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.core.latency import z_of
from router.core.lease import Lease
from router.core.lengths import Expected
from router.core.pipeline import CARBON_UNKNOWN
from router.errors import (
    BudgetImpossibleError,
    NothingFeasibleError,
    PolicyExcludesError,
    ResidencyError,
    ShedError,
)
from router.model import (
    UNLIMITED,
    Budget,
    Outcome,
    Relax,
)
from tests.core.worlds import REGIONS, RTT, World, refusal, two
from tests.factories import (
    BOTH_RUNGS,
    endpoint,
    fleet,
    policy,
    request,
    served,
    token_profile,
)


def test_full_everywhere_is_shed():
    world = World(the_policy=policy(ladder=BOTH_RUNGS))
    world.fill("e")
    world.fill("w")
    error = refusal(world)
    assert isinstance(error, ShedError)
    assert error.retry_after_s == 1.0
    assert "'llama'" in str(error)


def test_nobody_healthy():
    world = World(the_policy=policy(ladder=BOTH_RUNGS))
    world.eject("e", "w")
    error = refusal(world)
    assert isinstance(error, NothingFeasibleError)
    assert error.retry_after_s == 1.0
    assert "2 out" in str(error)


def test_only_those_out_that_could_have_served_are_counted():
    world = World()
    world.eject("e", "w")
    error = refusal(world, request(residency=frozenset({"ca"})))
    assert isinstance(error, NothingFeasibleError)
    assert "1 out" in str(error)


@pytest.mark.parametrize("allowed", [{"eu"}, {"eu", "de"}])
def test_residency_that_nobody_meets(allowed):
    world = World(the_policy=policy(ladder=BOTH_RUNGS))
    error = refusal(world, request(residency=frozenset(allowed)))
    assert isinstance(error, ResidencyError)
    assert error.retry_after_s is None
    assert ", ".join(sorted(allowed)) in str(error)
    # Not even when those outside are down: that would promise that waiting helps.
    world.eject("e", "w")
    assert isinstance(refusal(world, request(residency=frozenset(allowed))), ResidencyError)


@pytest.mark.parametrize(
    ("budget", "name", "best"),
    [
        (Budget(ttft_ms=20.0), "TTFT budget of 20 ms", r"28 ms"),
        (Budget(tpot_ms=5.0), "TPOT budget of 5 ms", r"7 ms"),
        (Budget(e2e_ms=900.0), "end-to-end budget of 900 ms", r"3623 ms"),
    ],
)
def test_a_budget_that_nobody_meets_names_the_best_prediction(budget, name, best):
    error = refusal(World(the_policy=policy(ladder=BOTH_RUNGS)), request(budget=budget))
    assert isinstance(error, BudgetImpossibleError)
    assert name in str(error)
    assert best in str(error)
    assert error.retry_after_s is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_g_per_kwh": 100.0}, "carbon budget"),
        ({"max_gco2e": 1e-9}, "carbon budget"),
    ],
)
def test_a_carbon_limit_that_nobody_meets(changes, text):
    error = refusal(World(the_policy=policy(**changes)))
    assert isinstance(error, PolicyExcludesError)
    assert text in str(error)


def test_carbon_that_nobody_knows():
    error = refusal(World(carbon={}))
    assert isinstance(error, PolicyExcludesError)
    assert "unknown or stale" in str(error)


def test_a_context_that_nobody_has():
    world = World(two(served(context_tokens=299.0)), policy(ladder=BOTH_RUNGS))
    error = refusal(world)
    assert isinstance(error, PolicyExcludesError)
    assert "context" in str(error)
    assert world.decide(expected=Expected(99.0, 200.0, 500.0)).endpoint.name == "w"


def test_the_obstacle_of_those_that_came_closest_is_named():
    """One is down, one is full: waiting for the full one helps."""
    world = World()
    world.eject("w")
    world.fill("e")
    assert isinstance(refusal(world), ShedError)
    # One is outside, the other too slow: the budget is what could be changed.
    slow = refusal(World(), request(residency=frozenset({"ca"}), budget=Budget(ttft_ms=50.0)))
    assert isinstance(slow, BudgetImpossibleError)


def test_without_a_ladder_the_policy_refuses():
    with pytest.raises(PolicyExcludesError):
        World(the_policy=policy(max_g_per_kwh=100.0, ladder=())).decide()


def test_the_carbon_rung_drops_every_carbon_limit_and_takes_the_fastest():
    world = World(the_policy=policy(max_g_per_kwh=100.0, max_gco2e=1e-9, ladder=(Relax.CARBON,)))
    decision = world.decide()
    assert (decision.endpoint.name, decision.relaxed) == ("e", (Relax.CARBON,))


def test_the_carbon_rung_lets_unknown_intensity_in_and_says_so():
    world = World(the_policy=policy(ladder=(Relax.CARBON,)), carbon={})
    decision = world.decide()
    assert (decision.endpoint.name, decision.relaxed) == ("e", (Relax.CARBON,))
    assert decision.flags == (CARBON_UNKNOWN,)
    assert decision.intensity is None
    # Not known is not zero.
    assert math.isnan(decision.gco2e)
    assert math.isnan(decision.run_g_per_kwh)
    assert math.isnan(decision.latency_first_gco2e)
    assert decision.energy_j > 0.0


def test_the_latency_rung_drops_the_policys_budget_but_never_the_callers():
    world = World(the_policy=policy(budget=Budget(ttft_ms=1.0), ladder=(Relax.POLICY_LATENCY,)))
    assert world.decide().relaxed == (Relax.POLICY_LATENCY,)
    with pytest.raises(BudgetImpossibleError, match="TTFT budget of 2 ms"):
        world.decide(request(budget=Budget(ttft_ms=2.0)))
    # The caller's own budget binds on after the rung, the policy's others do not.
    decision = world.decide(request(budget=Budget(tpot_ms=7.5)))
    assert decision.relaxed == (Relax.POLICY_LATENCY,)
    assert decision.batch_cap < UNLIMITED


@pytest.mark.parametrize(
    ("ladder", "relaxed", "name"),
    [
        ((Relax.CARBON, Relax.POLICY_LATENCY), (Relax.CARBON,), "e"),
        ((Relax.POLICY_LATENCY, Relax.CARBON), (Relax.POLICY_LATENCY,), "w"),
    ],
)
def test_rungs_are_taken_in_order_and_no_further_than_needed(ladder, relaxed, name):
    """The east breaks the carbon limit, the west the policy's TTFT: either rung helps."""
    chosen = policy(max_g_per_kwh=300.0, budget=Budget(ttft_ms=50.0), ladder=ladder)
    decision = World(the_policy=chosen).decide()
    assert (decision.relaxed, decision.endpoint.name) == (relaxed, name)


def test_both_rungs_where_both_are_needed():
    chosen = policy(max_g_per_kwh=100.0, budget=Budget(ttft_ms=1.0), ladder=BOTH_RUNGS)
    assert World(the_policy=chosen).decide().relaxed == BOTH_RUNGS


def test_a_callers_looser_limit_replaces_the_policys_and_only_that_one():
    world = World(the_policy=policy(budget=Budget(ttft_ms=50.0, e2e_ms=3690.0)))
    assert world.decide().endpoint.name == "e"
    # TTFT no longer keeps the west out; its end-to-end time of 3,701 ms does.
    assert world.decide(request(budget=Budget(ttft_ms=500.0))).endpoint.name == "e"
    freed = request(budget=Budget(ttft_ms=500.0, e2e_ms=9000.0))
    assert world.decide(freed).endpoint.name == "w"


@pytest.mark.parametrize(
    "budget", [Budget(tpot_ms=9.0), Budget(e2e_ms=5000.0), Budget(tpot_ms=20.0, e2e_ms=4500.0)]
)
def test_a_request_that_is_there_caps_those_that_come_later(budget):
    """A tight request, then as many easy ones as fit: the tight one's budget still holds."""
    world = World(fleet(endpoint("w", "west"), regions=REGIONS, rtt_ms=RTT))
    tight = world.decide(request(budget=budget))
    lease = Lease(world.seat("w"), tight.batch_cap)
    factor = math.exp(0.1 * z_of(0.95))

    def kept(others):
        tpot_ms = (6.0 + 0.1 * (others + 1)) * factor
        e2e_ms = tight.ttft_ms + 500.0 * tpot_ms
        return tpot_ms <= budget.tpot_ms and e2e_ms <= budget.e2e_ms

    easy = 0
    while easy < 64:
        try:
            decision = world.decide()
        except ShedError:
            break
        Lease(world.seat("w"), decision.batch_cap)
        easy += 1
    assert 0 < easy < 63
    assert kept(easy)
    assert not kept(easy + 1)
    # When it is done, the place fills up to the endpoint's own limit.
    lease.close(Outcome.SUCCEEDED)
    while world.seat("w").in_flight < 64:
        Lease(world.seat("w"), world.decide().batch_cap)
    assert isinstance(refusal(world), ShedError)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(6.0, 80.0) | st.just(UNLIMITED),
    st.floats(3000.0, 5e4) | st.just(UNLIMITED),
    st.integers(1, 256),
)
def test_the_batch_cap_is_the_last_batch_that_keeps_both_budgets(tpot_ms, e2e_ms, max_batch):
    profile = token_profile(max_batch=max_batch, target_batch=1)
    world = World(fleet(endpoint("w", "west", served(profile)), regions=REGIONS, rtt_ms=RTT))
    try:
        decision = world.decide(request(budget=Budget(UNLIMITED, tpot_ms, e2e_ms)))
    except BudgetImpossibleError:
        assume(False)
    cap, factor = decision.batch_cap, world.seat("w").latency_errors.tpot

    def kept(batch, slack):
        predicted = (6.0 + 0.1 * min(batch, max_batch)) * factor
        whole = decision.ttft_ms + 500.0 * predicted
        return predicted <= tpot_ms * slack and whole <= e2e_ms * slack

    if cap == UNLIMITED:
        # Beyond max_batch requests wait and slow nobody down.
        assert kept(max_batch, 1 + 1e-9)
    else:
        assert 1.0 <= cap < max_batch
        assert kept(cap, 1 + 1e-9)
        assert not kept(cap + 1, 1 - 1e-9)


@pytest.mark.parametrize("slope_ms", [1e-300, 5e-324])
def test_a_slope_of_next_to_nothing_caps_nobody(slope_ms):
    profile = token_profile(tpot_ms_per_sequence=slope_ms)
    world = World(fleet(endpoint("w", "west", served(profile)), regions=REGIONS, rtt_ms=RTT))
    assert world.decide(request(budget=Budget(tpot_ms=40.0))).batch_cap == UNLIMITED


def test_figures_that_are_not_finite_are_refused_with_a_reason():
    endless = served(token_profile(tpot_base_ms=1e308, w_per_token_s=1e308))
    world = World(fleet(endpoint("w", "west", endless), regions=REGIONS, rtt_ms=RTT))
    error = refusal(world)
    assert isinstance(error, NothingFeasibleError)
    assert error.retry_after_s is None
    assert "check its profile" in str(error)
