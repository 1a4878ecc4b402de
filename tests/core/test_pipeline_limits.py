import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.core.latency import z_of
from router.core.lease import Lease
from router.core.pipeline import CARBON_UNKNOWN
from router.errors import (
    BudgetImpossibleError,
    PolicyExcludesError,
    ShedError,
)
from router.model import (
    UNLIMITED,
    Budget,
    Outcome,
    Relax,
)
from tests.core.worlds import REGIONS, RTT, World, refusal
from tests.factories import (
    BOTH_RUNGS,
    endpoint,
    fleet,
    policy,
    request,
    served,
    token_profile,
)


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
