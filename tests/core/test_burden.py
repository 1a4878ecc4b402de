"""What requests add to a replica, and what that comes to when they have come and gone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.board import Board
from router.core.burden import (
    NO_BURDENS,
    USUAL_WEIGHT,
    Burdens,
    burden_of,
    burdens,
    context_tokens,
)
from router.core.energy import Crowd
from router.core.layout import Layout
from router.core.lease import Lease
from router.core.lengths import Expected
from router.errors import RefusedError, ShedError
from router.model import UNBURDENED, Budget, Burden, Outcome
from tests.core.worlds import World
from tests.factories import (
    NOW,
    endpoint,
    fleet,
    forecasts,
    health_settings,
    request,
    served,
    task_profile,
    token_profile,
)

finite = st.floats(0.0, 1e12)
BURDENS = st.builds(burden_of, finite, finite, finite, st.just(math.inf) | st.floats(0.1, 1e5))


def seat():
    layout = Layout(fleet(endpoint("a", "east", served(name="llama"))))
    board = Board(layout, health_settings(), 0.0)
    return board.seats["a"], board.live("llama", "")[:, 0]


def parts(burden):
    """What sums and means of requests are made of."""
    return burden.pace_ms, burden.pace_ms2, burden.cached_tokens


# One request


def test_a_prompt_is_spread_over_the_tokens_of_its_answer():
    """16 ms of prompt over 200 iterations, and the square of it over as many."""
    one = burden_of(16.0, 256.0, 200.0, 40.0)
    assert one == (16.0, 16.0 / 200.0, 256.0 + 200.0 / 2.0, 40.0, 0.0)
    assert one.pace_ms2 == pytest.approx(16.0**2 / 200.0)


@pytest.mark.parametrize("tokens", [0.0, 1e-300, 0.5, 1.0])
def test_whoever_answers_hardly_anything_is_there_for_one_iteration(tokens):
    assert burdens(16.0, 0.0, tokens)[:2] == (16.0, 16.0**2)
    assert burden_of(16.0, 0.0, tokens, math.inf).pace_ms2 == 16.0**2


def test_a_request_without_a_prompt_adds_but_its_answer():
    assert burden_of(0.0, 0.0, 200.0, math.inf) == (0.0, 0.0, 100.0, math.inf, 0.0)
    assert context_tokens(0.0, 0.0) == 0.0
    assert (0.0, 0.0, 0.0, math.inf, 0.0) == UNBURDENED
    assert UNBURDENED.pace_ms2 == 0.0


# Many


@given(st.lists(BURDENS, max_size=30), st.lists(BURDENS, max_size=30))
def test_sums_are_never_below_nothing_whatever_is_taken_away(added, taken):
    total = NO_BURDENS
    for one in added:
        total = total.plus(one)
    for one in taken:
        total = total.less(one)
        assert min(total) >= 0.0


@given(st.lists(BURDENS, min_size=1, max_size=20))
def test_sums_are_those_of_the_requests(there):
    total = NO_BURDENS
    for one in there:
        total = total.plus(one)
    for found, each in zip(total, zip(*map(parts, there), strict=True), strict=True):
        assert found == pytest.approx(math.fsum(each))


def test_the_usual_request_follows_the_last_sixteen_or_so():
    usual = Burdens(0.0, 0.0, 0.0)
    # Answered with one token: 16 ms, and 256 of its square.
    heavy = Burden(16.0, 16.0, 4096.0, math.inf)
    assert usual.towards(heavy) == (1.0, 16.0, 256.0)
    for _ in range(16):
        usual = usual.towards(heavy)
    share = 1.0 - (1.0 - USUAL_WEIGHT) ** 16
    assert usual == pytest.approx(tuple(share * one for one in parts(heavy)))
    assert usual.with_usual(Burdens(1.0, 2.0, 3.0), 2.5) == pytest.approx(
        (usual.pace_ms + 2.5, usual.pace_ms2 + 5.0, usual.cached_tokens + 7.5)
    )


# On a seat


@given(st.lists(st.tuples(BURDENS, st.integers(0, 40)), max_size=40), st.randoms())
def test_what_was_taken_is_given_back_to_exactly_nothing(arrivals, rng):
    """In any order, and however the sums were rounded in between."""
    one, live = seat()
    there = []
    for burden, leaves in arrivals:
        one.take(burden, NOW)
        there.append(burden)
        for _ in range(min(leaves % 3, len(there))):
            one.give_back(there.pop(rng.randrange(len(there))))
        assert min(one.burdens) >= 0.0
        if not there:
            assert one.burdens == NO_BURDENS
        caps = [burden.pace_cap_ms for burden in there]
        assert live[k.PACE_CAP_MS] == min(caps, default=math.inf)
    rng.shuffle(there)
    for burden in there:
        one.give_back(burden)
    assert one.in_flight == 0
    assert one.burdens == NO_BURDENS
    rows = [k.BATCH, k.OWN, k.PROMPTS_MS, k.PROMPTS_MS2, k.CACHED_TOKENS, k.BACKLOG_MOST_MS]
    assert (live[rows] == 0.0).all()
    assert live[k.PACE_CAP_MS] == math.inf


def test_requests_of_others_count_as_the_usual_one():
    one, live = seat()
    mine = Burden(4.0, 2.0, 300.0, math.inf)
    # Nothing went there yet: nothing is known of what usually does.
    one.set_others(3.0)
    assert one.burdens == NO_BURDENS
    lease = Lease(one, mine)
    assert one.burdens == (2.0 + 3 * 2.0, 8.0 + 3 * 8.0, 300.0 + 3 * 300.0)
    # Those of the other workers are as little known, but for their number.
    one.set_peers(2)
    assert one.burdens == (6 * 2.0, 6 * 8.0, 6 * 300.0)
    assert tuple(live[[k.PROMPTS_MS, k.PROMPTS_MS2, k.CACHED_TOKENS]]) == one.burdens
    lease.close(Outcome.SUCCEEDED)
    assert one.burdens == (5 * 2.0, 5 * 8.0, 5 * 300.0)
    one.set_others(0.0)
    one.set_peers(0)
    assert one.burdens == NO_BURDENS


def test_the_usual_one_is_learned_from_those_that_go_there():
    one, _ = seat()
    for _ in range(200):
        Lease(one, Burden(16.0, 4.0, 1000.0, math.inf)).close(Outcome.SUCCEEDED)
    one.set_others(1.0)
    assert one.burdens == pytest.approx((4.0, 64.0, 1000.0))
    Lease(one, UNBURDENED).close(Outcome.SUCCEEDED)
    kept = 1.0 - USUAL_WEIGHT
    assert one.burdens == pytest.approx((4.0 * kept, 64.0 * kept, 1000.0 * kept))


def test_a_request_meets_its_own_cached_tokens_and_not_its_own_prompt():
    one, _ = seat()
    heavy, light = Burden(100.0, 10.0, 900.0, math.inf), Burden(10.0, 1.0, 300.0, math.inf)
    first = Lease(one, heavy)
    second = Lease(one, light)
    assert first.crowd_at_start == Crowd(1.0, 0.0, 900.0)
    assert second.crowd_at_start == Crowd(2.0, 10.0, 900.0 + 300.0)
    # The mean of its two ends: alone first, then with the other.
    assert first.crowd() == Crowd(1.5, 1.0 / 2.0, 900.0 + 300.0 / 2.0)
    assert second.crowd() == Crowd(2.0, 10.0, 900.0 + 300.0)


def test_a_task_beside_a_language_model_has_no_part_in_its_prompts():
    """On one endpoint: it is not full, nor late, nor does it slow the other down."""
    both = endpoint("w", "west", served(), served(task_profile(), name="image"))
    world = World(fleet(both), carbon=forecasts(west=100))
    image = request(model="image")
    alone, llama_alone = world.decide(image), world.decide()
    assert alone.burden == UNBURDENED
    task = Lease(world.seat("w"), alone.burden)
    # A second request there, as any model counts it: 0.1 ms a token, and half of an iteration.
    beside = world.decide()
    assert beside.tpot_ms - llama_alone.tpot_ms == pytest.approx(
        0.1 * world.seat("w").latency_errors.tpot
    )
    task.close(Outcome.SUCCEEDED)
    asked = world.decide(request(budget=Budget(tpot_ms=40.0)), expected=Expected(2e4, 200.0, 500.0))
    for _ in range(3):
        Lease(world.seat("w"), asked.burden, now=NOW)
    crowded = world.decide(image)
    # 100 ms for each that is there, times the error's factor, and no second of backlog.
    assert crowded.ttft_ms - alone.ttft_ms == pytest.approx(
        3.0 * 100.0 * world.seat("w").latency_errors.ttft
    )
    assert crowded.tpot_ms == alone.tpot_ms == 0.0
    rows = [k.PROMPTS_MS, k.PROMPTS_MS2, k.CACHED_TOKENS, k.BACKLOG_MOST_MS]
    for model in ("image", "llama"):
        assert (world.board.live(model, "")[rows] > 0.0).all()
    # Whoever asks for the language model waits for those 3 s and more.
    assert world.decide().ttft_ms - llama_alone.ttft_ms > 3_000.0


# What a prompt does to those that are there


def lone(**changes):
    """One 8B replica of 64 places: 6 + 0.1 b ms, 0.05 ms a prompt token."""
    one = endpoint("w", "west", served(token_profile(**changes)))
    return World(fleet(one), carbon=forecasts(west=100))


def test_a_prompt_that_would_break_the_budget_of_one_that_is_there_goes_elsewhere():
    world = lone()
    factor = world.seat("w").latency_errors.tpot
    # Alone 6.1 ms a token and 5 ms of prompt over 200: it bears iterations of 8 ms.
    tight = world.decide(request(budget=Budget(tpot_ms=8.0 * factor)))
    assert tight.burden.pace_cap_ms == pytest.approx(8.0, rel=1.0 / 256)
    lease = Lease(world.seat("w"), tight.burden)
    # 6.2 ms of two, 0.025 of the prompt there, and 0.05 * 6,000 / 200 = 1.5 ms: 7.725.
    assert world.decide(expected=Expected(6_000.0, 200.0, 500.0)).endpoint.name == "w"
    with pytest.raises(ShedError):
        world.decide(expected=Expected(8_000.0, 200.0, 500.0))
    # Over an answer of twice the length it is half as heavy.
    assert world.decide(expected=Expected(8_000.0, 400.0, 500.0)).endpoint.name == "w"
    lease.close(Outcome.SUCCEEDED)
    assert world.decide(expected=Expected(8_000.0, 200.0, 500.0)).endpoint.name == "w"


@given(st.lists(st.tuples(st.floats(0.0, 8192.0), st.floats(1.0, 2000.0)), max_size=64))
def test_no_budget_of_those_there_is_broken_by_whoever_comes_after(asked):
    """The pace that everybody makes together is at most the least of their caps."""
    world = lone(tpot_ms_per_cached_token=1e-5, prefill_ms_per_token2=5e-6)
    profile = world.snapshot.layout.fleet.endpoints[0].models[0].profile
    seat = world.seat("w")
    caps = []
    for n_in, n_out in asked:
        try:
            decision = world.decide(
                request(budget=Budget(tpot_ms=12.0)), expected=Expected(n_in, n_out, n_out)
            )
        except RefusedError:
            continue
        Lease(seat, decision.burden)
        caps.append(decision.burden.pace_cap_ms)
        there = seat.burdens
        pace = profile.tpot_ms(seat.in_flight, there.cached_tokens, there.pace_ms)
        assert pace <= min(caps) * (1.0 + 1e-9)
