import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.board import Board
from router.core.claims import MAX_PAYLOAD_BYTES, MAX_TOKENS
from router.core.energy import long_run_energy
from router.core.latency import z_of
from router.core.lease import Lease
from router.core.lengths import Expected
from router.core.pipeline import CARBON_UNKNOWN, decide
from router.errors import (
    NothingFeasibleError,
    RefusedError,
    ShedError,
    UnknownModelError,
)
from router.model import (
    UNBURDENED,
    UNLIMITED,
    Budget,
    Energy,
    Relax,
)
from router.units import J_PER_KWH
from tests.core.worlds import (
    EXPECTED,
    QUEUE_FACTOR,
    REGIONS,
    REQUESTS,
    RTT,
    TPOT_FACTOR,
    TTFT_FACTOR,
    World,
    facility_grams,
    refusal,
    two,
    worlds,
)
from tests.examples import examples
from tests.factories import (
    LATENCY_FIRST,
    NOW,
    endpoint,
    fleet,
    forecasts,
    health_settings,
    policy,
    request,
    served,
    task_profile,
    token_profile,
)


def test_least_grams_win_and_every_figure_is_the_formulas():
    world = World()
    decision = world.decide(network_j=3600.0)
    profile = token_profile()
    # 0.05 ms for each of 100 input tokens, at 665 W of GPUs and 0.3 of that beside.
    prompt_ms, prompt_j = 5.0, 665.0 * 1.3 * 0.005
    energy_j = long_run_energy(profile).j_per_token * 200.0 + prompt_j
    # An iteration of one sequence is in the time to the first token, too.
    ttft_ms = 80.0 + (10.0 + 6.1 + prompt_ms) * TTFT_FACTOR
    assert decision.endpoint.name == "w"
    assert decision.served.profile == profile
    assert (decision.run_g_per_kwh, decision.intensity.g_per_kwh) == (200.0, 200.0)
    assert decision.rtt_ms == 80.0
    assert decision.ttft_ms == pytest.approx(ttft_ms)
    # By the model alone, and nobody is there to wait for.
    assert (decision.prefill_ms, decision.queue_ms) == (pytest.approx(10.0 + 6.1 + prompt_ms), 0.0)
    assert decision.tpot_ms == pytest.approx(6.1 * TPOT_FACTOR)
    assert decision.e2e_ms == pytest.approx(ttft_ms + 500.0 * 6.1 * TPOT_FACTOR)
    assert decision.energy_j == pytest.approx(energy_j)
    # A thousandth of a kWh of network, and it has no PUE.
    assert decision.gco2e == pytest.approx(facility_grams(energy_j, 1.1, 200.0) + 0.001 * 200.0)
    assert decision.latency_first_endpoint == "e"
    assert decision.latency_first_gco2e == pytest.approx(
        facility_grams(energy_j, 1.5, 500.0) + 0.001 * 500.0
    )
    # 5 ms over 200 iterations, and the mean of a sequence of 100 to 300 tokens.
    assert decision.burden == pytest.approx((5.0, 5.0 / 200.0, 200.0, UNLIMITED, 0.0))
    assert decision.burden.pace_ms2 == pytest.approx(5.0**2 / 200.0)
    assert (decision.relaxed, decision.flags) == ((), ())


def test_what_a_request_takes_itself_and_what_it_waits_for_are_told_apart():
    """Each as the model has it, whatever was learned of them; the prediction has all of it."""
    found = []
    for learned in (False, True):
        world = World(fleet(endpoint("w", "west"), regions=REGIONS, rtt_ms=RTT))
        seat = world.seat("w")
        # 100 ms of prompt, over 200 iterations.
        Lease(seat, world.decide(expected=Expected(2000.0, 200.0, 500.0)).burden, now=NOW)
        if learned:
            for prompt_ms in range(1, 200):
                seat.wait.observe(7.0 + 9.0 * prompt_ms, float(prompt_ms), 2.0 * prompt_ms)
            seat.publish_latency()
        decision, errors = world.decide(), seat.latency_errors
        factors = (errors.ttft, errors.queue, errors.delay_ms)
        assert (factors == pytest.approx((TTFT_FACTOR, QUEUE_FACTOR, 0.0))) != learned
        first_ms = decision.prefill_ms * errors.ttft + decision.queue_ms * errors.queue
        assert decision.ttft_ms == pytest.approx(80.0 + errors.delay_ms + first_ms)
        found.append((decision.prefill_ms, decision.queue_ms))
    # An iteration of two sequences, and the prompt that is to be read; half of one, and prompts
    # that come meanwhile.
    decode_ms, prompts_ms = 6.2, 100.0 / 200.0
    read_ms = 1.0 + prompts_ms / (decode_ms + prompts_ms)
    assert found[0] == pytest.approx(
        (10.0 + decode_ms + 5.0 + 100.0, decode_ms / 2.0 * read_ms), abs=1e-3
    )
    assert found[1] == found[0]


@pytest.mark.parametrize("energy", list(Energy))
def test_a_long_prompt_costs_energy_with_every_token_of_its_answer(energy):
    """Cached tokens make iterations longer: 1e-3 ms each, at the power of those that run."""
    plain, cached = (
        World(two(served(token_profile(tpot_ms_per_cached_token=ms))), policy(energy=energy))
        for ms in (0.0, 1e-3)
    )
    for world in (plain, cached):
        world.fill("w", 1)
    idle_w = 90.0 * 1.3 if energy is Energy.SHORT_RUN else 0.0
    for n_in in (100.0, 4000.0):
        without, found = (
            one.decide(expected=Expected(n_in, 200.0, 500.0)) for one in (plain, cached)
        )
        more_ms = 1e-3 * (n_in + 200.0 / 2.0) * 200.0
        more_j = (477.0 * 1.3 - idle_w) * more_ms / 1000.0
        assert found.energy_j - without.energy_j == pytest.approx(more_j)
        assert found.gco2e - without.gco2e == pytest.approx(facility_grams(more_j, 1.1, 200.0))


def test_a_latency_first_policy_is_its_own_counterfactual():
    decision = World(the_policy=policy(weights=LATENCY_FIRST)).decide()
    assert decision.endpoint.name == decision.latency_first_endpoint == "e"
    assert decision.gco2e == decision.latency_first_gco2e


def test_the_counterfactual_is_the_nearest_feasible_endpoint():
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
    assert (decision.prefill_ms, decision.queue_ms) == (800.0 + 2 * 100.0, 0.0)
    assert decision.ttft_ms == decision.e2e_ms == pytest.approx(80.0 + 1000.0 * TTFT_FACTOR)
    assert decision.tpot_ms == 0.0
    assert decision.energy_j == 2282.0 * 1.25
    assert decision.burden == UNBURDENED


def test_the_origin_decides_the_round_trip():
    world = World(the_policy=policy(weights=LATENCY_FIRST))
    assert world.decide(request(origin="home")).endpoint.name == "e"
    assert world.decide(request(origin="coast")).endpoint.name == "w"


def test_an_unknown_model_is_an_error():
    with pytest.raises(UnknownModelError, match="'gpt'"):
        World().decide(request(model="gpt"))
    with pytest.raises(UnknownModelError, match="version '9'"):
        World(two(served(version="1"))).decide(request(version="9"))


def test_an_endpoint_without_a_version_serves_any():
    assert World().decide(request(version="9")).endpoint.name == "w"


def test_what_was_tried_is_not_chosen_again_and_the_board_does_not_change():
    world = World()
    before = world.board.live("llama", "").copy()
    assert world.decide(tried=["w"]).endpoint.name == "e"
    assert world.decide(tried=["gone"]).endpoint.name == "w"
    assert isinstance(refusal(world, tried={"e", "w"}), NothingFeasibleError)
    assert (world.board.live("llama", "") == before).all()
    assert world.decide().endpoint.name == "w"


def test_a_pinned_request_goes_there_or_nowhere():
    world = World()
    decision = world.decide(pinned="e")
    assert decision.endpoint.name == decision.latency_first_endpoint == "e"
    assert isinstance(refusal(world, pinned="e", tried=["e"]), NothingFeasibleError)
    assert isinstance(refusal(world, pinned="gone"), NothingFeasibleError)
    world.eject("w")
    assert isinstance(refusal(world, pinned="w"), NothingFeasibleError)
    world.fill("e")
    assert isinstance(refusal(world, pinned="e"), ShedError)


@settings(max_examples=examples(75), deadline=None)
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


@settings(max_examples=examples(37), deadline=None)
@given(worlds(), REQUESTS, st.integers(0, 2**32))
def test_the_same_inputs_replay_to_the_same_decisions(world, a_request, seed):
    """Once with leases taken on the way, and once more from the start on a board of its own."""

    def play():
        a_board = Board(world.snapshot.layout, health_settings(), z_of(0.95))
        rng, found = random.Random(seed), []
        for _ in range(6):
            try:
                decision, *_ = decide(a_request, world.snapshot, a_board, EXPECTED, NOW, rng)
            except RefusedError as error:
                found.append(str(error))
            else:
                Lease(a_board.seats[decision.endpoint.name], decision.burden, now=NOW)
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


def test_every_version_of_an_endpoint_that_was_tried_is_out():
    both = endpoint("both", "west", served(version="1"), served(version="2"))
    world = World(fleet(both, endpoint("other", "east"), regions=REGIONS, rtt_ms=RTT))
    assert world.decide().endpoint.name == "both"
    assert world.decide(tried=["both"]).endpoint.name == "other"
    assert world.decide(pinned="both").endpoint.name == "both"


@settings(max_examples=examples(75), deadline=None)
@given(
    worlds(),
    st.floats(1.0, MAX_TOKENS),
    st.floats(1.0, MAX_TOKENS),
    st.integers(0, MAX_PAYLOAD_BYTES),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_whatever_a_caller_may_say_every_figure_of_a_decision_is_finite(
    world, input_tokens, output_tokens, payload_bytes, u
):
    expected = Expected(input_tokens, output_tokens, MAX_TOKENS)
    network_j = payload_bytes / 1e9 * 0.1 * J_PER_KWH
    try:
        decision = world.decide(u=u, expected=expected, network_j=network_j)
    except RefusedError:
        return
    assert not any(math.isinf(value) for value in decision if isinstance(value, float))
    burden = decision.burden
    assert all(math.isfinite(one) and one >= 0.0 for one in (*burden[:3], burden.pace_ms2))
    latency = (decision.rtt_ms, decision.ttft_ms, decision.tpot_ms, decision.e2e_ms)
    assert all(math.isfinite(figure) for figure in (*latency, decision.energy_j))
    if decision.intensity is not None:
        assert math.isfinite(decision.gco2e)
        assert math.isfinite(decision.run_g_per_kwh)
    assert burden.pace_cap_ms == UNLIMITED
