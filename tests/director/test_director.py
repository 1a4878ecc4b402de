"""One request's story, told to scripted upstreams."""

import asyncio
import gc
import math

import pytest

from router.core import kernel_rows as k
from router.core.board import Board
from router.core.health import State
from router.core.latency import z_of
from router.core.lease import Lease
from router.core.retry import RetryBudget
from router.director import Call, View
from router.errors import (
    BudgetImpossibleError,
    DrainingError,
    InvalidMetadataError,
    NothingFeasibleError,
    ResidencyError,
    ShedError,
    UnknownModelError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from router.model import UNBURDENED, Budget, Outcome, Relax, Request
from tests.director.support import ANSWER, LADDER, LEAVES, Room, Says, fails, leaf, three
from tests.factories import (
    NOW,
    endpoint,
    fleet,
    health_settings,
    policy,
    region,
    request,
    served,
    snapshot,
    task_profile,
)

RETRIED = ["fault", "busy"]
FINAL = ["internal", "rejected", "timeout"]


def swap(room, the_fleet, carbon=None):
    """Put another fleet in force, as a reload does: seats that stay are taken over."""
    other = snapshot(the_fleet, carbon=LADDER if carbon is None else carbon)
    live = Board(other.layout, health_settings(), z_of(0.95), room.dispatcher.view.board)
    room.dispatcher.view = View(other, live)
    return live


# A good answer


async def test_the_first_answer_is_passed_on_untouched():
    says = Says(b"\x00back", trailers=(("ce-id", "1"),), initial=(("i", b"\xff"),))
    room = Room({"a": says})
    metadata = (("x-origin", "home"), ("k-bin", b"\x00"))
    answer = await room.infer(10.0, b"\xff\x00sent", metadata)
    assert answer[:3] == (b"\x00back", says.initial, says.trailers)
    assert answer.receipt is room.watch.receipts[0][0]
    (call,) = room.backend.calls
    assert (call.endpoint, call.method, call.payload) == ("a", "unary", b"\xff\x00sent")
    assert call.metadata is metadata
    assert call.timeout_s == pytest.approx(10.0 - 0.005)
    assert len(room.watch.decisions) == 1
    assert not room.in_flight


async def test_without_a_deadline_many_predicted_runs_are_waited_for_and_never_for_ever():
    room = Room({"a": ANSWER})
    decision = (await room.infer(None)).receipt.decision
    bound_s = room.backend.calls[0].timeout_s
    assert 30.0 + 9.9 * decision.e2e_ms / 1e3 < bound_s < 900.0
    await room.infer(None, max_output_tokens=1e5)
    assert room.backend.calls[1].timeout_s == 900.0


async def test_without_a_deadline_the_policys_budget_bounds_the_wait():
    room = Room({"a": ANSWER}, the_policy=policy(budget=Budget(e2e_ms=7000.0)))
    await room.infer(None)
    assert room.backend.calls[0].timeout_s == 7.0


async def test_a_budget_that_no_endpoint_could_keep_ends_nothing():
    tight = policy(budget=Budget(e2e_ms=20.0), ladder=(Relax.POLICY_LATENCY,))
    room = Room({"a": ANSWER}, the_policy=tight)
    decision = (await room.infer(None)).receipt.decision
    assert Relax.POLICY_LATENCY in decision.relaxed
    assert room.backend.calls[0].timeout_s > 30.0


async def test_who_gave_no_deadline_is_told_how_long_was_waited():
    says = fails("timeout", end_s=7.0)
    room = Room({"a": says}, the_policy=policy(budget=Budget(e2e_ms=7000.0)))
    with pytest.raises(
        UpstreamTimeoutError, match=r"a: no answer within 7000 ms, all that a call"
    ) as told:
        await room.infer(None)
    assert (told.value.endpoint, told.value.attempts) == ("a", 1)
    assert told.value.decision_id


async def test_what_is_too_large_for_one_is_asked_of_no_other():
    room = Room({"a": fails("too_large"), "b": ANSWER})
    with pytest.raises(UpstreamRejectedError):
        await room.infer()
    assert room.backend.asked == ["a"]


async def test_a_stream_is_relayed_in_order_and_has_its_receipt_at_the_end():
    room = Room({"a": Says(b"1", b"", b"3", trailers=(("t", "x"),))})
    routed = room.stream(10.0)
    seen = []
    async for message in routed:
        seen.append((message, routed.receipt, routed.trailers))
        assert room.in_flight == {"a": 1}
    assert seen == [(b"1", None, ()), (b"", None, ()), (b"3", None, ())]
    assert routed.trailers == (("t", "x"),)
    assert routed.receipt is room.watch.receipts[0][0]
    assert room.backend.calls[0].method == "stream"
    assert not room.in_flight


async def test_a_stream_may_end_without_a_message():
    room = Room({"a": Says()})
    routed, messages = await room.collect()
    assert messages == []
    assert routed.receipt is not None
    assert math.isnan(routed.receipt.ttft_ms)
    assert not room.in_flight


# Retries


@pytest.mark.parametrize("kind", RETRIED)
async def test_a_failure_before_any_answer_moves_to_the_next_endpoint(kind):
    room = Room({"a": fails(kind, end_s=2.0), "b": ANSWER})
    answer = await room.infer(10.0)
    assert room.backend.asked == ["a", "b"]
    assert (answer.receipt.attempts, answer.receipt.region) == (2, "mid")
    assert [call.timeout_s for call in room.backend.calls] == pytest.approx([9.995, 7.995])
    assert room.watch.retries == [LEAVES[kind].reason]
    assert not room.in_flight


@pytest.mark.parametrize("kind", RETRIED)
async def test_a_stream_that_fails_before_its_first_message_moves_on(kind):
    room = Room({"a": fails(kind, end_s=2.0), "b": Says(b"1", b"2")})
    routed, messages = await room.collect(10.0)
    assert messages == [b"1", b"2"]
    assert (routed.receipt.attempts, routed.receipt.region) == (2, "mid")
    assert room.backend.calls[1].timeout_s == pytest.approx(7.995)
    assert not room.in_flight


@pytest.mark.parametrize("kind", LEAVES)
async def test_a_stream_that_fails_after_a_message_is_never_retried(kind):
    room = Room({"a": Says(b"1", error=leaf(kind)), "b": ANSWER})
    routed, seen = room.stream(), []
    with pytest.raises(type(LEAVES[kind])) as caught:
        async for message in routed:
            seen.append(message)
    assert (seen, room.backend.asked) == ([b"1"], ["a"])
    assert routed.receipt is None
    assert (caught.value.endpoint, caught.value.attempts) == ("a", 1)
    assert not (room.in_flight or room.watch.receipts or room.watch.retries)


@pytest.mark.parametrize("streams", [False, True])
async def test_what_the_request_is_blamed_for_is_not_retried_where_others_are_served(streams):
    room = Room({"a": [ANSWER, fails("rejected")], "b": ANSWER})
    await room.infer(tenant="somebody else")
    with pytest.raises(UpstreamRejectedError):
        await (room.collect() if streams else room.infer())
    assert room.backend.asked == ["a", "a"]
    assert not room.in_flight


@pytest.mark.parametrize("streams", [False, True])
async def test_what_one_that_served_nobody_blames_the_request_for_is_tried_elsewhere(streams):
    """From the second request on: one refusal is no evidence."""
    room = Room({"a": fails("rejected"), "b": fails("rejected"), "c": ANSWER})
    send = room.collect if streams else room.infer
    with pytest.raises(UpstreamRejectedError):
        await send(payload=b"first")
    with pytest.raises(UpstreamRejectedError):
        await send(payload=b"second")
    await send(payload=b"third")
    assert room.backend.asked == ["a", "a", "b", "a", "b", "c"]


async def test_no_answer_in_the_callers_time_is_not_retried():
    room = Room({"a": fails("timeout", end_s=10.0), "b": ANSWER})
    with pytest.raises(UpstreamTimeoutError):
        await room.infer(10.0)
    assert room.backend.asked == ["a"]


async def test_a_servers_own_deadline_is_not_the_callers():
    room = Room({"a": fails("timeout", end_s=1.0), "b": ANSWER})
    assert (await room.infer(10.0)).receipt.attempts == 2


@pytest.mark.parametrize("kind", ["internal", "denied"])
async def test_a_failure_that_may_be_the_requests_own_is_tried_elsewhere(kind):
    """Answered there, it was the endpoint's own; failed everywhere, the request's."""
    well = Room({"a": fails(kind), "b": ANSWER, "c": ANSWER})
    assert (await well.infer()).receipt.attempts == 2
    ill = Room(dict.fromkeys("abc", fails(kind)))
    with pytest.raises(type(LEAVES[kind])):
        await ill.infer()
    assert ill.backend.asked == ["a", "b", "c"]


async def test_a_doubtful_failure_is_tried_in_another_region_first():
    """What is wrong with one of a region may be wrong with all of it."""
    endpoints = [endpoint(name, "near") for name in "abc"]
    the_fleet = fleet(*endpoints, endpoint("z", "far"), rtt_ms=three().rtt_ms)
    room = Room({**dict.fromkeys("abc", fails("denied")), "z": ANSWER}, the_fleet)
    await room.infer()
    assert room.backend.asked[1:] == ["z"]


async def test_a_blaming_endpoint_is_doubted_where_it_served_the_caller_before():
    room = Room({"a": [ANSWER, fails("rejected")], "b": ANSWER})
    await room.infer()
    assert (await room.infer()).receipt.attempts == 2


@pytest.mark.parametrize(("kind", "retries"), [("refused", 2), ("lost", 2), ("fault", 2)])
async def test_who_fails_for_reasons_of_its_own_is_followed_by_the_next(kind, retries):
    room = Room({"a": fails(kind), "b": fails(kind), "c": ANSWER})
    await room.infer()
    assert room.backend.asked == ["a", "b", "c"]
    assert len(room.watch.retries) == retries


async def test_what_never_reached_a_server_does_not_count_as_an_attempt():
    script = {**dict.fromkeys("abcd", fails("refused")), "e": ANSWER}
    endpoints = [endpoint(name, "near") for name in "abcde"]
    room = Room(script, fleet(*endpoints), limits={"max_attempts": 1})
    await room.infer()
    assert sorted(room.backend.asked) == list("abcde")


async def test_the_last_retry_leaves_the_regions_that_failed():
    endpoints = [endpoint(name, "near") for name in "abcd"]
    the_fleet = fleet(*endpoints, endpoint("z", "far"), rtt_ms=three().rtt_ms)
    room = Room({**dict.fromkeys("abcd", fails("lost")), "z": ANSWER}, the_fleet)
    await room.infer()
    assert len(room.backend.asked) == 3
    assert room.backend.asked[-1] == "z"


async def test_all_that_a_broken_connection_takes_along_is_charged_once():
    the_fleet = fleet(endpoint("a", "near", max_in_flight=64), *three().endpoints[1:],
                      rtt_ms=three().rtt_ms)  # fmt: skip
    room = Room({"a": fails("lost", turns=3), "b": ANSWER}, the_fleet, budget=RetryBudget(0.0, 1.0))
    answers = await asyncio.gather(*(room.infer() for _ in range(50)))
    assert {answer.receipt.decision.endpoint.name for answer in answers} == {"b"}
    assert len(room.watch.retries) == 50


async def test_a_stream_that_no_server_saw_is_repeated_on_a_connection_of_its_own():
    room = Room({"a": [fails("unseen"), ANSWER]}, the_fleet=fleet(endpoint("a", "near")))
    await room.infer()
    assert room.backend.asked == ["a", "a"]


async def test_a_failed_request_says_where_it_was():
    room = Room({"a": fails("fault"), "b": fails("rejected")}, limits={"max_attempts": 2})
    with pytest.raises(UpstreamRejectedError) as caught:
        await room.infer()
    error = caught.value
    assert (error.endpoint, error.region, error.attempts) == ("b", "mid", 2)
    assert error.decision_id.startswith("gw-1-")


@pytest.mark.parametrize(("attempts", "asked"), [(1, "a"), (2, "ab"), (3, "abc"), (9, "abc")])
async def test_no_more_endpoints_are_tried_than_allowed(attempts, asked):
    room = Room(dict.fromkeys("abc", fails("fault")), limits={"max_attempts": attempts})
    with pytest.raises(UpstreamFaultError) as caught:
        await room.infer()
    assert room.backend.asked == list(asked)
    assert caught.value.attempts == len(asked)
    assert not room.in_flight


async def test_what_a_client_asks_again_earns_no_retries():
    """Else its retries would be paid for with retries here, and one storm feed the next."""
    room = Room(dict.fromkeys("abc", fails("fault")), budget=RetryBudget(0.5, 1.0))
    for client_retries, asked in ((1, "ab"), (2, "a"), (1, "a"), (0, "a"), (0, "ab")):
        with pytest.raises(UpstreamFaultError):
            await room.infer(client_retries=client_retries)
        assert room.backend.asked == list(asked)
        room.backend.calls.clear()


async def test_retries_stop_when_their_budget_is_spent():
    room = Room(dict.fromkeys("abc", fails("fault")), budget=RetryBudget(0.5, 1.0))
    with pytest.raises(UpstreamFaultError):
        await room.infer()
    assert room.backend.asked == ["a", "b"]  # 1 and a half earned: one retry
    room.backend.calls.clear()
    for asked in (["a", "b"], ["a"], ["a", "b"]):
        with pytest.raises(UpstreamFaultError):
            await room.infer()
        assert room.backend.asked == asked
        room.backend.calls.clear()


async def test_the_time_spent_is_taken_off_the_callers_budget():
    """c is clean and slow: it fits a fresh budget, but not what is left of one."""
    rtt_ms = {"home": {"near": 10.0, "mid": 5000.0, "far": 30.0}}
    the_fleet = fleet(*three().endpoints, rtt_ms=rtt_ms)
    budget = Budget(e2e_ms=10_000.0, explicit=True)
    for end_s, asked in ((0.1, ["a", "b"]), (3.0, ["a", "c"])):
        room = Room({"a": fails("fault", end_s=end_s), "b": ANSWER, "c": ANSWER}, the_fleet)
        await room.infer(budget=budget)
        assert room.backend.asked == asked


@pytest.mark.parametrize(
    ("budget", "end_s"),
    [(Budget(e2e_ms=8000.0, explicit=True), 7.9), (Budget(ttft_ms=520.0), 0.5)],
)
async def test_an_answer_that_is_late_is_better_than_none_and_says_so(budget, end_s):
    room = Room({"a": fails("fault", end_s=end_s), "b": ANSWER})
    answer = await room.infer(budget=budget)
    assert room.backend.asked == ["a", "b"]
    assert answer.receipt.decision.flags == ("budget_missed",)


async def test_no_retry_once_the_deadline_has_passed():
    room = Room({"a": fails("fault", end_s=10.0), "b": ANSWER})
    with pytest.raises(UpstreamFaultError):
        await room.infer(10.0)
    assert room.backend.asked == ["a"]


async def test_the_last_failure_is_told_when_nobody_else_is_left():
    room = Room({"a": fails("fault")}, the_fleet=fleet(endpoint("a", "near")))
    with pytest.raises(UpstreamFaultError):
        await room.infer()
    assert not room.in_flight


async def test_an_endpoint_is_not_asked_twice_for_one_request():
    room = Room({"a": fails("busy"), "b": ANSWER})
    room.backend.on_call = lambda name: room.board.tick(math.inf)  # every mark expires at once
    await room.infer()
    assert room.backend.asked == ["a", "b"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_transport_that_refuses_the_call_outright_leaks_nothing(streams):
    """`stream` may raise before there is anything to iterate: a closed or unusable channel."""
    room = Room({"a": leaf("fault"), "b": ANSWER})
    if streams:
        routed, messages = await room.collect()
        assert (messages, routed.receipt.attempts) == ([b"answer"], 2)
    else:
        assert (await room.infer()).payload == b"answer"
    assert room.backend.asked == ["a", "b"]
    assert not room.in_flight


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("error", [ValueError("metadata"), RuntimeError("a defect")])
async def test_a_defect_says_nothing_about_the_endpoint_and_leaks_nothing(streams, error):
    for says in (error, Says(error=error)):
        room = Room({"a": says}, health={"consecutive_failures": 1})
        with pytest.raises(type(error)):
            await (room.collect() if streams else room.infer())
        assert room.seat("a").health.state is State.HEALTHY
        assert not room.in_flight


# The view is replaced while a request runs


async def test_a_request_ends_on_the_view_on_which_it_was_decided():
    room = Room({"a": ANSWER})
    room.backend.on_call = lambda name: swap(room, fleet(endpoint("z", "far")))
    answer = await room.infer()
    assert (answer.receipt.region, answer.receipt.grid_zone) == ("near", "grid-near")
    assert room.seat("a").in_flight == 0
    assert set(room.dispatcher.view.board.seats) == {"z"}


async def test_a_seat_that_survives_a_reload_gets_its_place_back():
    room = Room({"a": ANSWER})
    boards = []
    room.backend.on_call = lambda name: boards.append(swap(room, three()))
    await room.infer()
    assert boards[0].seats["a"] is room.seat("a")
    assert boards[0].seats["a"].in_flight == 0
    assert boards[0].live("llama", "")[0].tolist() == [0.0, 0.0, 0.0]


async def test_a_retry_takes_the_view_in_force_by_then():
    room = Room({"a": fails("fault"), "z": ANSWER})
    the_fleet = fleet(endpoint("z", "far"), endpoint("a", "near"))
    room.backend.on_call = lambda name: name == "a" and swap(room, the_fleet)
    answer = await room.infer()
    assert room.backend.asked == ["a", "z"]
    assert answer.receipt.region == "far"
    assert not any(seat.in_flight for seat in room.dispatcher.view.board.seats.values())


async def test_a_model_that_a_reload_took_away_ends_in_the_failure_that_was():
    """The caller asked for a model that was there: the endpoint failed, not the request."""
    image = served(task_profile(), "image")
    room = Room({"a": fails("fault")})
    room.backend.on_call = lambda name: swap(room, fleet(endpoint("z", "far", image)))
    with pytest.raises(UpstreamFaultError):
        await room.infer()
    assert room.seat("a").in_flight == 0


async def test_an_origin_that_a_reload_took_away_ends_in_the_failure_that_was():
    room = Room({"a": fails("fault")})
    moved = fleet(endpoint("z", "far"), rtt_ms={"moon": {"far": 1.0}}, default_origin="")
    room.backend.on_call = lambda name: swap(room, moved)
    with pytest.raises(UpstreamFaultError):
        await room.infer()


# Refusals


async def test_a_refused_request_takes_no_place():
    room = Room({})
    for error, changes in (
        (UnknownModelError, {"model": "gpt"}),
        (BudgetImpossibleError, {"budget": Budget(ttft_ms=1.0)}),
    ):
        with pytest.raises(error):
            await room.infer(**changes)
        with pytest.raises(error):
            await room.collect(**changes)
    assert not (room.backend.calls or room.in_flight or room.watch.decisions)


async def test_an_unknown_origin_without_a_default_is_the_callers_mistake():
    lost = fleet(endpoint("a"), rtt_ms={"home": {"west": 1.0}}, default_origin="")
    with pytest.raises(InvalidMetadataError):
        await Room({}, the_fleet=lost, carbon={}).infer(origin="moon")


async def test_a_full_fleet_sheds():
    room = Room({"a": ANSWER}, the_fleet=fleet(endpoint("a", "near", max_in_flight=1)))
    room.seat("a").take(UNBURDENED, NOW)
    with pytest.raises(ShedError):
        await room.infer()


async def test_draining_refuses_new_work_and_lets_old_work_finish():
    room = Room({"a": Says(b"1", b"2")})
    routed = room.stream()
    answers = aiter(routed)
    assert await anext(answers) == b"1"
    room.dispatcher.draining = True
    for refused in (room.infer(), room.collect(), ask(room)):
        with pytest.raises(DrainingError):
            await refused
    assert [message async for message in answers] == [b"2"]
    assert routed.receipt is not None
    assert not room.in_flight
    assert not room.director.model_ready("llama", "")


async def test_draining_does_not_stop_a_retry_of_what_was_admitted():
    room = Room({"a": fails("fault"), "b": ANSWER})
    room.backend.on_call = lambda name: setattr(room.dispatcher, "draining", True)
    assert (await room.infer()).payload == b"answer"


# Streams that are left early


async def test_leaving_a_stream_cancels_upstream_and_frees_the_place():
    room = Room({"a": Says(b"1", b"2")})
    routed = room.stream()
    assert await anext(aiter(routed)) == b"1"
    await routed.aclose()
    (stream,) = room.backend.streams
    assert stream.cancelled
    assert routed.receipt is None
    assert not (room.in_flight or room.watch.receipts)
    await routed.aclose()


async def test_a_stream_that_was_never_started_is_nothing():
    room = Room({})
    routed = room.stream()
    await routed.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(aiter(routed))
    assert not (room.backend.calls or room.in_flight or room.watch.decisions)


async def test_a_consumer_that_fails_frees_the_place_once_it_closes():
    room = Room({"a": Says(b"1", b"2")})
    routed = room.stream()
    with pytest.raises(ZeroDivisionError):
        try:
            async for message in routed:
                message / 0 if isinstance(message, int) else 1 / 0
        finally:
            await routed.aclose()
    assert room.backend.streams[0].cancelled
    assert not room.in_flight


async def test_a_stream_that_everybody_forgot_frees_its_place():
    room = Room({"a": Says(b"1", b"2")})
    routed = room.stream()
    assert await anext(aiter(routed)) == b"1"
    del routed
    gc.collect()
    async with asyncio.timeout(10.0):
        while room.in_flight:
            await asyncio.sleep(0)
    assert room.backend.streams[0].cancelled
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("messages", [(), (b"1",)])
async def test_a_stream_that_was_closed_leaves_no_task_behind(messages):
    room = Room({"a": Says(*messages, b"2")})
    routed = room.stream()
    answers = aiter(routed)
    for _ in range(len(messages) + 1):
        await anext(answers)
    await routed.aclose()
    assert not room.in_flight
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)  # the loop closes what the upstream stream left half-way
    assert len(asyncio.all_tasks()) == 1


async def test_a_stream_is_iterated_once():
    room = Room({"a": Says(b"1")})
    routed, _ = await room.collect()
    assert [message async for message in routed] == []
    assert room.backend.asked == ["a"]


async def test_the_outcome_of_a_lease_is_what_happened(monkeypatch):
    outcomes = []
    close = Lease.close
    monkeypatch.setattr(
        Lease, "close", lambda self, outcome: outcomes.append(outcome) or close(self, outcome)
    )
    kinds = {
        "lost": Outcome.DROPPED, "fault": Outcome.DROPPED, "internal": Outcome.DROPPED,
        "busy": Outcome.DROPPED, "timeout": Outcome.DROPPED, "rejected": Outcome.IGNORED,
    }  # fmt: skip
    for kind, outcome in kinds.items():
        with pytest.raises(type(LEAVES[kind])):
            await Room({"a": fails(kind)}, limits={"max_attempts": 1}).infer()
        assert outcomes.pop() is outcome
    await Room({"a": ANSWER}).infer()
    assert outcomes == [Outcome.SUCCEEDED]


# Questions about a model


async def ask(room, model="llama", deadline_s=None, version=""):
    call = Call(Request(model, version), b"q", (), deadline_s)
    return await room.director.ask(call, "ModelMetadata")


async def test_a_question_goes_to_a_healthy_endpoint_and_takes_no_place():
    room = Room({"c": Says(b"meta")})
    room.backend.on_call = lambda name: room.in_flight and pytest.fail("took a place")
    assert (await ask(room, deadline_s=5.0)).payload == b"meta"
    (call,) = room.backend.calls
    assert (call.method, call.payload) == ("ModelMetadata", b"q")
    assert call.timeout_s == pytest.approx(4.995)
    assert room.seat("c").turns == 0


@pytest.mark.parametrize("kind", RETRIED)
async def test_a_question_tries_the_next_endpoint_with_the_time_that_is_left(kind):
    room = Room({"c": fails(kind, end_s=1.0), "b": fails(kind, end_s=1.0), "a": Says(b"meta")})
    assert (await ask(room, deadline_s=5.0)).payload == b"meta"
    assert room.backend.asked == ["c", "b", "a"]
    assert [call.timeout_s for call in room.backend.calls] == pytest.approx([4.995, 3.995, 2.995])


async def test_a_question_that_is_blamed_is_not_asked_again():
    room = Room(dict.fromkeys("abc", fails("rejected")))
    with pytest.raises(UpstreamRejectedError):
        await ask(room)
    assert len(room.backend.asked) == 1


async def test_a_question_that_one_endpoint_cannot_answer_is_put_to_the_next():
    room = Room({"a": fails("denied"), "b": fails("internal"), "c": Says(b"meta")})
    assert (await ask(room)).payload == b"meta"


async def test_a_question_skips_endpoints_that_are_out():
    room = Room({"b": Says(b"meta")})
    for name in "ac":
        room.out(name)
    assert (await ask(room)).payload == b"meta"
    room.out("b")
    with pytest.raises(NothingFeasibleError):
        await ask(room)


async def test_a_question_about_an_unknown_model_is_an_error():
    with pytest.raises(UnknownModelError):
        await ask(Room({}), "gpt")
    with pytest.raises(UnknownModelError):
        await ask(
            Room({}, the_fleet=fleet(endpoint("a", "near", served(version="1")))), version="2"
        )


async def test_the_last_failure_of_a_question_is_told():
    room = Room(dict.fromkeys("abc", fails("fault")))
    with pytest.raises(UpstreamFaultError):
        await ask(room)
    assert len(room.backend.asked) == 3


@pytest.mark.parametrize("carries_prompt", [False, True])
async def test_a_question_that_carries_a_prompt_goes_where_that_may_be(carries_prompt):
    regions = (region("near", ["us"]), region("mid", ["eu"]), region("far", ["us"]))
    room = Room(dict.fromkeys("abc", ANSWER), fleet(*three().endpoints, regions=regions))
    asked = Call(request(residency=frozenset({"eu"})), b"", (), None)
    await room.director.ask(asked, "Count", carries_prompt=carries_prompt)
    # Else the first by region.
    assert room.backend.asked == (["b"] if carries_prompt else ["c"])
    nowhere = Call(request(residency=frozenset({"ch"})), b"", (), None)
    if carries_prompt:
        with pytest.raises(ResidencyError):
            await room.director.ask(nowhere, "Count", carries_prompt=True)


async def test_an_endpoint_with_two_versions_of_the_model_is_asked_once():
    both = endpoint("a", "near", served(version="1"), served(version="2"))
    the_fleet = fleet(both, endpoint("b", "near", served(version="2")))
    room = Room({"a": fails("fault"), "b": Says(b"meta")}, the_fleet=the_fleet)
    assert (await ask(room)).payload == b"meta"
    assert room.backend.asked == ["a", "b"]


# Looking without touching


async def test_decide_takes_no_place_and_explain_agrees():
    room = Room({})
    decision = room.director.decide(request())
    explanation = room.director.explain(request())
    assert decision.endpoint.name == "a"
    assert explanation.decision == decision
    assert [candidate.endpoint for candidate in explanation.candidates] == ["a", "b", "c"]
    assert not (room.in_flight or room.backend.calls or room.watch.decisions)


def test_a_model_is_ready_while_an_endpoint_is_in_service():
    room = Room({})
    assert room.director.model_ready("llama", "")
    for name in "abc":
        room.out(name)
    assert not room.director.model_ready("llama", "")
    with pytest.raises(UnknownModelError):
        room.director.model_ready("gpt", "")


def test_a_model_whose_endpoints_are_all_busy_or_on_probation_is_ready():
    """Were it not, every gateway would leave the rotation at once when a fleet is saturated."""
    room = Room({})
    for name in "ab":
        room.seat(name).health.mark_busy(0.0, 5.0)
        room.seat(name).publish_load()
    room.on_probation("c")
    room.seat("c").take(UNBURDENED, NOW)
    with pytest.raises(ShedError):
        room.director.decide(request())
    assert room.director.model_ready("llama", "")


async def test_one_that_lost_its_connections_alone_is_waited_for_and_not_told_to_be_gone():
    room = Room({"a": ANSWER})
    for name in "bc":
        room.out(name)
    room.on_probation("a")
    room.seat("a").take(UNBURDENED, NOW)
    with pytest.raises(ShedError):
        room.director.decide(request())
    room.out("a")
    with pytest.raises(NothingFeasibleError):
        room.director.decide(request())


def test_one_that_others_may_use_is_nothing_to_wait_for():
    """The endpoint in service lies where the request may not run."""
    regions = (region("near", ["eu"]), region("mid", ["us"]), region("far", ["eu"]))
    room = Room({}, fleet(*three().endpoints, regions=regions))
    for name in "ac":
        room.out(name)
    room.on_probation("b")
    room.seat("b").take(UNBURDENED, NOW)
    with pytest.raises(NothingFeasibleError):
        room.director.decide(request(residency=frozenset({"eu"})))
    with pytest.raises(ShedError):
        room.director.decide(request())


async def test_asking_changes_nothing():
    """Though the first choice is full, room has a price, and the questions name a sequence."""
    scarce = policy(near_tie=0.0, scarcity=0.9)
    room = Room(dict.fromkeys("abc", ANSWER), the_policy=scarce)
    for _ in range(64):
        room.seat("a").take(UNBURDENED, NOW)
    board, rng = room.board.live("llama", ""), room.dispatcher.parts.rng
    before, expected = board.copy(), room.dispatcher.expect(request())
    rng.u = 0.0
    for number in range(50):
        one = request(sequence_id=f"s{number % 2}", input_tokens=1e8, tenant=f"t{number}")
        assert room.director.decide(one).endpoint.name == "b"
        assert room.director.explain(one).decision.endpoint.name == "b"
    assert board.tobytes() == before.tobytes()
    assert not room.dispatcher.sequences.endpoint(request(sequence_id="s"))
    assert room.dispatcher.expect(request()) == expected
    await room.infer()
    assert board[k.PREMIUM].any()


@pytest.mark.parametrize("streams", [False, True])
async def test_a_failure_told_in_an_answer_is_tried_elsewhere_like_any_other(streams):
    room = Room({"a": Says(b"failed: no such voice"), "b": ANSWER})
    for _ in range(5):
        await (room.collect() if streams else room.infer())
    assert room.watch.ejections == ["a"]
    assert not room.in_flight


async def test_a_failure_told_after_some_answers_ends_the_request():
    room = Room({"a": Says(b"1", b"failed: voice lost", b"3"), "b": ANSWER})
    messages = []
    with pytest.raises(UpstreamInternalError, match="voice lost"):
        async for message in room.stream():
            messages.append(message)
    assert (messages, room.backend.asked) == ([b"1"], ["a"])
    assert not room.in_flight


async def test_a_question_about_a_model_waits_for_no_server_longer_than_a_moment():
    frozen = Says(error=leaf("timeout"), end_s=5.0)
    room = Room(dict.fromkeys("abc", frozen))
    with pytest.raises(UpstreamTimeoutError):
        await ask(room)
    assert [call.timeout_s for call in room.backend.calls] == [5.0, 5.0, 5.0]
