import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.accounting import Run
from router.core.energy import Crowd
from router.core.latency import WaitTracker
from router.core.learning import (
    TELLING_TOKENS,
    Prediction,
    borne_out,
    decoding_ms_of,
    most_output_tokens,
    prediction_of,
    teach_latency,
)
from router.core.lease import Lease
from router.core.lengths import Expected
from tests.core.worlds import World, Z
from tests.factories import endpoint, fleet, forecasts, request, served, token_profile

RTT_MS = 80.0
# 10 ms, an iteration of 6 + 0.1 ms and 0.05 * 100 ms of prompt; 6.1 ms a token.
TRUE = Prediction(21.1, 0.0, 6.1)
ALONE = Crowd(1.0)


def teach(world, times, ttft_ms, tpot_ms, tokens=200.0, streamed=True):
    """Requests that go as given, each predicted at the moment that it is decided."""
    seat = world.seat("w")
    for _ in range(times):
        prediction = prediction_of(world.decide(), ALONE, 1.0)
        assert prediction == pytest.approx(TRUE)
        e2e_ms = RTT_MS + ttft_ms + (tokens - 1.0) * tpot_ms
        seen_ttft = RTT_MS + ttft_ms if streamed else math.nan
        teach_latency(seat, prediction, Run(0, ALONE, seen_ttft, e2e_ms, RTT_MS), tokens)


def middle(seat, prefill_ms=21.1):
    """Times the model's wait and TPOT, in the middle of their distributions."""
    delay_ms, factor = seat.wait.middle()
    return (delay_ms + factor * prefill_ms) / prefill_ms, seat.tpot_ratio.factor(0.0)


def test_a_prediction_is_the_models_own_whatever_was_learned():
    world = World()
    assert prediction_of(world.decide(), ALONE, 1.0) == pytest.approx(TRUE)
    teach(world, 50, 63.3, 12.2)


def test_a_stream_teaches_both_apart():
    world = World()
    teach(world, 300, 63.3, 12.2)
    assert middle(world.seat("w")) == pytest.approx((3.0, 2.0), rel=0.01)


def test_a_unary_call_teaches_both_by_the_whole():
    world = World()
    whole_ms = 21.1 + 200.0 * 6.1
    teach(world, 300, 2.0 * whole_ms - 199.0 * 6.1, 6.1, streamed=False)
    assert middle(world.seat("w")) == pytest.approx((2.0, 2.0), rel=0.01)


def test_a_unary_call_teaches_both_apart_where_its_server_says_what_was_decoding():
    seat = World().seat("w")
    run = Run(0, ALONE, math.nan, RTT_MS + 63.3 + 199.0 * 12.2, RTT_MS)
    for _ in range(300):
        teach_latency(seat, TRUE, run, 200.0, stated_decoding_ms=199.0 * 12.2)
    assert middle(seat) == pytest.approx((3.0, 2.0), rel=0.01)


def test_streams_and_unary_calls_that_say_it_tell_the_same_of_a_delay_of_the_path():
    told, rng = World().seat("w"), random.Random(2)
    for _ in range(800):
        prefill_ms = rng.choice([21.1, 36.1, 96.1])
        e2e_ms = RTT_MS + 10.0 + prefill_ms + 199.0 * 6.1
        teach_latency(
            told, TRUE._replace(prefill_ms=prefill_ms),
            Run(0, ALONE, math.nan, e2e_ms, RTT_MS), 200.0, stated_decoding_ms=199.0 * 6.1,
        )  # fmt: skip
    assert told.wait.middle() == pytest.approx((10.0, 1.0), rel=0.05)


@given(
    slower=st.floats(0.1, 5.0),
    stated=st.one_of(st.floats(allow_nan=True), st.floats(0.0, 1.0)),
    tokens=st.just(1.0) | st.floats(1.01, 500.0),
)
def test_no_word_of_its_decoding_makes_a_part_quicker_than_its_clock_or_its_twins(
    slower, stated, tokens
):
    """``stated``: as a share of the whole."""
    seat = World().seat("w")
    service_ms = slower * (21.1 + (tokens - 1.0) * 6.1)
    run = Run(0, ALONE, math.nan, RTT_MS + service_ms, RTT_MS)
    found = decoding_ms_of(seat, TRUE, run, tokens, stated * service_ms)
    if found == found:
        least = min(slower, 1.0) * (1.0 - 1e-9)
        assert found / ((tokens - 1.0) * 6.1) >= least
        assert (service_ms - found) / 21.1 >= least


@pytest.mark.parametrize("share", [0.0, 0.2, 0.999])
def test_an_endpoint_as_quick_as_its_twins_says_what_it_likes(share):
    seat = World().seat("w")
    run = Run(0, ALONE, math.nan, RTT_MS + 21.1 + 199.0 * 6.1, RTT_MS)
    for _ in range(300):
        teach_latency(seat, TRUE, run, 200.0, stated_decoding_ms=share * (21.1 + 199.0 * 6.1))
    assert middle(seat) == pytest.approx((1.0, 1.0), rel=0.01)


BUSY = Prediction(20.0, 300.0, 10.0)


def taught(prediction, times, streamed, first_ms, tokens=200.0):
    """The seat of a world where ``times`` requests as predicted were answered, their first tokens
    after ``first_ms`` of each."""
    seat = World().seat("w")
    for turn in range(times):
        ttft_ms = RTT_MS + first_ms(turn)
        e2e_ms = ttft_ms + (tokens - (1.0 if streamed else 0.0)) * prediction.tpot_ms
        run = Run(0, ALONE, ttft_ms if streamed else math.nan, e2e_ms, RTT_MS)
        teach_latency(seat, prediction, run, tokens)
    return seat


@pytest.mark.parametrize("streamed", [True, False])
def test_a_wait_that_goes_as_predicted_is_no_error_though_most_of_it_was_a_queue(streamed):
    seat = taught(BUSY, 300, streamed, lambda _: BUSY.prefill_ms + BUSY.queue_ms)
    assert seat.wait.middle() == pytest.approx((0.0, 1.0), abs=1e-6)
    assert seat.tpot_ratio.factor(0.0) == pytest.approx(1.0)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_queue_that_varies_makes_the_queue_uncertain_and_little_else(streamed):
    """From nothing to twice as long as predicted, on the mean as long."""
    seat = taught(
        BUSY, 600, streamed, lambda turn: BUSY.prefill_ms + turn % 5 / 2.0 * BUSY.queue_ms
    )
    delay_ms, factor = seat.wait.middle()
    most_delay_ms, most, most_of_queue = seat.wait.errors()
    assert most_delay_ms == delay_ms
    assert most_of_queue > most > factor
    # A tenth of it is the request's own.
    assert most - factor == pytest.approx(0.1 * (most_of_queue - factor))
    # Of a unary call its whole run is its own but for the queue, and it tells no delay.
    twin = WaitTracker(Z)
    for turn in range(600):
        own_ms = BUSY.prefill_ms + (0.0 if streamed else 200.0 * BUSY.tpot_ms)
        waited_ms = turn % 5 / 2.0 * BUSY.queue_ms
        twin.observe(own_ms + waited_ms, own_ms, BUSY.queue_ms, divides=streamed)
    assert seat.wait.errors() == pytest.approx(twin.errors())


def test_what_was_learned_counts_in_the_next_decision():
    world = World()
    before = world.decide()
    teach(world, 300, 63.3, 12.2)
    after = world.decide()
    assert after.rtt_ms == before.rtt_ms == RTT_MS
    assert after.ttft_ms == pytest.approx(RTT_MS + 63.3, rel=0.02)
    assert after.tpot_ms == pytest.approx(12.2, rel=0.02)
    live = world.board.live("llama", "")
    row = [one.name for one in world.snapshot.layout.find("llama", "").endpoints].index("w")
    told = tuple(live[[k.TTFT_FACTOR, k.QUEUE_FACTOR, k.TPOT_FACTOR, k.TTFT_DELAY], row])
    assert told == world.seat("w").latency_errors


def test_a_delay_of_the_path_adds_to_the_first_token_and_to_the_end_and_to_no_energy():
    world = World()
    before = world.decide()
    world.board.live("llama", "")[k.TTFT_DELAY] = 7.0
    after = world.decide()
    assert after.ttft_ms == pytest.approx(before.ttft_ms + 7.0)
    assert after.e2e_ms == pytest.approx(before.e2e_ms + 7.0)
    assert (after.energy_j, after.gco2e) == (before.energy_j, before.gco2e)
    assert prediction_of(after, ALONE, 1.0) == pytest.approx(TRUE)


@pytest.mark.parametrize(
    ("run", "tokens"),
    [
        (Run(0, ALONE, math.nan, 2000.0, RTT_MS), math.nan),  # how long was the answer?
        (
            Run(0, ALONE, math.nan, 40.0, RTT_MS),
            200.0,
        ),  # quicker than the round trip: a clock's error
        (Run(0, ALONE, math.nan, math.nan, RTT_MS), 200.0),
    ],
)
def test_what_cannot_be_told_teaches_nothing(run, tokens):
    world = World()
    seat = world.seat("w")
    before = seat.latency_errors
    teach_latency(seat, TRUE, run, tokens)
    assert seat.latency_errors == before


def test_a_task_teaches_its_service_time():
    world = World()
    seat = world.seat("w")
    for _ in range(300):
        teach_latency(
            seat, Prediction(800.0, 0.0, 0.0), Run(0, ALONE, math.nan, 1680.0, RTT_MS), 1.0
        )
    assert middle(seat, 800.0)[0] == pytest.approx(2.0, rel=0.01)
    assert world.decide(request(), expected=Expected(1.0, 1.0, 1.0)).ttft_ms > RTT_MS


def test_streams_of_different_prompts_tell_a_delay_of_the_path_from_a_slow_prefill():
    """10 ms that the RTT table does not have: a long prompt is late by 10 ms too, not by two
    thirds.
    """
    world, rng = World(), random.Random(2)
    seat = world.seat("w")
    for _ in range(800):
        expected = Expected(rng.choice([100.0, 400.0, 1600.0]), 200.0, 500.0)
        prediction = prediction_of(world.decide(expected=expected), ALONE, 1.0)
        ttft_ms = RTT_MS + 10.0 + prediction.prefill_ms
        e2e_ms = ttft_ms + 199.0 * 6.1
        teach_latency(seat, prediction, Run(0, ALONE, ttft_ms, e2e_ms, RTT_MS), 200.0)
    assert seat.wait.middle() == pytest.approx((10.0, 1.0), rel=0.02)
    long = world.decide(expected=Expected(16_000.0, 200.0, 500.0))
    assert long.ttft_ms == pytest.approx(RTT_MS + 10.0 + 816.1, rel=0.03)
    assert seat.latency_errors.delay_ms == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_request_that_had_to_queue_teaches_nothing_of_the_wait(streamed):
    """It waits for others' tokens, whatever the prefill."""
    world = World()
    seat, decision = world.seat("w"), world.decide()
    prediction = prediction_of(decision, Crowd(300.0), 257.0)
    assert math.isnan(prediction.prefill_ms) and math.isnan(prediction.queue_ms)
    before = seat.latency_errors
    run = Run(
        0,
        Crowd(300.0),
        RTT_MS + 900.0 if streamed else math.nan,
        RTT_MS + 900.0 + 199.0 * 31.6,
        RTT_MS,
    )
    teach_latency(seat, prediction, run, 200.0)
    assert seat.wait.middle() == (0.0, 1.0)
    assert (seat.latency_errors.tpot == before.tpot) is not streamed


def test_tpot_is_held_against_the_load_that_there_was():
    """A replica that fills up while a request runs is slower, and the model is not wrong."""
    world = World()
    seat, decision = world.seat("w"), world.decide()
    assert prediction_of(decision, Crowd(41.0), 41.0).tpot_ms == pytest.approx(6.0 + 0.1 * 41.0)
    # What waits slows nobody down.
    assert prediction_of(decision, Crowd(1e6), 1.0).tpot_ms == pytest.approx(6.0 + 0.1 * 256.0)
    for _ in range(300):
        prediction = prediction_of(decision, Crowd(41.0), 41.0)
        run = Run(0, Crowd(41.0), RTT_MS + 21.1, RTT_MS + 21.1 + 199.0 * 10.1, RTT_MS)
        teach_latency(seat, prediction, run, 200.0)
    assert middle(seat)[1] == pytest.approx(1.0, rel=0.01)


def test_tpot_is_held_against_the_prompts_and_the_cached_tokens_that_there_were():
    """Others' prompts lengthen every iteration, and that is no error of the model."""
    profile = token_profile(tpot_ms_per_cached_token=1e-3, max_batch=4)
    decision = World(fleet(endpoint("w", "west", served(profile)))).decide()

    def tpot_ms(batch, prompts_ms, cached_tokens):
        crowd = Crowd(batch, prompts_ms, cached_tokens)
        return prediction_of(decision, crowd, 1.0).tpot_ms

    assert tpot_ms(2.0, 3.0, 500.0) == pytest.approx(6.0 + 0.1 * 2 + 0.5 + 3.0)
    # Of eight four run: half of the prompts, half of the cached tokens.
    assert tpot_ms(8.0, 3.0, 500.0) == pytest.approx(6.0 + 0.1 * 4 + 0.25 + 1.5)


def test_short_answers_say_little_of_tpot_and_all_of_ttft():
    short, long = World(), World()
    for world, tokens in ((short, 2.0), (long, TELLING_TOKENS)):
        teach(world, 10, 42.2, 12.2, tokens)
    short_ttft, short_tpot = middle(short.seat("w"))
    long_ttft, long_tpot = middle(long.seat("w"))
    assert short_ttft == long_ttft > 1.1
    assert math.log(long_tpot) > 0.2
    assert math.log(short_tpot) == pytest.approx(math.log(long_tpot) / 32.0, rel=0.3)


def test_a_false_length_of_the_prompt_teaches_nothing_of_the_wait():
    world = World()
    seat, before = world.seat("w"), world.seat("w").latency_errors
    for _ in range(600):
        long = Expected(8182.0, 200.0, 500.0)
        decision = world.decide(expected=long)
        prediction = prediction_of(decision, ALONE, 1.0, prompt_known=False)
        run = Run(0, ALONE, RTT_MS + 21.1, RTT_MS + 21.1 + 199.0 * 6.1, RTT_MS)
        teach_latency(seat, prediction, run, 200.0)
    assert seat.latency_errors._replace(tpot=before.tpot) == before


@pytest.mark.parametrize(
    ("limit", "e2e_ms", "most"),
    [(math.inf, 610.0, 1001.0), (40.0, 610.0, 40.0), (math.inf, 0.0, 1.0), (1e8, 61e6, 4096.0)],
)
def test_no_more_came_than_limit_context_and_time_allow(limit, e2e_ms, most):
    """6.1 ms a token alone: ten times as quick makes 1,000 in 610 ms."""
    world = World(fleet(endpoint("w", "west", served(context_tokens=4096.0))))
    decision = world.decide()
    run = Run(0, ALONE, math.nan, e2e_ms)
    assert most_output_tokens(request(max_output_tokens=limit), decision, run) == pytest.approx(
        most
    )


@pytest.mark.parametrize("others", [0, 1, 20])
def test_who_runs_as_was_decided_teaches_no_error(others):
    """Its own cached tokens count once, in the decision and in what is learned of it."""
    profile = token_profile(tpot_ms_per_cached_token=1e-3)
    world = World(fleet(endpoint("w", "west", served(profile))), carbon=forecasts(west=100))
    seat = world.seat("w")
    for _ in range(others):
        Lease(seat, world.decide(expected=Expected(3000.0, 100.0, 300.0)).burden)
    decision, errors = world.decide(), seat.latency_errors
    lease = Lease(seat, decision.burden)
    told = prediction_of(decision, lease.crowd(), lease.crowd_at_start.batch)
    assert told.tpot_ms == pytest.approx(decision.tpot_ms / errors.tpot)
    first_ms = told.prefill_ms * errors.ttft + told.queue_ms * errors.queue
    assert decision.ttft_ms - decision.rtt_ms == pytest.approx(first_ms)
    assert (told.queue_ms > 0.0) == (others > 0)
    cached = others * (3000.0 + 100.0 / 2.0) + 100.0 + 200.0 / 2.0
    prompts_ms = others * 3000.0 * 0.05 / 100.0
    assert told.tpot_ms == pytest.approx(6.0 + 0.1 * (others + 1) + 1e-3 * cached + prompts_ms)


def run_of(streamed, tokens, pace_ms, first_ms=21.1):
    ttft_ms = RTT_MS + first_ms
    decoding_ms = (tokens - (1.0 if streamed else 0.0)) * pace_ms
    return Run(0, ALONE, ttft_ms if streamed else math.nan, ttft_ms + decoding_ms, RTT_MS)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("said", "truly", "by_size", "taught"),
    [
        (200.0, 200.0, math.nan, 200.0),
        # Said of an answer of 200 tokens, by the size of it and by its time.
        (600.0, 200.0, 200.0, 200.0),
        (600.0, 200.0, 0.0, 200.0),
        (600.0, 200.0, math.nan, 600.0),
        # Twice as quick as its twins, as its answer shows.
        (400.0, 200.0, 400.0, 400.0),
        (400.0, 200.0, 390.0, 390.0),
        # More tokens for its bytes than others have, at their pace: another language.
        (200.0, 200.0, 80.0, 200.0),
        (100.0, 200.0, 80.0, 100.0),
        # Of one that is new, what no server can do in that time.
        (3000.0, 200.0, 0.0, math.nan),
    ],
)
def test_a_pace_is_taught_by_counts_that_the_answer_bears_out(
    streamed, said, truly, by_size, taught
):
    """``truly``: as many as its twins make in the time that it took."""
    seat = World().seat("w")
    found = borne_out(seat, TRUE, run_of(streamed, truly, TRUE.tpot_ms), said, by_size)
    assert found == pytest.approx(taught, nan_ok=True)


def test_who_says_much_of_short_answers_learns_the_pace_of_its_twins():
    seat, honest = World().seat("w"), World().seat("w")
    for _ in range(200):
        run = run_of(True, 200.0, TRUE.tpot_ms)
        teach_latency(seat, TRUE, run, 600.0, 200.0)
        teach_latency(honest, TRUE, run, 200.0, 200.0)
    assert middle(seat) == pytest.approx(middle(honest))
