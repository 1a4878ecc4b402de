"""How an attempt ends: what health, latency and lengths learn, and what the receipt says."""

import asyncio
import contextlib
import dataclasses
import math
import os

import pytest

from router.core import kernel_rows as k
from router.core.health import State
from router.core.latency import RatioTracker, WaitTracker, z_of
from router.core.tokens import UNLEARNED
from router.director import Prompt, View
from router.errors import (
    BudgetImpossibleError,
    CarbonRouterError,
    NothingFeasibleError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamUnreachedError,
)
from router.model import (
    UNBURDENED,
    Basis,
    Budget,
    CachedKind,
    Factors,
    Provenance,
    Signal,
    TokensKind,
)
from tests.director.support import ANSWER, LADDER, LEAVES, Room, Says, fails, leaf, report, three
from tests.director.virtual_time import run
from tests.factories import (
    HOUR,
    LATENCY_FIRST,
    NOW,
    endpoint,
    fleet,
    forecasts,
    intensity,
    policy,
    region,
    request,
    served,
    task_profile,
    token_profile,
)

FIRST_FAULT = {"consecutive_failures": 1, "max_ejected_fraction": 1.0}
LONE_FAULT = {"consecutive_failures": 1}


def alone(*models, emulated=False, **changes):
    """One endpoint, so that nothing is retried; 10 ms away, PUE 1.2, 100 g/kWh."""
    one = endpoint("a", "near", *models, emulated=emulated)
    return fleet(one, regions=[region("near", pue=1.2)], rtt_ms={"home": {"near": 10.0}}, **changes)


async def failing(room, streams=False, **changes):
    with pytest.raises(CarbonRouterError) as caught:
        await (room.collect(**changes) if streams else room.infer(**changes))
    return caught.value


# Health


@pytest.mark.parametrize("kind", ["fault", "internal", "denied"])
@pytest.mark.parametrize("streams", [False, True])
async def test_failures_that_others_answer_eject_at_the_limit(streams, kind):
    room = Room({"a": fails(kind), "b": ANSWER}, health={"consecutive_failures": 3})
    for expected in (State.HEALTHY, State.HEALTHY, State.EJECTED):
        await (room.collect() if streams else room.infer())
        assert room.seat("a").state is expected
    assert room.watch.ejections == ["a"]
    await room.infer()
    assert room.backend.asked[-2:] == ["b", "b"]


async def test_failures_that_nobody_else_can_answer_keep_the_only_endpoint():
    room = Room({"a": fails("fault")}, alone(), health=FIRST_FAULT)
    for _ in range(9):
        assert isinstance(await failing(room), UpstreamFaultError)
    assert room.seat("a").state is State.HEALTHY


async def test_a_connection_that_cannot_be_had_ejects_even_the_only_endpoint():
    room = Room({"a": fails("refused")}, alone())
    assert isinstance(await failing(room), UpstreamUnreachedError)
    assert room.seat("a").state is State.EJECTED
    assert isinstance(await failing(room), NothingFeasibleError)
    assert room.watch.ejections == ["a"]


async def test_a_connection_that_broke_leaves_room_for_one_request_until_a_probe_tells():
    room = Room({"a": fails("lost")}, alone())
    await failing(room)
    health = room.seat("a").health
    assert (health.state, health.probe_due(room.clock.monotonic())) == (State.PROBING, True)
    room.clock.advance(0.01)
    room.backend.script["a"] = [ANSWER]
    await room.infer()
    assert health.state is State.HEALTHY


@pytest.mark.parametrize("streams", [False, True])
async def test_a_request_that_is_blamed_says_nothing_about_the_endpoint(streams):
    room = Room({"a": fails("rejected")}, alone(), health=FIRST_FAULT)
    for _ in range(30):
        await failing(room, streams)
    health = room.seat("a").health
    assert (health.state, health.settled) == (State.HEALTHY, True)
    assert not room.watch.ejections


async def test_a_blamed_request_does_not_end_a_probation():
    room = Room({"a": fails("rejected")}, alone(), health=FIRST_FAULT)
    room.on_probation("a")
    await failing(room)
    assert room.seat("a").health.state is State.PROBING
    room.backend.script["a"] = [ANSWER]
    await room.infer()
    assert room.seat("a").health.state is State.HEALTHY


async def test_a_caller_of_bad_requests_ejects_nobody_and_adds_little():
    """Its requests fail everywhere: after a few trials nearly all are asked once."""
    room = Room(dict.fromkeys("abc", fails("internal")), health=FIRST_FAULT)
    for number in range(400):
        await failing(room, payload=b"bad %d" % number, tenant="mallory")
    assert {seat.state for seat in room.board.seats.values()} == {State.HEALTHY}
    assert len(room.backend.asked) <= 400 + 16 + 0.1 * 400
    room.backend.script["a"] = [fails("internal"), ANSWER]
    room.backend.script["b"] = [ANSWER]
    assert (await room.infer(tenant="alice")).receipt.attempts == 2


async def test_one_callers_trouble_is_not_everybodys():
    """a fails mallory alone: mallory goes round it, alice does not."""
    room = Room({"a": ANSWER, "b": ANSWER}, health={"consecutive_failures": 2})
    for _ in range(2):
        await room.infer(tenant="alice")
        room.backend.script["a"] = [fails("internal")]
        await room.infer(tenant="mallory")
        room.backend.script["a"] = [ANSWER]
        room.clock.advance(0.1)
        await room.infer(tenant="alice")
    room.backend.calls.clear()
    await room.infer(tenant="mallory")
    await room.infer(tenant="alice")
    assert room.backend.asked == ["b", "a"]
    assert room.seat("a").state is State.HEALTHY


@pytest.mark.parametrize(("asked_s", "rests_s"), [(None, 1.0), (3.0, 3.0), (250.0, 5.0)])
async def test_busy_rests_the_endpoint_as_it_asked_but_for_seconds(asked_s, rests_s):
    room = Room({"a": [fails("busy"), ANSWER], "b": ANSWER})
    room.backend.script["a"][0].error.retry_after_s = asked_s
    await room.infer()
    for seconds, asked in ((rests_s - 0.1, "b"), (0.2, "a")):
        room.clock.advance(seconds)
        room.board.tick(room.clock.monotonic())
        await room.infer()
        assert room.backend.asked[-1] == asked


async def test_where_all_are_busy_none_rests_and_the_caller_is_told_busy():
    room = Room(dict.fromkeys("abc", fails("busy")))
    for _ in range(20):
        assert isinstance(await failing(room), UpstreamBusyError)
    assert not any(seat.health.busy for seat in room.board.seats.values())


@pytest.mark.parametrize(
    ("patience_s", "state"),
    [(0.5, State.HEALTHY), (60.0, State.EJECTED)],
    ids=["impatient", "patient"],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_timeout_counts_only_when_the_caller_waited_for_the_prediction(
    streams, patience_s, state
):
    """An answer takes 3 s and more by the prediction; who waits half a second proves nothing."""
    room = Room({"a": fails("timeout", end_s=patience_s)}, health=FIRST_FAULT)
    await failing(room, streams, deadline_s=patience_s)
    assert room.seat("a").state is state


async def test_one_that_hung_elsewhere_may_take_as_long_again():
    room = Room({"a": fails("lost", end_s=40.0), "b": ANSWER})
    runs_s = {}
    room.backend.on_call = lambda name: runs_s.update({name: room.seat(name).longest_run_s})
    await room.infer()
    assert runs_s["a"] < 10.0
    assert runs_s["b"] == 40.0


async def test_no_answer_in_time_is_no_sign_of_life():
    room = Room({"a": fails("timeout", end_s=5.0)}, alone())
    await failing(room, deadline_s=5.0)
    assert room.seat("a").signs == 0


async def test_unproven_failures_leave_part_of_the_fleet():
    """Answers that break off cannot be tried elsewhere: the cap holds for those."""
    room = Room(dict.fromkeys("abc", Says(b"1", error=leaf("fault"))), health=LONE_FAULT)
    for _ in range(9):
        await failing(room, streams=True)
    states = [room.seat(name).state for name in "abc"]
    assert states.count(State.EJECTED) == 1


async def test_a_fault_after_some_answers_counts_too():
    room = Room({"a": Says(b"1", error=leaf("fault"))}, health=FIRST_FAULT)
    await failing(room, streams=True)
    assert room.seat("a").state is State.EJECTED


async def test_a_caller_that_left_says_nothing():
    room = Room({"a": Says(b"1", b"2")}, alone(), health=FIRST_FAULT)
    for _ in range(30):
        routed = room.stream()
        await anext(aiter(routed))
        await routed.aclose()
    assert room.seat("a").health.settled
    assert not room.watch.ejections


# Receipts, by hand


async def receipt_of(room, streams=False, **changes):
    if streams:
        return (await room.collect(**changes))[0].receipt
    return (await room.infer(**changes)).receipt


async def test_what_the_backend_reports_is_measured():
    told = report(energy_j=500.0, marginal_energy_j=300.0, output_tokens=50.0)
    room = Room({"a": Says(b"x", end_s=2.0, trailers=told)}, alone())
    receipt = await receipt_of(room, payload_bytes=2_000_000_000)
    network_j = 2.0 * 0.001 * 3.6e6  # 2 GB at 0.001 kWh/GB; it has no PUE
    assert receipt.energy_kind is Provenance.MEASURED
    assert (receipt.energy_j, receipt.marginal_energy_j) == (500.0, 300.0)
    assert receipt.output_tokens == 50.0
    assert receipt.facility_energy_j == pytest.approx(500.0 * 1.2 + network_j)
    assert receipt.gco2e == pytest.approx((500.0 * 1.2 + network_j) / 3.6e6 * 100.0)
    assert (receipt.region, receipt.grid_zone, receipt.policy) == ("near", "grid-near", "test")
    assert receipt.attempts == 1
    assert receipt.decision_id.startswith("gw-1-")


async def test_what_the_backend_leaves_out_is_estimated_from_the_profile():
    """Alone for half a second less 10 ms of round trip: 5 ms of prompt at 665 W, the rest at 477 W,
    and 24 mJ a token."""
    room = Room({"a": Says(*[b"t"] * 50, end_s=0.5)}, alone())
    receipt = await receipt_of(room, streams=True)
    assert receipt.energy_kind is Provenance.PROFILE
    assert (receipt.output_tokens, receipt.tokens_kind) == (50.0, TokensKind.COUNTED)
    prompt_j = 665.0 * 0.005
    assert receipt.energy_j == pytest.approx((477.0 * 0.485 + 0.024 * 50.0 + prompt_j) * 1.3)
    assert receipt.prompt_energy_j == pytest.approx(prompt_j * 1.3)
    # Alone it keeps the replica awake: the power above idle for as long.
    above_j = (477.0 - 90.0) * 0.485 + (665.0 - 90.0) * 0.005
    assert receipt.marginal_energy_j == pytest.approx((0.024 * 50.0 + above_j) * 1.3)
    assert receipt.gco2e == pytest.approx(receipt.energy_j * 1.2 / 3.6e6 * 100.0)


async def test_a_unary_answer_without_a_count_is_as_long_as_its_bytes_and_its_time_say():
    """Less 10 ms of round trip and 21 ms of prefill, 100 tokens of 6.1 ms, of 4 bytes each."""
    room = Room({"a": Says(b"four" * 100, end_s=0.641)}, alone())
    receipt = await receipt_of(room)
    assert receipt.output_tokens == pytest.approx(100.0)
    assert receipt.tokens_kind is TokensKind.ESTIMATED
    assert receipt.energy_j == pytest.approx((477.0 * 0.626 + 665.0 * 0.005 + 0.024 * 100.0) * 1.3)
    assert math.isnan(receipt.ttft_ms)


async def test_a_unary_answer_whose_bytes_tell_nothing_is_as_long_as_its_time_says():
    room = Room({"a": Says(b"x", end_s=0.641)}, alone())
    receipt = await receipt_of(room)
    assert receipt.output_tokens == pytest.approx(100.0)
    assert receipt.tokens_kind is TokensKind.ASSUMED
    assert receipt.tokens_low < 60.0 < 170.0 < receipt.tokens_high


async def test_a_figure_that_the_run_cannot_bear_out_is_ignored_flagged_and_teaches_nothing():
    told = report(energy_j=1e308, marginal_energy_j=1e300, output_tokens=1e308)
    room = Room({"a": Says(b"x", end_s=0.635, trailers=told)}, alone())
    before = room.dispatcher.expect(request())
    receipt = await receipt_of(room)
    assert receipt.energy_kind is Provenance.PROFILE
    assert receipt.energy_j < 700.0
    assert len(receipt.doubts) == 3
    assert room.dispatcher.expect(request()) == before


async def test_the_prediction_on_a_receipt_is_made_as_the_receipt_is():
    """Alone there, both; and the nearer endpoint is as dirty as the grid that it is on."""
    room = Room({"a": Says(b"four" * 200, end_s=1.245)}, alone())
    receipt = await receipt_of(room)
    assert receipt.predicted.gco2e == pytest.approx(receipt.gco2e, rel=0.01)
    assert receipt.predicted.latency_first_gco2e == receipt.predicted.gco2e
    assert receipt.decision.gco2e < 0.1 * receipt.gco2e  # a price, at the load it is meant for


async def test_a_reported_total_keeps_the_estimate_of_what_was_not_reported():
    says = Says(b"x", end_s=1.0, trailers=report(energy_j=500.0, output_tokens=50.0))
    receipt = await receipt_of(Room({"a": says}, alone()))
    assert receipt.energy_j == 500.0
    # Of a second 50 tokens and the prompt take 0.33 s: at most three times that is its own work.
    held_s = 3.0 * (0.021 + 50.0 * 0.0061)
    above_j = 387.0 * (held_s - 0.005) + (665.0 - 90.0) * 0.005
    assert receipt.marginal_energy_j == pytest.approx((0.024 * 50.0 + above_j) * 1.3)


@pytest.mark.parametrize("told", [{}, {"energy_j": 500.0}])
async def test_an_emulated_endpoint_is_called_emulated_whoever_counted(told):
    room = Room({"a": Says(b"x", trailers=report(**told))}, alone(emulated=True))
    assert (await receipt_of(room)).energy_kind is Provenance.EMULATED


async def test_others_on_the_replica_share_its_energy():
    """Two before it and two after: a third of the power is its own, and all of its prompt."""
    room = Room({"a": Says(b"x", end_s=0.34, trailers=report(output_tokens=50.0))}, alone())
    for _ in range(2):
        room.seat("a").take(UNBURDENED, NOW)
    receipt = await receipt_of(room)
    own_j = 477.0 * 0.325 / 3.0 + 665.0 * 0.005 + 0.024 * 50.0
    assert receipt.energy_j == pytest.approx(own_j * 1.3)


async def test_a_prompt_is_to_be_read_from_the_moment_at_which_it_was_sent():
    """By the clock by which requests depart; the 100 tokens of the prior take 5 ms."""
    room = Room({"a": Says(b"x", end_s=0.34)}, alone())
    room.clock.ticks = departed = 1007.0
    await room.infer()
    ends_at = room.board.live("llama", "")[k.BACKLOG_ENDS_S, 0]
    assert ends_at == pytest.approx(departed + 100.0 * 0.05 / 1000.0, abs=1e-6)


async def test_a_tensor_costs_what_its_profile_says():
    image = served(task_profile(energy_j=2282.0, host_fraction=0.25), "image")
    room = Room({"a": Says(b"x", end_s=0.8)}, alone(image))
    receipt = await receipt_of(room, model="image")
    assert receipt.output_tokens == 1.0
    assert receipt.energy_j == receipt.marginal_energy_j == 2282.0 * 1.25
    assert receipt.ttft_ms == receipt.e2e_ms == pytest.approx(800.0)


async def test_without_an_intensity_there_are_joules_but_no_grams():
    says = Says(b"x", end_s=2.0, trailers=report(energy_j=500.0))
    room = Room({"a": says}, alone(), policy(weights=LATENCY_FIRST), carbon={})
    receipt = await receipt_of(room)
    assert receipt.decision.intensity is None
    assert receipt.facility_energy_j == pytest.approx(600.0)
    assert math.isnan(receipt.gco2e)
    assert math.isnan(receipt.decision.gco2e)


async def test_grams_are_counted_at_the_hours_in_which_it_ran():
    """It ends one second into the next hour, after four: 3 s at 100 and 1 s at 300 g/kWh."""
    says = Says(b"x", end_s=4.0, trailers=report(energy_j=3.6e3))
    room = Room({"a": says}, alone(), carbon=forecasts(near=(100, 300)))
    room.clock.wall = (NOW // HOUR + 1) * HOUR - 3.0
    receipt = await receipt_of(room)
    assert receipt.gco2e == pytest.approx(1.2 * 0.150)
    assert receipt.finished_at == room.clock.wall


async def test_a_marginal_intensity_stands_beside_and_changes_no_gram():
    room = Room({"a": ANSWER}, alone())
    plain = await receipt_of(room)
    moer = intensity(700.0, signal=Signal(Basis.MARGINAL, Factors.NONE))
    room.dispatcher.view = View(room.snapshot, room.board, {"grid-near": moer})
    told = await receipt_of(room)
    assert (plain.marginal, math.isnan(plain.marginal_gco2e)) == (None, True)
    assert (told.marginal, told.gco2e) == (moer, plain.gco2e)
    assert told.marginal_gco2e == pytest.approx(7.0 * told.gco2e)
    room.dispatcher.view = View(room.snapshot, room.board, {"grid-far": moer})
    assert (await receipt_of(room)).marginal is None


async def test_latencies_are_the_callers_and_count_what_was_lost_on_the_way():
    script = {
        "a": fails("fault", end_s=2.0),
        "b": Says(b"1", b"2", b"3", pauses_s=(0.5, 0.25, 0.25), end_s=0.5),
    }
    room = Room(script)
    receipt = (await room.collect())[0].receipt
    assert receipt.ttft_ms == pytest.approx(2500.0)
    assert receipt.e2e_ms == pytest.approx(3500.0)
    (_, added_s) = room.watch.receipts[0]
    assert added_s == pytest.approx(2.0)


async def test_a_retry_is_accounted_at_the_endpoint_that_answered():
    room = Room({"a": fails("fault"), "b": Says(b"x", end_s=4.0, trailers=report(energy_j=3.6e3))})
    receipt = (await room.infer()).receipt
    assert receipt.gco2e == pytest.approx(1.2 * 0.200)
    assert receipt.decision.endpoint.name == "b"


# What is learned


async def test_what_is_counted_teaches_how_many_bytes_a_token_has():
    room = Room({"a": Says(*[b"ninebytes"] * 50, end_s=0.5)}, alone())
    for _ in range(60):
        await receipt_of(room, streams=True)
    learned = room.dispatcher.lessons.token_bytes.of("llama")
    assert math.exp(learned.log_median) == pytest.approx(9.0, rel=0.1)


async def test_the_bytes_of_a_long_stream_are_those_of_its_first_messages():
    room = Room({"a": Says(*[b"four"] * 8, *[b""] * 92, end_s=0.6)}, alone())
    await receipt_of(room, streams=True)
    assert math.exp(room.dispatcher.lessons.token_bytes.of("llama").log_median) == pytest.approx(
        4.0
    )


async def test_what_is_assumed_or_estimated_teaches_nothing():
    room = Room({"a": [Says(b"x", end_s=0.635), Says(b"four" * 100, end_s=0.635)]}, alone())
    before, factors = room.dispatcher.expect(request()), room.seat("a").latency_errors
    for kind in (TokensKind.ASSUMED, TokensKind.ESTIMATED):
        assert (await receipt_of(room)).tokens_kind is kind
    assert (room.dispatcher.expect(request()), room.seat("a").latency_errors) == (before, factors)
    assert room.dispatcher.lessons.token_bytes.of("llama") == UNLEARNED


def tokens_at(tpot_s, ttft_s, count=50):
    return Says(*[b"t"] * count, pauses_s=(ttft_s, *[tpot_s] * (count - 1)), end_s=0.0, turns=0)


async def test_a_stream_teaches_first_token_and_pace_apart():
    """Twice as long as predicted to the first token, three times the pace, by the tenth request."""
    room = Room({"a": ANSWER}, alone())
    seat = room.seat("a")
    for _ in range(400):
        decision = room.director.decide(request())
        known = seat.latency_errors
        prefill_ms, queue_ms = decision.prefill_ms, decision.queue_ms
        assert queue_ms == 0.0
        told_ms = decision.ttft_ms - decision.rtt_ms
        assert told_ms == pytest.approx(known.delay_ms + known.ttft * prefill_ms)
        tpot_ms = decision.tpot_ms / known.tpot
        says = tokens_at(3.0 * tpot_ms / 1e3, (decision.rtt_ms + 2.0 * prefill_ms) / 1e3)
        room.backend.script["a"] = [says]
        await room.collect()
    delay_ms, factor = seat.wait.middle()
    assert delay_ms + factor * prefill_ms == pytest.approx(2.0 * prefill_ms, rel=0.01)
    assert seat.tpot_ratio.factor(0.0) == pytest.approx(3.0, rel=0.01)
    delay_ms, factor, queue_factor = seat.wait.errors()
    tpot_factor = seat.tpot_ratio.factor(z_of(0.95))
    assert seat.latency_errors == (factor, queue_factor, tpot_factor, delay_ms)


async def test_a_unary_answer_teaches_both_by_the_whole():
    room = Room({"a": Says(b"x", end_s=0.010 + 2.0 * (0.0211 + 50 * 0.0061),
                           trailers=report(output_tokens=50.0))}, alone())  # fmt: skip
    for _ in range(400):
        await room.infer()
    seat = room.seat("a")
    assert seat.wait.middle() == pytest.approx((0.0, 2.0), rel=0.01)
    assert seat.tpot_ratio.factor(0.0) == pytest.approx(2.0, rel=0.01)


async def test_the_round_trip_that_counts_is_the_gateways_own():
    """40 ms from the gateway: an answer 40 ms later than served is right on time."""
    far = alone()
    rtt_ms = {**far.rtt_ms, "gateway": {"near": 40.0}}
    here = dataclasses.replace(far, rtt_ms=rtt_ms, gateway_origin="gateway")
    room = Room({"a": Says(b"x", end_s=0.040 + 0.0211 + 50 * 0.0061,
                           trailers=report(output_tokens=50.0))}, here)  # fmt: skip
    for _ in range(200):
        await room.infer()
    assert room.seat("a").wait.middle() == pytest.approx((0.0, 1.0), abs=1e-6)


async def test_lengths_are_learned_by_model_and_tenant():
    room = Room({"a": Says(b"x", end_s=0.2, trailers=report(output_tokens=20.0))}, alone())
    for _ in range(400):
        await room.infer(tenant="acme", input_tokens=7.0)
    expected = room.dispatcher.expect(request()._replace(tenant="acme"))
    assert expected.output_tokens == pytest.approx(20.0, rel=0.01)
    assert expected.input_tokens == pytest.approx(7.0, rel=0.02)


@pytest.mark.parametrize("kind", LEAVES)
async def test_failures_teach_nothing_about_latency_or_lengths(kind):
    """A fast failure must not make an endpoint look quick."""
    room = Room({"a": Says(b"1", b"2", error=leaf(kind))}, alone())
    before = (room.seat("a").latency_errors, room.dispatcher.expect(request()))
    for _ in range(3):
        with pytest.raises(UpstreamError):
            await room.collect(deadline_s=0.1)
        room.clock.advance(60.0)
        room.board.tick(room.clock.monotonic())
    assert (room.seat("a").latency_errors, room.dispatcher.expect(request())) == before
    assert not room.watch.receipts


async def test_a_learned_slowness_moves_traffic():
    """a is greenest but ten times slower than its profile: a budget that b meets goes to b."""
    room = Room({"a": ANSWER, "b": ANSWER}, three())
    budget = Budget(tpot_ms=20.0)
    assert (await room.infer(budget=budget)).receipt.region == "near"
    slow = Says(b"x", end_s=10.0 * (0.015 + 50 * 0.0061), trailers=report(output_tokens=50.0))
    room.backend.script["a"] = [slow]
    for _ in range(100):
        await room.infer()
    assert (await room.infer(budget=budget)).receipt.region == "mid"


# Digestion


async def test_lessons_wait_for_their_batch_or_for_a_digest():
    says = Says(b"x", end_s=1.0, trailers=report(output_tokens=20.0))
    room = Room({"a": says}, alone())
    room.dispatcher.lessons.digest_every = 3
    before = room.seat("a").latency_errors
    receipts = [await receipt_of(room) for _ in range(2)]
    assert not room.watch.receipts
    assert room.seat("a").latency_errors == before
    receipts.append(await receipt_of(room))
    assert [receipt for receipt, _ in room.watch.receipts] == receipts
    assert room.seat("a").latency_errors != before
    await receipt_of(room)
    assert len(room.watch.receipts) == 3
    room.dispatcher.digest()
    room.dispatcher.digest()
    assert len(room.watch.receipts) == 4


def test_the_profile_of_these_figures_is_the_one_they_were_computed_for():
    profile = token_profile()
    assert (profile.base_w, profile.w_per_token_s, profile.idle_w) == (477.0, 0.024, 90.0)
    assert (profile.tpot_base_ms, profile.tpot_ms_per_sequence) == (6.0, 0.1)
    assert (profile.prefill_base_ms, profile.prefill_ms_per_token) == (10.0, 0.05)
    assert profile.prefill_w == 665.0
    assert LADDER["grid-near"].slots[0].g_per_kwh == 100


async def test_refusals_lead_back_from_lengths_that_one_server_made_up():
    """Nothing succeeds any more and only successes teach, unless a refusal is a lesson too."""
    lie = Says(b"x", end_s=400.0, trailers=report(output_tokens=40_000.0))
    room = Room({"a": [lie] * 300 + [ANSWER]}, alone())
    for _ in range(300):
        await room.infer(tenant="acme")
    room.seat("a").wait, room.seat("a").tpot_ratio = WaitTracker(z_of(0.95)), RatioTracker()
    room.seat("a").publish_latency()
    budget = Budget(e2e_ms=10_000.0)
    with pytest.raises(BudgetImpossibleError):
        await room.infer(tenant="acme", budget=budget)
    for _ in range(100):
        with contextlib.suppress(BudgetImpossibleError):
            await room.infer(tenant="acme", budget=budget)
    await room.infer(tenant="acme", budget=budget)


async def test_a_budget_that_no_length_would_meet_is_no_doubt():
    room = Room({"a": Says(b"x", end_s=9.0, trailers=report(output_tokens=900.0))}, alone())
    for _ in range(50):
        await room.infer(tenant="acme")
    expected = room.dispatcher.expect(request(tenant="acme"))
    for _ in range(50):
        with pytest.raises(BudgetImpossibleError):
            await room.infer(tenant="acme", budget=Budget(ttft_ms=0.1))
    assert room.dispatcher.expect(request(tenant="acme")) == expected


async def test_prompts_that_cannot_be_as_long_as_said_teach_no_speed():
    room = Room({"a": Says(b"1", b"2", pauses_s=(0.1,), end_s=0.1)}, alone())
    for _ in range(60):
        await room.collect(tenant="mallory", input_tokens=8182.0, payload_bytes=60)
    assert room.seat("a").wait.middle() == (0.0, 1.0)
    for _ in range(60):
        await room.collect(tenant="alice", input_tokens=20.0, payload_bytes=60)
    assert room.seat("a").wait.middle() != (0.0, 1.0)


# A moment's wait for a place


async def full(room, name, until_turn):
    """Take every place of an endpoint, and give one back after so many turns of the loop."""
    seat = room.seat(name)
    for _ in range(64):
        seat.take(UNBURDENED, NOW)
    for _ in range(until_turn):
        await asyncio.sleep(0.01)
    seat.give_back(UNBURDENED)


def test_a_request_waits_for_a_place_for_a_moment():
    async def story():
        room = Room({"a": ANSWER}, alone(), limits={"max_wait_s": 0.25})
        async with asyncio.TaskGroup() as group:
            group.create_task(full(room, "a", 5))
            await asyncio.sleep(0)
            answer = group.create_task(room.infer())
        return answer.result().receipt.attempts

    assert run(story()) == 1


def test_a_request_that_moves_waits_for_a_place_too():
    async def story():
        room = Room({"a": fails("lost"), "b": ANSWER}, limits={"max_wait_s": 0.25})
        async with asyncio.TaskGroup() as group:
            for name in "bc":
                group.create_task(full(room, name, 5 if name == "b" else 500))
            await asyncio.sleep(0)
            answer = group.create_task(room.infer())
        return answer.result().receipt.decision.endpoint.name

    assert run(story()) == "b"


def test_what_the_wait_took_is_taken_off_the_budget():
    async def story():
        room = Room({"a": ANSWER}, alone(), limits={"max_wait_s": 0.25})
        needed = room.director.decide(request()).ttft_ms
        room.clock.monotonic = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            group.create_task(full(room, "a", 5))
            await asyncio.sleep(0)
            with pytest.raises(BudgetImpossibleError):
                await room.infer(budget=Budget(ttft_ms=needed + 20.0))

    run(story())


# Prompts that servers keep

TURN = Prompt(os.urandom(4096), 0, 4096)
KEEPS = served(token_profile(prefix_cache_tokens=100_000))
# Of 1,000 tokens in 8 chunks: all whole blocks of 16, but the last token.
WARM = 992.0


def keeping(script=None, **changes):
    """The second endpoint is hardly less clean: what of a prompt is cached there decides."""
    changes = {"carbon": forecasts(near=100, mid=101, far=300), **changes}
    return Room(script or {"a": ANSWER, "b": ANSWER}, three_of(KEEPS), **changes)


def three_of(*models):
    names = {"a": "near", "b": "mid", "c": "far"}
    rtt_ms = {"home": {"near": 10.0, "mid": 20.0, "far": 30.0}}
    return fleet(*[endpoint(n, r, *models) for n, r in names.items()], rtt_ms=rtt_ms)


async def test_a_prompt_goes_where_its_beginning_was_read():
    # The first never reaches the better one.
    slow = Says(b"answer", end_s=2.0)
    room = keeping({"a": [fails("unseen"), slow], "b": slow})
    first = await room.infer(prompt=TURN, input_tokens=1000.0)
    again = await room.infer(prompt=TURN, input_tokens=1000.0)
    other = await room.infer(prompt=Prompt(os.urandom(4096), 0, 4096), input_tokens=1000.0)
    assert room.backend.asked == ["a", "b", "b", "a"]
    assert [one.receipt.cached_tokens for one in (first, again, other)] == [0.0, WARM, 0.0]
    # 50 us a token, whose time is at 665 W.
    burden, full = again.receipt.decision.burden, first.receipt.decision.burden
    assert full.prompt_ms - burden.prompt_ms == pytest.approx(0.05 * WARM)
    saved_j = first.receipt.prompt_energy_j - again.receipt.prompt_energy_j
    assert saved_j == pytest.approx(1.3 * 665.0 * 0.05e-3 * WARM)
    # Once read there, it may go either way.
    assert room.director.decide(request(input_tokens=1000.0), TURN).endpoint.name == "b"


async def test_where_no_server_keeps_prompts_none_is_looked_at():
    room = Room({"a": ANSWER})
    for _ in range(2):
        answer = await room.infer(prompt=TURN, input_tokens=1000.0)
        assert answer.receipt.request.prefix is None
        assert answer.receipt.cached_tokens == 0.0


async def test_servers_that_report_none_are_soon_expected_to_keep_none():
    says = Says(b"answer", trailers=report(cached_tokens=0.0))
    room = keeping({"a": says, "b": ANSWER})
    told = []
    for _ in range(30):
        answer = await room.infer(prompt=TURN, input_tokens=1000.0)
        told.append(answer.receipt.decision.cached_tokens)
        assert answer.receipt.cached_kind is CachedKind.REPORTED
        assert answer.receipt.cached_tokens == 0.0
    assert told[1] == WARM
    assert told[-1] < 0.06 * WARM


async def test_who_says_a_prompt_is_longer_than_it_can_be_teaches_nothing_of_caches():
    room = keeping({"a": Says(b"answer", trailers=report(cached_tokens=512.0)), "b": ANSWER})
    for _ in range(20):
        await room.infer(prompt=TURN, input_tokens=1e9)
    room.dispatcher.digest()
    index = room.board.prefixes("llama", "")
    assert index.trust(index.row_of("a")) == 1.0


@pytest.mark.parametrize("kind", ["lost", "refused"])
async def test_a_server_whose_connection_broke_begins_cold(kind):
    room = keeping({"a": [ANSWER, fails(kind)], "b": ANSWER})
    await room.infer(prompt=TURN, input_tokens=1000.0)
    index = room.board.prefixes("llama", "")
    row = index.row_of("a")
    prefix = room.dispatcher.with_prefix(
        request(input_tokens=1000.0), room.dispatcher.expect(request(input_tokens=1000.0)), TURN
    ).prefix
    assert index.expected(prefix, 1000.0)[row] == WARM
    await room.infer(prompt=TURN, input_tokens=1000.0)
    assert index.expected(prefix, 1000.0)[row] == 0.0


@pytest.mark.parametrize("kind", ["rejected", "busy", "fault"])
async def test_a_prompt_that_nobody_answered_is_cached_nowhere(kind):
    room = keeping({name: fails(kind) for name in "abc"})
    with pytest.raises(UpstreamError):
        await room.infer(prompt=TURN, input_tokens=1000.0)
    found = room.director.explain(request(input_tokens=1000.0), TURN)
    assert [one.cached_tokens for one in found.candidates] == [0.0] * 3


async def test_who_read_a_prompt_that_was_expected_to_be_cached_does_not_look_slow():
    """Nobody reports: it read all of it each time, and nobody can know."""
    room = keeping({"a": Says(b"answer", end_s=0.4), "b": ANSWER})
    await room.infer(prompt=TURN, input_tokens=1000.0)
    room.dispatcher.digest()
    before = room.seat("a").wait.errors()
    for _ in range(20):
        answer = await room.infer(prompt=TURN, input_tokens=1000.0)
        assert answer.receipt.decision.cached_tokens == WARM
    room.dispatcher.digest()
    assert room.seat("a").wait.errors() == before


async def test_explaining_says_what_is_cached_where_and_changes_nothing():
    room = keeping()
    await room.infer(prompt=TURN, input_tokens=1000.0)
    for _ in range(2):
        found = room.director.explain(request(input_tokens=1000.0), TURN)
        assert {one.endpoint: one.cached_tokens for one in found.candidates} == {
            "a": WARM, "b": 0.0, "c": 0.0,
        }  # fmt: skip
        assert found.decision.cached_tokens == WARM


# Time


async def test_prompts_queue_on_the_clock_by_which_requests_take_time():
    """A clock that replays another day may run fast, and the wall's may be set: nothing of what is
    there is read the sooner."""

    def ttft_ms():
        found = room.director.explain(request()).candidates
        return next(one.ttft_ms for one in found if one.endpoint == "a")

    room = Room({"a": Says(b"answer", turns=10**6)})
    idle_ms = ttft_ms()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(room.infer(input_tokens=20_000.0))
        while not room.in_flight:
            await asyncio.sleep(0)
        behind_ms = ttft_ms()
        assert behind_ms > idle_ms + 100.0
        room.clock.wall += 3600.0
        assert ttft_ms() == behind_ms
        room.clock.wall -= 7200.0
        assert ttft_ms() == behind_ms
        room.clock.ticks += 3600.0
        assert ttft_ms() < behind_ms - 100.0
        task.cancel()
