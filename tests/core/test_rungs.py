import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.rungs import CI_HOURS, budget_of, green_rungs_of, rungs_of
from router.model import UNLIMITED, Budget, Energy, Relax, Spread, Weights
from tests.factories import BOTH_RUNGS, policy


@pytest.mark.parametrize(
    ("energy", "wake_energy", "wake_premium"),
    [(Energy.LONG_RUN, 0.0, 0.25), (Energy.SHORT_RUN, 1.0, 0.0)],
)
def test_waking_counts_as_joules_in_the_short_run_and_as_a_price_in_the_long_run(
    energy, wake_energy, wake_premium
):
    for params in rungs_of(policy(wake_share=0.25, energy=energy, ladder=BOTH_RUNGS)):
        assert (params[k.WAKE_ENERGY], params[k.WAKE_PREMIUM]) == (wake_energy, wake_premium)


def test_the_policys_parameters():
    chosen = policy(
        weights=Weights(1.0, 2.0, 3.0, 4.0, 5.0), near_tie=0.02, spread=Spread.PACK,
        pack_until=0.7, pack_within=3.0, max_gco2e=0.5, max_g_per_kwh=400.0,
        budget=Budget(ttft_ms=9.0),
        scarcity=0.6, ladder=(Relax.CARBON,),
    )  # fmt: skip
    params = rungs_of(chosen)[0]
    assert params[[k.W_GCO2E, k.W_TTFT, k.W_E2E, k.W_LOAD, k.W_TURN]].tolist() == [1, 2, 3, 4, 5]
    assert params[[k.NEAR_TIE, k.PACK, k.PACK_UNTIL]].tolist() == [0.02, 1.0, 0.7]
    assert params[k.PACK_WITHIN] == 3.0
    assert rungs_of(replace(chosen, spread=Spread.SPREAD))[0][k.PACK_WITHIN] == 0.0
    assert params[k.SCARCITY] == 0.6
    assert params[[k.MAX_GCO2E, k.MAX_G_PER_KWH, k.CI_HOURS]].tolist() == [0.5, 400.0, CI_HOURS]
    relaxed = rungs_of(chosen)[1]
    assert (relaxed[k.W_GCO2E], relaxed[k.MAX_GCO2E], relaxed[k.MAX_G_PER_KWH]) == (
        0.0, math.inf, math.inf,
    )  # fmt: skip
    assert relaxed[k.W_E2E] > 0.0


@pytest.mark.parametrize(
    ("changes", "unknown_may_be_used"),
    [
        ({"weights": Weights(per_gco2e=1.0)}, False),
        ({"weights": Weights(per_e2e_ms=1.0)}, True),
        ({"weights": Weights(per_e2e_ms=1.0), "max_gco2e": 5.0}, False),
        ({"weights": Weights(per_e2e_ms=1.0), "max_g_per_kwh": 1e6}, False),
    ],
)
def test_an_unknown_intensity_is_usable_only_where_carbon_does_not_count(
    changes, unknown_may_be_used
):
    limit = rungs_of(policy(**changes))[0][k.MAX_G_PER_KWH]
    assert (limit >= k.UNKNOWN_CI) == unknown_may_be_used


limit = st.sampled_from([UNLIMITED, 10.0, 20.0, 30.0])
budgets = st.builds(Budget, limit, limit, limit, st.booleans())


@given(budgets, budgets)
def test_each_limit_is_the_callers_where_it_set_one(own, fallback):
    merged = budget_of(own, rungs_of(policy(budget=fallback))[0])
    for field in ("ttft_ms", "tpot_ms", "e2e_ms"):
        mine, theirs = getattr(own, field), getattr(fallback, field)
        assert getattr(merged, field) == (mine if mine < UNLIMITED else theirs)
    assert merged.explicit == own.explicit


@given(budgets, budgets, st.permutations(BOTH_RUNGS))
def test_a_rung_drops_its_constraint_and_those_before_it_stay_dropped(own, fallback, ladder):
    found = rungs_of(policy(budget=fallback, max_g_per_kwh=300.0, ladder=tuple(ladder)))
    for taken, params in enumerate(found):
        dropped = ladder[:taken]
        assert (params[k.MAX_G_PER_KWH] == k.ANY_CI) == (Relax.CARBON in dropped)
        if Relax.POLICY_LATENCY in dropped:
            assert budget_of(own, params) == own
        else:
            assert budget_of(own, params) == budget_of(own, found[0])


def test_every_rung_that_a_policy_may_name_drops_something():
    for rung in Relax:
        first, relaxed = rungs_of(policy(budget=Budget(1.0, 2.0, 3.0), ladder=(rung,)))
        assert (first != relaxed).any()


def test_by_grams_alone_no_other_weight_and_no_price_counts():
    chosen = policy(
        weights=Weights(0.0, 2.0, 3.0, 4.0, 5.0), near_tie=0.02, spread=Spread.PACK,
        pack_within=9.0, scarcity=0.5, wake_share=0.3, budget=Budget(ttft_ms=9.0),
        max_gco2e=0.5, max_g_per_kwh=400.0,
    )  # fmt: skip
    (only,) = green_rungs_of(chosen)
    counts = [k.W_GCO2E, k.W_TTFT, k.W_E2E, k.W_LOAD, k.W_TURN]
    assert only.params[counts].tolist() == [1, 0, 0, 0, 0]
    assert only.params[[k.SCARCITY, k.WAKE_PREMIUM, k.PACK_WITHIN]].tolist() == [0, 0, 0]
    assert only.params[[k.NEAR_TIE, k.MAX_GCO2E, k.MAX_G_PER_KWH]].tolist() == [0.002, 0.5, 400]
    assert only.params[k.POLICY_TTFT_MS] == 9.0
    assert only.relaxed == ()
    (plain,) = green_rungs_of(policy(weights=Weights(per_ttft_ms=1.0)))
    # A grid that nobody knows is no green one, though the policy does not weigh carbon.
    assert plain.params[k.MAX_G_PER_KWH] == k.KNOWN_CI


@given(st.sampled_from([(), (Relax.CARBON,), (Relax.POLICY_LATENCY,), BOTH_RUNGS]))
def test_by_grams_alone_the_ladder_is_gone_down_latency_first(ladder):
    chosen = policy(ladder=ladder, budget=Budget(e2e_ms=9.0), max_gco2e=0.5)
    rungs = green_rungs_of(chosen)
    assert len(rungs) == 1 + (Relax.CARBON in ladder)
    for rung in rungs:
        late = Relax.POLICY_LATENCY in ladder
        assert rung.params[k.POLICY_E2E_MS] == (UNLIMITED if late else 9.0)
        assert (Relax.POLICY_LATENCY in rung.relaxed) == late
    assert rungs[0].params[k.MAX_GCO2E] == 0.5
    if Relax.CARBON in ladder:
        assert rungs[1].relaxed[-1] is Relax.CARBON
        assert rungs[1].params[k.MAX_GCO2E] == math.inf
        assert rungs[1].params[k.W_GCO2E] == 1.0
