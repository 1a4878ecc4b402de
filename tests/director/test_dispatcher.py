"""What every request needs: expected lengths, bounds of time, ids, and sequences that stay."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.director.call import Call
from router.director.dispatcher import STATE_STORE_FAILING, RequestLimits, View
from router.errors import (
    BudgetImpossibleError,
    NothingFeasibleError,
    PolicyExcludesError,
    ShedError,
    UnknownModelError,
    UpstreamBusyError,
    UpstreamFaultError,
    UpstreamLostError,
)
from router.model import UNBURDENED, Budget
from router.units import BYTES_PER_GB
from tests.director.support import ANSWER, LADDER, Room, Says, fails, report, three
from tests.factories import NOW, board, endpoint, fleet, forecasts, request, served, snapshot


def test_the_network_costs_what_the_operator_says():
    room = Room({}, limits={"kwh_per_gb": 0.002})
    assert room.dispatcher.network_j(0) == 0.0
    assert room.dispatcher.network_j(int(BYTES_PER_GB)) == pytest.approx(0.002 * 3.6e6)


@given(deadline_s=st.floats(-10.0, 1e6), margin_s=st.floats(0.0, 1.0))
def test_upstream_gets_the_deadline_less_the_margin_and_never_less_than_nothing(
    deadline_s, margin_s
):
    dispatcher = SHARED.dispatcher
    dispatcher.limits = RequestLimits(3, 900.0, margin_s, 0.0)
    left_s = dispatcher.timeout_s(deadline_s)
    assert 0.0 <= left_s <= max(0.0, deadline_s)
    assert dispatcher.timeout_s(None) == 900.0


SHARED = Room({})


def test_a_decision_says_whether_what_gateways_share_can_be_had():
    dispatcher = Room({}).dispatcher
    assert looked(dispatcher).flags == ()
    dispatcher.store_fails = lambda: True
    assert looked(dispatcher).flags == (STATE_STORE_FAILING,)


def looked(dispatcher):
    asked = request()
    return dispatcher.look(dispatcher.view, asked, dispatcher.expect(asked)).decision


def test_ids_are_unique_and_name_their_gateway():
    dispatcher = Room({}).dispatcher
    ids = [dispatcher.next_id() for _ in range(300)]
    assert len(set(ids)) == 300
    assert all(one.startswith("gw-") for one in ids)


def test_what_to_expect_is_learned_by_tenant():
    room = Room({})
    for _ in range(400):
        room.lengths.observe("llama", "acme", 100.0, 20.0)
    acme = room.dispatcher.expect(request(tenant="acme"))
    assert acme.output_tokens == pytest.approx(20.0, rel=0.01)
    assert (
        room.dispatcher.expect(request(tenant="acme", max_output_tokens=3.0)).output_tokens == 3.0
    )
    assert math.isclose(room.dispatcher.expect(request(input_tokens=7.0)).input_tokens, 7.0)


async def test_a_prompt_has_the_tokens_that_its_bytes_had_before():
    told = report(output_tokens=20.0, input_tokens=500.0)
    room = Room({"a": Says(b"an answer", trailers=told)})
    asked = request(prompt_bytes=1000, payload_bytes=1200)
    # Four bytes a token, before anything is known.
    assert room.dispatcher.expect(asked).input_tokens == pytest.approx(250.0)
    for _ in range(40):
        await room.director.infer(Call(asked, b"", (), None))
    assert room.dispatcher.expect(asked).input_tokens == pytest.approx(500.0, rel=0.05)
    # Who says nothing of its prompt has the usual one.
    assert room.dispatcher.expect(request()).input_tokens > 200.0
    assert room.dispatcher.expect(request(input_tokens=7.0)).input_tokens == 7.0


def test_a_guess_at_a_prompts_tokens_makes_it_too_long_for_no_model():
    small = fleet(endpoint("a", "near", served(context_tokens=4096)))
    room = Room({}, the_fleet=small)
    expected = room.dispatcher.expect(request(prompt_bytes=10**6))
    assert expected.input_tokens + expected.output_tokens_quantile == pytest.approx(4096.0)


@pytest.mark.parametrize("asked", [{}, {"prompt_bytes": 10**6}, {"prompt_bytes": 4}])
async def test_no_guess_at_an_answer_is_too_long_for_every_model(asked):
    """A server's own context may be shorter than what is usually answered."""
    short = fleet(endpoint("a", "near", served(context_tokens=64.0)))
    room = Room({"a": ANSWER}, the_fleet=short)
    expected = room.dispatcher.expect(request(**asked))
    assert expected.input_tokens + expected.output_tokens_quantile <= 64.0
    assert 1.0 <= expected.output_tokens <= expected.output_tokens_quantile
    await room.infer(**asked)


async def test_a_prompt_that_is_stated_to_be_too_long_is():
    short = fleet(endpoint("a", "near", served(context_tokens=64.0)))
    room = Room({"a": ANSWER}, the_fleet=short)
    await room.infer(input_tokens=63.0)
    with pytest.raises(PolicyExcludesError, match="too short a context"):
        await room.infer(input_tokens=64.0)


async def test_a_model_is_asked_only_by_the_protocol_that_its_endpoints_speak():
    room = Room({})
    http = Call(request(), b"", (), None, protocol="openai")
    with pytest.raises(UnknownModelError, match="over oip"):
        await room.director.infer(http)
    with pytest.raises(UnknownModelError, match="over oip"):
        await room.director.ask(http, "GET /v1/models")


def test_expecting_of_an_unknown_model_or_version_is_an_error():
    only_one = three()
    one = Room({}, the_fleet=fleet(endpoint("a", "near", served(version="1"))))
    with pytest.raises(UnknownModelError):
        Room({}, the_fleet=only_one).dispatcher.expect(request(model="gpt"))
    with pytest.raises(UnknownModelError):
        one.dispatcher.expect(request(version="2"))
    assert one.dispatcher.expect(request(version="1")).output_tokens == 200.0


# Sequences


UPSIDE_DOWN = forecasts(near=300, mid=200, far=100)


async def ask(room, sequence_id="s", **changes):
    answer = await room.infer(sequence_id=sequence_id, **changes)
    return answer.receipt.decision.endpoint.name


async def test_a_sequence_stays_where_it_began():
    room = Room(dict.fromkeys("abc", ANSWER))
    assert await ask(room) == "a"
    room.dispatcher.view = View(snapshot(room.fleet, carbon=UPSIDE_DOWN), room.board)
    assert await ask(room) == "a"
    assert await ask(room, "another") == "c"
    assert await ask(room, "") == "c"


async def test_sequences_of_two_models_are_two_sequences():
    models = (served(), served(name="other"))
    the_fleet = fleet(endpoint("a", "near", *models), endpoint("b", "mid", *models))
    room = Room(dict.fromkeys("ab", ANSWER), the_fleet=the_fleet)
    assert await ask(room) == "a"
    room.out("a")
    assert await ask(room, model="other") == "b"


async def test_a_sequence_is_not_retried_elsewhere():
    """No other endpoint has its state."""
    room = Room({"a": [ANSWER, fails("fault")], "b": ANSWER})
    assert await ask(room) == "a"
    with pytest.raises(UpstreamFaultError):
        await ask(room)
    assert room.backend.asked == ["a", "a"]
    assert not room.in_flight


async def test_the_first_request_of_a_sequence_may_move():
    """Nobody answered it: no endpoint has its state."""
    room = Room({"a": fails("fault"), "b": ANSWER})
    assert await ask(room) == "b"
    assert await ask(room) == "b"


async def test_a_sequence_that_nobody_answered_goes_round_an_endpoint_that_is_out():
    room = Room({"a": fails("lost"), "b": ANSWER}, limits={"max_attempts": 1})
    with pytest.raises(UpstreamLostError):
        await ask(room)
    room.out("a")
    assert await ask(room) == "b"


async def test_a_message_that_starts_a_sequence_goes_where_it_is_best():
    room = Room(dict.fromkeys("abc", ANSWER))
    assert await ask(room) == "a"
    room.dispatcher.view = View(snapshot(room.fleet, carbon=UPSIDE_DOWN), room.board)
    assert await ask(room, sequence_start=True) == "c"
    assert await ask(room) == "c"


async def test_a_sequence_that_ended_is_forgotten():
    room = Room(dict.fromkeys("abc", ANSWER))
    assert await ask(room) == "a"
    await ask(room, sequence_end=True)
    assert pinned(room) == ""


async def test_a_sequence_whose_endpoint_was_taken_out_is_told_once_and_free_then():
    room = Room(dict.fromkeys("ab", ANSWER))
    assert await ask(room) == "a"
    room.out("a")
    with pytest.raises(NothingFeasibleError):
        await ask(room)
    assert await ask(room) == "b"


async def test_a_sequence_whose_endpoint_a_reload_removed_is_free():
    room = Room(dict.fromkeys("abc", ANSWER))
    assert await ask(room) == "a"
    rest = snapshot(fleet(*room.fleet.endpoints[1:], rtt_ms=room.fleet.rtt_ms), carbon=LADDER)
    room.dispatcher.view = View(rest, board(rest))
    with pytest.raises(NothingFeasibleError):
        await ask(room)
    assert await ask(room) == "b"


async def test_a_sequence_whose_model_a_reload_moved_is_free():
    room = Room(dict.fromkeys("ab", ANSWER))
    assert await ask(room) == "a"
    other = endpoint("a", "near", served(name="other"))
    moved = snapshot(fleet(other, *room.fleet.endpoints[1:], rtt_ms=room.fleet.rtt_ms))
    room.dispatcher.view = View(moved, board(moved))
    with pytest.raises(NothingFeasibleError):
        await ask(room)
    assert await ask(room) == "b"


async def test_an_endpoint_that_asks_for_a_pause_keeps_its_sequences():
    """Its state is not lost: elsewhere the sequence would go on without it."""
    room = Room({"a": [ANSWER, fails("busy"), ANSWER], "b": ANSWER})
    assert await ask(room) == "a"
    with pytest.raises(UpstreamBusyError):
        await ask(room)
    with pytest.raises(ShedError):
        await ask(room)
    assert pinned(room) == "a"
    room.clock.advance(10.0)
    room.board.tick(room.clock.monotonic())
    assert await ask(room) == "a"


async def test_an_endpoint_on_probation_keeps_its_sequences():
    room = Room({"a": ANSWER, "b": ANSWER})
    assert await ask(room) == "a"
    room.on_probation("a")
    room.seat("a").take(UNBURDENED, NOW)
    with pytest.raises(ShedError):
        await ask(room)
    assert pinned(room) == "a"
    room.seat("a").give_back(UNBURDENED)
    assert await ask(room) == "a"


@pytest.mark.parametrize(
    ("obstacle", "error"),
    [
        (lambda room: [room.seat("a").take(UNBURDENED, NOW) for _ in range(64)], ShedError),
        (lambda room: None, BudgetImpossibleError),
    ],
    ids=["full", "too slow"],
)
async def test_a_sequence_waits_for_an_endpoint_that_cannot_now(obstacle, error):
    room = Room(dict.fromkeys("ab", ANSWER))
    assert await ask(room) == "a"
    obstacle(room)
    budget = Budget(ttft_ms=1.0) if error is BudgetImpossibleError else Budget()
    with pytest.raises(error):
        await ask(room, budget=budget)
    assert pinned(room) == "a"


def pinned(room, name="s"):
    return room.dispatcher.sequences.endpoint(request(sequence_id=name))


async def test_a_streamed_sequence_is_pinned_too():
    room = Room({"a": Says(b"1"), "b": Says(b"1")})
    await room.collect(sequence_id="s")
    assert pinned(room) == "a"


async def test_a_question_pins_nothing():
    room = Room(dict.fromkeys("ab", ANSWER))
    assert room.director.decide(request(sequence_id="s")).endpoint.name == "a"
    assert pinned(room) == ""


class Shared:
    """Places of which the first ``lost`` are lost to another worker, which has the place then."""

    def __init__(self, room, lost, told=True):
        self.room = room
        self.lost = lost
        self.told = told
        self.leaves = ""
        self.asked = []

    def refresh(self, now, at_once=False):
        if at_once and self.leaves:
            self.room.seat(self.leaves).set_peers(0)

    def claim(self, endpoint, max_in_flight):
        self.asked.append((endpoint, max_in_flight))
        if self.lost:
            self.lost -= 1
            if self.told:
                self.room.seat(endpoint).set_peers(max_in_flight)
            return False
        return True


async def test_a_place_that_another_worker_took_sends_a_new_sequence_elsewhere():
    room = Room(dict.fromkeys("ab", ANSWER))
    room.dispatcher.places = Shared(room, lost=1)
    assert await ask(room) == "b"
    assert pinned(room) == "b"


async def test_a_begun_sequence_waits_for_the_place_that_another_worker_took():
    room = Room(dict.fromkeys("ab", ANSWER))
    assert await ask(room) == "a"
    room.dispatcher.places = Shared(room, lost=1)
    with pytest.raises(ShedError):
        await ask(room)
    assert pinned(room) == "a"


async def test_nobody_is_refused_because_of_what_another_worker_has_given_back():
    room = Room(dict.fromkeys("ab", ANSWER))
    assert await ask(room) == "a"
    room.dispatcher.places = places = Shared(room, lost=0)
    room.seat("a").set_peers(10**6)
    with pytest.raises(ShedError):
        await ask(room)
    places.leaves = "a"
    assert await ask(room) == "a"


async def test_claims_that_are_always_lost_come_to_an_end():
    room = Room({"a": ANSWER})
    room.dispatcher.places = places = Shared(room, lost=10**9, told=False)
    with pytest.raises(ShedError, match="other workers"):
        await ask(room)
    assert len(places.asked) < 100
