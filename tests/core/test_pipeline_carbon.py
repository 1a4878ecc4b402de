import math

import numpy as np
import pytest

from router.core import kernel_rows as k
from router.core.budget_rulings import Ruling
from router.core.claims import IGNORED
from router.core.columns import mean_over
from router.core.energy import long_run_energy
from router.core.lengths import Expected
from router.core.pipeline import CARBON_STALE, CARBON_UNKNOWN
from router.core.question import ORIGIN_UNKNOWN
from router.errors import CarbonBudgetError, NothingFeasibleError, PolicyExcludesError, ShedError
from router.model import UNLIMITED, Budget, Kind, Relax, StaleCarbon, Weights
from tests.core.worlds import CARBON, RTT, TTFT_FACTOR, World, facility_grams
from tests.factories import (
    BOTH_RUNGS,
    HOUR,
    LATENCY_FIRST,
    NOW,
    endpoint,
    fleet,
    forecast,
    forecasts,
    intensity,
    policy,
    region,
    request,
    served,
    token_profile,
)

UNKNOWN_EAST = forecasts(west=900)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weights": Weights(per_gco2e=1e-9, per_e2e_ms=1e9)},
        {"weights": Weights(per_e2e_ms=1.0), "max_gco2e": 1e9},
        {"weights": Weights(per_e2e_ms=1.0), "max_g_per_kwh": 1e9},
    ],
)
def test_unknown_intensity_is_never_chosen_while_carbon_counts(changes):
    world = World(the_policy=policy(**changes), carbon=UNKNOWN_EAST)
    decision = world.decide()
    assert decision.endpoint.name == "w"
    # Nor is it the counterfactual, whose grams nobody could tell.
    assert decision.latency_first_endpoint == "w"
    world.fill("w")
    with pytest.raises(ShedError):
        world.decide()


def test_where_carbon_does_not_count_an_unknown_intensity_is_flagged():
    decision = World(the_policy=policy(weights=LATENCY_FIRST), carbon=UNKNOWN_EAST).decide()
    assert (decision.endpoint.name, decision.flags) == ("e", (CARBON_UNKNOWN,))
    assert math.isnan(decision.gco2e)


STALE = [
    {"observed_at": NOW - 7201.0},
    {"expires_at": NOW - 1.0},
    {"kind": Kind.CLIMATOLOGY},
    {"kind": Kind.ANNUAL_MEAN},
]


@pytest.mark.parametrize("changes", STALE)
def test_stale_intensity_is_used_and_flagged_or_left_out(changes):
    carbon = {**CARBON, "grid-west": forecast("grid-west", 200.0, **changes)}
    used = World(the_policy=policy(stale_carbon=StaleCarbon.USE_FLAGGED), carbon=carbon).decide()
    assert (used.endpoint.name, used.flags) == ("w", (CARBON_STALE,))
    out = World(the_policy=policy(stale_carbon=StaleCarbon.EXCLUDE), carbon=carbon).decide()
    assert (out.endpoint.name, out.flags) == ("e", ())


def test_fresh_data_turn_stale_while_the_snapshot_stays():
    world = World()
    assert world.decide(now=NOW + 7200.0).flags == ()
    assert world.decide(now=NOW + 7201.0).flags == (CARBON_STALE,)


def test_flags_add_up():
    decision = World(carbon=forecasts(east=500, west=200)).decide(
        request(origin="atlantis"), now=NOW + 9000.0
    )
    assert decision.flags == (ORIGIN_UNKNOWN, CARBON_STALE)


def test_what_was_ignored_of_the_request_is_a_flag():
    decision = World().decide(request(ignored=IGNORED, origin="atlantis"))
    assert decision.flags == (*IGNORED, ORIGIN_UNKNOWN)


def test_an_annual_mean_policy_decides_by_the_year_and_reports_the_hour():
    means = {"grid-east": intensity(100.0), "grid-west": intensity(300.0)}
    decision = World(the_policy=policy(annual_mean=True), annual_means=means).decide()
    assert decision.endpoint.name == "e"
    assert decision.run_g_per_kwh == 500.0
    assert decision.gco2e == pytest.approx(facility_grams(decision.energy_j, 1.5, 500.0))


def run_s_of(output_tokens, tpot_ms=6.1):
    """Alone on a replica: the prompt and an iteration with their error factor, then every token
    at its mean pace."""
    first_ms = (10.0 + tpot_ms + 0.05 * 100.0) * TTFT_FACTOR
    return (first_ms + output_tokens * tpot_ms) / 1000.0


def test_a_run_that_crosses_hours_is_priced_by_its_parts():
    """Ten seconds before the hour, a run of ten minutes; then one of three hours."""
    carbon = forecasts(east=500, west=(100, 300, 50, 700))
    hour = NOW // HOUR * HOUR
    for n_out, now in ((1e5, hour + 3590.0), (2e6, hour + 3000.0)):
        run_s = run_s_of(n_out)
        left = hour + HOUR - now
        parts = [left]
        while sum(parts) < run_s:
            parts.append(min(HOUR, run_s - sum(parts)))
        values = [100.0, 300.0, 50.0, 700.0, 700.0]
        by_hand = sum(a * b for a, b in zip(parts, values, strict=False)) / run_s
        expected = Expected(100.0, n_out, n_out)
        decision = World(carbon=carbon).decide(now=now, expected=expected)
        assert decision.endpoint.name == "w"
        assert decision.run_g_per_kwh == pytest.approx(by_hand, rel=1e-6)
        assert decision.intensity.g_per_kwh == 100.0
        grams = facility_grams(decision.energy_j, 1.1, by_hand)
        assert decision.gco2e == pytest.approx(grams, rel=1e-6)


def test_what_is_about_to_turn_dirty_loses_to_what_is_not():
    carbon = forecasts(east=(210, 210), west=(100, 900))
    world = World(carbon=carbon, the_policy=policy())
    late = NOW // HOUR * HOUR + 3599.0
    short, long = Expected(1.0, 10.0, 10.0), Expected(1.0, 1e5, 1e5)
    assert world.decide(now=late, expected=short).endpoint.name == "w"
    assert world.decide(now=late, expected=long).endpoint.name == "e"


def test_a_snapshot_older_than_its_hour_decides_by_the_hour_that_it_is():
    """Should its refresh die, a gateway goes on with what was forecast for each hour."""
    carbon = forecasts(east=(500, 500, 100, 500), west=(200, 200, 900, 200))
    world = World(carbon=carbon)
    chosen = [world.decide(now=NOW + HOUR * h).endpoint.name for h in range(4)]
    assert chosen == ["w", "w", "e", "w"]


def test_the_counterfactual_is_priced_over_its_own_run():
    """A fast replica ends before the hour turns, a slow one after it."""
    quick, slow = token_profile("quick"), token_profile("slow", tpot_base_ms=60.0)
    the_fleet = fleet(
        endpoint("q", "east", served(quick)), endpoint("s", "west", served(slow)),
        regions=[region("east", pue=1.0), region("west", pue=1.0)], rtt_ms=RTT,
    )  # fmt: skip
    carbon = forecasts(east=(1000, 2000), west=(10, 20))
    now = NOW // HOUR * HOUR + 3595.0
    decision = World(the_fleet, carbon=carbon).decide(now=now)
    assert decision.endpoint.name == "s"
    prices = long_run_energy(quick)
    energy_j = prices.j_per_token * 200.0 + prices.j_per_prompt_ms * 5.0
    assert decision.latency_first_gco2e == pytest.approx(facility_grams(energy_j, 1.0, 1000.0))
    assert 10.0 < decision.run_g_per_kwh < 20.0
    assert decision.run_g_per_kwh == pytest.approx(
        mean_over(carbon["grid-west"], now, run_s_of(200.0, 60.1)), rel=1e-6
    )


# What carbon budgets do with a decision.


def ruling(ask_ug=7, refusal=None, greenest=False, flags=()):
    return Ruling((), ask_ug, refusal, greenest, flags)


def fast():
    """East is near, west is clean; the fast one is taken, within the policy's budget alone."""
    held = policy(weights=LATENCY_FIRST, budget=Budget(ttft_ms=60.0), ladder=BOTH_RUNGS)
    return World(the_policy=held)


def test_a_judge_who_has_no_say_changes_nothing():
    world = fast()
    decided = world.decided(judge=lambda decision: None)
    assert decided == world.decided()
    assert decided.ruling is None


def test_a_request_that_is_let_in_carries_what_it_reserves_and_what_is_told():
    seen = []

    def judge(decision):
        seen.append(decision.endpoint.name)
        return ruling(flags=("carbon_budget_shadow",))

    decided = fast().decided(u=0.0, judge=judge)
    assert seen == ["e"]
    assert decided.ruling.ask_ug == 7
    assert decided.decision.flags == ("carbon_budget_shadow",)
    assert decided.need is not None


def test_a_request_that_is_not_let_in_is_refused_with_its_reason():
    why = CarbonBudgetError("spent", 5.0)
    with pytest.raises(CarbonBudgetError) as caught:
        fast().decided(judge=lambda decision: ruling(refusal=why))
    assert caught.value is why


def test_what_cannot_run_anywhere_is_refused_for_that_and_no_budget_is_asked():
    world = fast()
    world.eject("e", "w")
    with pytest.raises(NothingFeasibleError):
        world.decided(judge=lambda decision: pytest.fail("asked"))


def greened(world, **changes):
    decided = world.decided(
        judge=lambda decision: ruling(
            ask_ug={"e": 500, "w": 200}[decision.endpoint.name], greenest=True,
            flags=("carbon_budget_exhausted",),
        ),
        **changes,
    )  # fmt: skip
    assert decided.need is None
    return decided


def test_without_grams_left_it_goes_where_it_emits_least_and_the_policys_latency_gives_way():
    decided = greened(fast())
    decision = decided.decision
    assert decision.endpoint.name == "w"
    assert decision.flags == ("greenest_only", "carbon_budget_exhausted")
    assert decision.relaxed == (Relax.POLICY_LATENCY,)
    # What it reserves is of where it goes.
    assert decided.ruling.ask_ug == 200
    world = fast()
    params = world.snapshot.params(decision)
    assert params[k.POLICY_TTFT_MS] == UNLIMITED
    assert params[k.W_GCO2E] == 1.0
    usual = world.decide()
    assert np.array_equal(world.snapshot.params(usual), world.snapshot.rungs[0])


def test_a_budget_that_the_caller_set_holds():
    asked = request(budget=Budget(ttft_ms=60.0, explicit=True))
    assert greened(fast(), a_request=asked).decision.endpoint.name == "e"


def test_a_policy_that_never_drops_its_budget_does_not_then_either():
    held = policy(weights=LATENCY_FIRST, budget=Budget(ttft_ms=60.0))
    decision = greened(World(the_policy=held)).decision
    assert (decision.endpoint.name, decision.relaxed) == ("e", ())


def test_where_it_may_run_and_where_there_is_room_hold():
    asked = request(residency=frozenset({"va"}))
    assert greened(fast(), a_request=asked).decision.endpoint.name == "e"
    world = fast()
    world.fill("w")
    assert greened(world).decision.endpoint.name == "e"
    world = fast()
    assert greened(world, tried=("w",)).decision.endpoint.name == "e"


def test_the_price_of_room_does_not_count():
    world = fast()
    world.board.live("llama", "")[k.PREMIUM] = [0.0, 1e6]
    before = world.board.live("llama", "").copy()
    assert greened(world).decision.endpoint.name == "w"
    assert np.array_equal(world.board.live("llama", ""), before)


def test_a_grid_that_nobody_knows_is_the_last_resort():
    world = World(the_policy=fast().snapshot.policy, carbon=UNKNOWN_EAST)
    decision = greened(world).decision
    assert (decision.endpoint.name, decision.relaxed) == ("w", (Relax.POLICY_LATENCY,))
    world.eject("w")
    decision = greened(world).decision
    assert (decision.endpoint.name, decision.relaxed) == (
        "e", (Relax.POLICY_LATENCY, Relax.CARBON),
    )  # fmt: skip


def test_the_policys_carbon_limits_give_way_last_if_at_all():
    held = policy(weights=LATENCY_FIRST, max_g_per_kwh=100.0, ladder=(Relax.CARBON,))
    decision = greened(World(the_policy=held)).decision
    assert (decision.endpoint.name, decision.relaxed) == ("w", (Relax.CARBON,))
    held = policy(weights=LATENCY_FIRST, ladder=(), max_g_per_kwh=600.0)
    world = World(the_policy=held, carbon=UNKNOWN_EAST)
    with pytest.raises(PolicyExcludesError):
        greened(world)


def test_what_a_second_budget_refuses_is_refused_though_the_first_would_have_it_green():
    why = CarbonBudgetError("spent", 5.0)

    def judge(decision):
        green = decision.endpoint.name == "w"
        return ruling(greenest=True, refusal=why if green else None)

    with pytest.raises(CarbonBudgetError):
        fast().decided(judge=judge)
