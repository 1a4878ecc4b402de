import math
import random

import pytest

from router.core import kernel as k
from router.core.accounting import Run
from router.core.learning import (
    TELLING_TOKENS,
    Prediction,
    most_output_tokens,
    prediction_of,
    teach_latency,
)
from router.core.lengths import Expected
from tests.core.worlds import World
from tests.factories import endpoint, fleet, request, served

RTT_MS = 80.0
TRUE = Prediction(15.0, 6.1)  # 10 + 0.05 * 100 ms of prompt, 6 + 0.1 ms a token


def teach(world, times, ttft_ms, tpot_ms, tokens=200.0, streamed=True):
    """Requests that go as given, each predicted at the moment that it is decided."""
    seat = world.seat("w")
    for _ in range(times):
        prediction = prediction_of(world.decide(), seat.latency_errors, 1.0, 1.0)
        assert prediction == pytest.approx(TRUE)
        e2e_ms = RTT_MS + ttft_ms + (tokens - 1.0) * tpot_ms
        seen_ttft = RTT_MS + ttft_ms if streamed else math.nan
        teach_latency(seat, prediction, Run(0, 1.0, seen_ttft, e2e_ms, RTT_MS), tokens)


def middle(seat, prefill_ms=15.0):
    """Times the model's wait and TPOT, in the middle of their distributions."""
    delay_ms, factor = seat.wait.middle()
    return (delay_ms + factor * prefill_ms) / prefill_ms, seat.tpot_ratio.factor(0.0)


def test_a_prediction_is_the_models_own_whatever_was_learned():
    world = World()
    assert prediction_of(world.decide(), world.seat("w").latency_errors, 1.0, 1.0) == pytest.approx(
        TRUE
    )
    teach(world, 50, 45.0, 12.2)


def test_a_stream_teaches_both_apart():
    world = World()
    teach(world, 300, 45.0, 12.2)
    assert middle(world.seat("w")) == pytest.approx((3.0, 2.0), rel=0.01)


def test_a_unary_call_teaches_both_by_the_whole():
    world = World()
    whole_ms = 15.0 + 200.0 * 6.1
    teach(world, 300, 2.0 * whole_ms - 199.0 * 6.1, 6.1, streamed=False)
    assert middle(world.seat("w")) == pytest.approx((2.0, 2.0), rel=0.01)


def test_what_was_learned_counts_in_the_next_decision():
    world = World()
    before = world.decide()
    teach(world, 300, 45.0, 12.2)
    after = world.decide()
    assert after.rtt_ms == before.rtt_ms == RTT_MS
    assert after.ttft_ms == pytest.approx(RTT_MS + 45.0, rel=0.02)
    assert after.tpot_ms == pytest.approx(12.2, rel=0.02)
    live = world.board.live("llama", "")
    row = [one.name for one in world.snapshot.layout.find("llama", "").endpoints].index("w")
    told = tuple(live[[k.TTFT_FACTOR, k.TPOT_FACTOR, k.TTFT_DELAY], row])
    assert told == world.seat("w").latency_errors


def test_a_delay_of_the_path_adds_to_the_first_token_and_to_the_end_and_to_no_energy():
    world = World()
    before = world.decide()
    world.board.live("llama", "")[k.TTFT_DELAY] = 7.0
    after = world.decide()
    assert after.ttft_ms == pytest.approx(before.ttft_ms + 7.0)
    assert after.e2e_ms == pytest.approx(before.e2e_ms + 7.0)
    assert (after.energy_j, after.gco2e) == (before.energy_j, before.gco2e)
    told = prediction_of(after, world.seat("w").latency_errors._replace(delay_ms=7.0), 1.0, 1.0)
    assert told == pytest.approx(TRUE)


@pytest.mark.parametrize(
    ("run", "tokens"),
    [
        (Run(0, 1.0, math.nan, 2000.0, RTT_MS), math.nan),  # how long was the answer?
        (
            Run(0, 1.0, math.nan, 40.0, RTT_MS),
            200.0,
        ),  # quicker than the round trip: a clock's error
        (Run(0, 1.0, math.nan, math.nan, RTT_MS), 200.0),
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
        teach_latency(seat, Prediction(800.0, 0.0), Run(0, 1.0, math.nan, 1680.0, RTT_MS), 1.0)
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
        prediction = prediction_of(world.decide(expected=expected), seat.latency_errors, 1.0, 1.0)
        ttft_ms = RTT_MS + 10.0 + prediction.prefill_ms
        e2e_ms = ttft_ms + 199.0 * 6.1
        teach_latency(seat, prediction, Run(0, 1.0, ttft_ms, e2e_ms, RTT_MS), 200.0)
    assert seat.wait.middle() == pytest.approx((10.0, 1.0), rel=0.02)
    long = world.decide(expected=Expected(16_000.0, 200.0, 500.0))
    assert long.ttft_ms == pytest.approx(RTT_MS + 10.0 + 810.0, rel=0.03)
    assert seat.latency_errors.delay_ms == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_request_that_had_to_queue_teaches_nothing_of_the_wait(streamed):
    """It waits for others' tokens, whatever the prefill."""
    world = World()
    seat, decision = world.seat("w"), world.decide()
    prediction = prediction_of(decision, seat.latency_errors, 300.0, 257.0)
    assert math.isnan(prediction.prefill_ms)
    before = seat.latency_errors
    run = Run(
        0, 300.0, RTT_MS + 900.0 if streamed else math.nan, RTT_MS + 900.0 + 199.0 * 31.6, RTT_MS
    )
    teach_latency(seat, prediction, run, 200.0)
    assert seat.wait.middle() == (0.0, 1.0)
    assert (seat.latency_errors.tpot == before.tpot) is not streamed


def test_tpot_is_held_against_the_load_that_there_was():
    """A replica that fills up while a request runs is slower, and the model is not wrong."""
    world = World()
    seat, decision = world.seat("w"), world.decide()
    assert prediction_of(decision, seat.latency_errors, 41.0, 41.0).tpot_ms == pytest.approx(
        6.0 + 0.1 * 41.0
    )
    # What waits slows nobody down.
    assert prediction_of(decision, seat.latency_errors, 1e6, 1.0).tpot_ms == pytest.approx(
        6.0 + 0.1 * 256.0
    )
    for _ in range(300):
        prediction = prediction_of(decision, seat.latency_errors, 41.0, 41.0)
        run = Run(0, 41.0, RTT_MS + 15.0, RTT_MS + 15.0 + 199.0 * 10.1, RTT_MS)
        teach_latency(seat, prediction, run, 200.0)
    assert middle(seat)[1] == pytest.approx(1.0, rel=0.01)


def test_short_answers_say_little_of_tpot_and_all_of_ttft():
    short, long = World(), World()
    for world, tokens in ((short, 2.0), (long, TELLING_TOKENS)):
        teach(world, 10, 30.0, 12.2, tokens)
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
        prediction = prediction_of(decision, seat.latency_errors, 1.0, 1.0, prompt_known=False)
        run = Run(0, 1.0, RTT_MS + 15.0, RTT_MS + 15.0 + 199.0 * 6.1, RTT_MS)
        teach_latency(seat, prediction, run, 200.0)
    assert (seat.latency_errors.ttft, seat.latency_errors.delay_ms) == (
        before.ttft,
        before.delay_ms,
    )


@pytest.mark.parametrize(
    ("limit", "e2e_ms", "most"),
    [(math.inf, 610.0, 1001.0), (40.0, 610.0, 40.0), (math.inf, 0.0, 1.0), (1e8, 61e6, 4096.0)],
)
def test_no_more_came_than_limit_context_and_time_allow(limit, e2e_ms, most):
    """6.1 ms a token alone: ten times as quick makes 1,000 in 610 ms."""
    world = World(fleet(endpoint("w", "west", served(context_tokens=4096.0))))
    decision = world.decide()
    run = Run(0, 1.0, math.nan, e2e_ms)
    assert most_output_tokens(request(max_output_tokens=limit), decision, run) == pytest.approx(
        most
    )
