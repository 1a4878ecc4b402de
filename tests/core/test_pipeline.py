import math
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.core.board import Board
from router.core.columns import mean_over
from router.core.energy import facility_grams, long_run_energy
from router.core.latency import z_of
from router.core.lease import Lease
from router.core.lengths import Expected
from router.core.pipeline import (
    CARBON_STALE,
    CARBON_UNKNOWN,
    ORIGIN_UNKNOWN,
    batch_cap,
    decide,
    merge_budgets,
)
from router.errors import (
    BudgetImpossibleError,
    InvalidMetadataError,
    NothingFeasibleError,
    PolicyExcludesError,
    RefusedError,
    ResidencyError,
    ShedError,
    UnknownModelError,
)
from router.model import (
    UNLIMITED,
    Budget,
    Energy,
    Kind,
    Outcome,
    Relax,
    StaleCarbon,
    Weights,
)
from tests.core.worlds import CARBON, EXPECTED, REGIONS, REQUESTS, RTT, World, two, worlds
from tests.factories import (
    BOTH_RUNGS,
    HOUR,
    LATENCY_FIRST,
    NOW,
    endpoint,
    fleet,
    forecast,
    forecasts,
    health_settings,
    intensity,
    policy,
    region,
    request,
    served,
    task_profile,
    token_profile,
)


def test_least_grams_win_and_every_figure_is_the_formulas():
    world = World()
    decision = world.decide(network_j=3600.0)
    profile = token_profile()
    factor = math.exp(0.1 * z_of(0.95))
    energy_j = long_run_energy(profile).j_per_token * 200.0
    ttft_ms = 80.0 + (10.0 + 0.05 * 100.0) * factor
    assert decision.endpoint.name == "w"
    assert decision.served.profile == profile
    assert (decision.run_g_per_kwh, decision.intensity.g_per_kwh) == (200.0, 200.0)
    assert decision.rtt_ms == 80.0
    assert decision.ttft_ms == pytest.approx(ttft_ms)
    assert decision.tpot_ms == pytest.approx(6.1 * factor)
    assert decision.e2e_ms == pytest.approx(ttft_ms + 500.0 * 6.1 * factor)
    assert decision.energy_j == pytest.approx(energy_j)
    # A thousandth of a kWh of network, and it has no PUE.
    assert decision.gco2e == pytest.approx(facility_grams(energy_j, 1.1, 200.0) + 0.001 * 200.0)
    assert decision.latency_first_endpoint == "e"
    assert decision.latency_first_gco2e == pytest.approx(
        facility_grams(energy_j, 1.5, 500.0) + 0.001 * 500.0
    )
    assert decision.batch_cap == UNLIMITED
    assert (decision.relaxed, decision.flags) == ((), ())


def test_a_latency_first_policy_is_its_own_counterfactual():
    decision = World(the_policy=policy(weights=LATENCY_FIRST)).decide()
    assert decision.endpoint.name == decision.latency_first_endpoint == "e"
    assert decision.gco2e == decision.latency_first_gco2e


def test_the_counterfactual_is_the_fastest_feasible_endpoint():
    world = World()
    world.fill("e")
    assert world.decide().latency_first_endpoint == "w"


def test_short_run_prices_wake_an_idle_replica_last():
    the_fleet = fleet(endpoint("awake"), endpoint("idle"))
    world = World(the_fleet, policy(energy=Energy.SHORT_RUN), forecasts(west=200))
    world.fill("awake", 1)
    assert world.decide().endpoint.name == "awake"
    spread = World(the_fleet, policy(), forecasts(west=200))
    spread.fill("awake", 1)
    assert spread.decide().endpoint.name == "idle"


def test_a_task_has_no_tokens_to_wait_for():
    image = served(task_profile(service_ms=800.0, service_ms_per_in_flight=100.0), "image")
    world = World(fleet(endpoint("w", "west", image), rtt_ms=RTT, regions=REGIONS))
    world.fill("w", 2)
    decision = world.decide(
        request(model="image", budget=Budget(e2e_ms=5000.0)), expected=Expected(1.0, 1.0, 1.0)
    )
    factor = math.exp(0.1 * z_of(0.95))
    assert decision.ttft_ms == decision.e2e_ms == pytest.approx(80.0 + 1000.0 * factor)
    assert decision.tpot_ms == 0.0
    assert decision.energy_j == 2282.0 * 1.25
    assert decision.batch_cap == UNLIMITED


# Origins


def test_the_origin_decides_the_round_trip():
    world = World(the_policy=policy(weights=LATENCY_FIRST))
    assert world.decide(request(origin="home")).endpoint.name == "e"
    assert world.decide(request(origin="coast")).endpoint.name == "w"


def test_an_unknown_origin_takes_the_default_and_says_so():
    decision = World().decide(request(origin="atlantis"))
    assert (decision.rtt_ms, decision.flags) == (80.0, (ORIGIN_UNKNOWN,))
    silent = World().decide(request(origin=""))
    assert (silent.rtt_ms, silent.flags) == (80.0, ())


@pytest.mark.parametrize("origin", ["", "atlantis"])
def test_without_a_default_an_unknown_origin_is_an_error(origin):
    the_fleet = fleet(endpoint("w"), rtt_ms={"home": {"west": 1.0}}, default_origin="")
    with pytest.raises(InvalidMetadataError, match=r"known origins: home"):
        World(the_fleet).decide(request(origin=origin))


def test_an_unknown_model_is_an_error():
    with pytest.raises(UnknownModelError, match="'gpt'"):
        World().decide(request(model="gpt"))
    with pytest.raises(UnknownModelError, match="version '9'"):
        World(two(served(version="1"))).decide(request(version="9"))


def test_an_endpoint_without_a_version_serves_any():
    assert World().decide(request(version="9")).endpoint.name == "w"


# Refusals


def refusal(world, a_request=None, **options):
    with pytest.raises(RefusedError) as caught:
        world.decide(a_request, **options)
    return caught.value


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


# The ladder


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


# Retries and sequences


def test_what_was_tried_is_not_chosen_again_and_the_board_does_not_change():
    world = World()
    before = world.board.live("llama", "").copy()
    assert world.decide(tried=["w"]).endpoint.name == "e"
    assert isinstance(refusal(world, tried={"e", "w"}), NothingFeasibleError)
    assert (world.board.live("llama", "") == before).all()
    assert world.decide().endpoint.name == "w"


def test_a_pinned_request_goes_there_or_nowhere():
    world = World()
    decision = world.decide(pinned="e")
    assert decision.endpoint.name == decision.latency_first_endpoint == "e"
    assert isinstance(refusal(world, pinned="e", tried=["e"]), NothingFeasibleError)
    world.fill("e")
    assert isinstance(refusal(world, pinned="e"), ShedError)


# Budgets

limit = st.sampled_from([UNLIMITED, 10.0, 20.0, 30.0])
budgets = st.builds(Budget, limit, limit, limit, st.booleans())


@given(budgets, budgets)
def test_each_limit_is_the_callers_where_it_set_one(own, fallback):
    merged = merge_budgets(own, fallback)
    for field in ("ttft_ms", "tpot_ms", "e2e_ms"):
        mine, theirs = getattr(own, field), getattr(fallback, field)
        assert getattr(merged, field) == (mine if mine < UNLIMITED else theirs)
    assert merged.explicit == own.explicit


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
    st.floats(0.0, 1000.0),
    st.floats(0.5, 2.0),
    st.integers(1, 256),
)
def test_the_batch_cap_is_the_last_batch_that_keeps_both_budgets(
    tpot_ms, e2e_ms, ttft_ms, factor, max_batch
):
    profile = token_profile(max_batch=max_batch, target_batch=1)
    cap = batch_cap(profile, Budget(UNLIMITED, tpot_ms, e2e_ms), ttft_ms, factor, EXPECTED)

    def kept(batch, slack):
        predicted = (6.0 + 0.1 * min(batch, max_batch)) * factor
        whole = ttft_ms + 500.0 * predicted
        return predicted <= tpot_ms * slack and whole <= e2e_ms * slack

    assume(kept(1, 1 - 1e-9))  # else it would not have been placed at all
    if cap == UNLIMITED:
        # Beyond max_batch requests wait and slow nobody down.
        assert kept(max_batch, 1 + 1e-9)
    else:
        assert 1.0 <= cap < max_batch
        assert kept(cap, 1 + 1e-9)
        assert not kept(cap + 1, 1 - 1e-9)


# Carbon

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


def test_an_annual_mean_policy_decides_by_the_year_and_reports_the_hour():
    means = {"grid-east": intensity(100.0), "grid-west": intensity(300.0)}
    decision = World(the_policy=policy(annual_mean=True), annual_means=means).decide()
    assert decision.endpoint.name == "e"
    assert decision.run_g_per_kwh == 500.0
    assert decision.gco2e == pytest.approx(facility_grams(decision.energy_j, 1.5, 500.0))


def run_s_of(output_tokens, tpot_ms=6.1):
    """Alone on a replica: the prompt with its error factor, then every token at its mean pace."""
    prefill_ms = (10.0 + 0.05 * 100.0) * math.exp(0.1 * z_of(0.95))
    return (prefill_ms + output_tokens * tpot_ms) / 1000.0


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
    energy_j = long_run_energy(quick).j_per_token * 200.0
    assert decision.latency_first_gco2e == pytest.approx(facility_grams(energy_j, 1.0, 1000.0))
    assert 10.0 < decision.run_g_per_kwh < 20.0
    assert decision.run_g_per_kwh == pytest.approx(
        mean_over(carbon["grid-west"], now, run_s_of(200.0, 60.1)), rel=1e-6
    )


# What holds for every fleet, policy and request


@settings(max_examples=300, deadline=None)
@given(worlds(), REQUESTS, st.floats(0.0, 1.0, exclude_max=True))
def test_hard_constraints_hold_under_any_weight_and_on_any_rung(world, a_request, u):
    try:
        decision = world.decide(a_request, u=u)
    except RefusedError as error:
        assert error.reason != "internal"
        assert str(error)
        return
    place = world.snapshot.layout.fleet.regions[decision.endpoint.region]
    seat = world.seat(decision.endpoint.name)
    if a_request.residency:
        assert a_request.residency & place.residency
    assert seat.health.admits(seat.in_flight)
    assert seat.in_flight < decision.endpoint.max_in_flight
    assert decision.ttft_ms <= a_request.budget.ttft_ms
    assert decision.tpot_ms <= a_request.budget.tpot_ms
    chosen = world.snapshot.policy
    if Relax.POLICY_LATENCY not in decision.relaxed and a_request.budget.ttft_ms == UNLIMITED:
        assert decision.ttft_ms <= chosen.budget.ttft_ms
    if Relax.CARBON not in decision.relaxed:
        counts = chosen.weights.per_gco2e > 0.0 or chosen.max_g_per_kwh < math.inf
        assert not (counts and decision.intensity is None)
        if decision.intensity is not None:
            assert decision.intensity.g_per_kwh <= chosen.max_g_per_kwh
    assert set(decision.relaxed) <= set(chosen.ladder)
    assert (decision.intensity is None) == (CARBON_UNKNOWN in decision.flags)
    assert math.isnan(decision.gco2e) == (decision.intensity is None)


@settings(max_examples=150, deadline=None)
@given(worlds(), REQUESTS, st.integers(0, 2**32))
def test_the_same_inputs_replay_to_the_same_decisions(world, a_request, seed):
    """Once with leases taken on the way, and once more from the start on a board of its own."""

    def play():
        a_board = Board(world.snapshot.layout, health_settings(), z_of(0.95))
        rng, found = random.Random(seed), []
        for _ in range(6):
            try:
                decision = decide(a_request, world.snapshot, a_board, EXPECTED, NOW, rng)
            except RefusedError as error:
                found.append(str(error))
            else:
                Lease(a_board.seats[decision.endpoint.name], decision.batch_cap)
                found.append(repr(decision))
        return found

    assert play() == play()


def test_many_gateways_on_one_signal_share_a_near_tie():
    """In a tie of two regions each draw is the request's own."""
    carbon = forecasts(east=100 * 1.1 / 1.5, west=100)
    world = World(the_policy=policy(near_tie=0.01), carbon=carbon)
    names = [world.decide(u=(i + 0.5) / 100).endpoint.name for i in range(100)]
    assert 45 <= names.count("e") <= 55
    assert set(names) == {"e", "w"}
