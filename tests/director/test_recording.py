import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.answered import answer_of, differences
from router.core.budget_rulings import Ruling
from router.core.lease import Lease
from router.core.seen import Answered, DecisionKind, decide_again, explain_again
from router.director.recording import OF_THE_RECORD, Certain, Recorder
from router.errors import DrainingError, RefusedError, ShedError, UpstreamError
from router.model import UNBURDENED
from tests.core.drifting import Drift
from tests.core.test_variants import EXPECTED, three
from tests.director.support import ANSWER, Room, Says, fails
from tests.examples import examples
from tests.factories import NOW, request
from tests.ledger.kept import kept_decisions


def test_chance_keeps_its_share_of_free_decisions_and_all_others():
    count, kept = 6000, []
    for seed in range(3):
        kept += kept_decisions(seed, count // 3, share=0.05, every=4)
    by_chance = [one for one in kept if one.sight.probability < 1.0]
    assert {one.sight.probability for one in by_chance} == {0.05}
    assert all(one.sight.answered.decision is not None for one in by_chance)
    assert {one.kind for one in by_chance} == {DecisionKind.FIRST}
    certain = [one for one in kept if one.sight.probability == 1.0]
    assert all(
        one.sight.answered.decision is None or one.kind is DecisionKind.MOVED for one in certain
    )
    # What is kept stands for all there were: each counts for 1 / probability.
    stands_for = sum(1.0 / one.sight.probability for one in kept)
    assert stands_for == pytest.approx(count, rel=0.12)
    assert 100 < len(by_chance) < 350


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_or_all(share):
    kept = list(kept_decisions(2, 300, share=share))
    free = [one for one in kept if one.sight.answered.decision and one.kind is DecisionKind.FIRST]
    assert bool(free) == (share == 1.0)
    if share:
        assert len(kept) == 300


def test_what_is_kept_can_be_taken_again():
    for budgets in (False, True):
        for one in kept_decisions(7, 400, budgets):
            again = decide_again(one.sight.seen, one.sight.snapshot)
            assert differences(answer_of(one.sight.answered), answer_of(again)) == ()


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_of_an_alias_with_what_its_other_variants_would_have_cost(data):
    a_snapshot, a_board = three(west=150.0, east=data.draw(st.floats(50.0, 400.0)))
    for name in sorted(a_board.seats):
        for _ in range(data.draw(st.integers(0, 2))):
            a_board.seats[name].take(UNBURDENED, 0.0)
    floors = st.sampled_from([0.0, 0.4, 0.5, 0.8])
    asked = request(model="chat", quality_floor=data.draw(floors), agreed_floor=data.draw(floors))
    tried = tuple(data.draw(st.sets(st.sampled_from(sorted(a_board.seats)), max_size=1)))
    spent = Ruling((), 0, None, True, ("over",), data.draw(st.booleans()))
    judge = data.draw(st.sampled_from([None, lambda _: spent]))
    kept = []
    recorder = Recorder(kept.append, data.draw(st.sampled_from([0.0, 1.0])), random.Random(2))
    try:
        found = recorder.decide(
            asked, a_snapshot, a_board, EXPECTED, NOW, random.Random(1), 0.0, tried, "", judge, NOW
        )
    except RefusedError as error:
        recorder.refused(error)
    else:
        recorder.departed(found.sight, "id")
        recorder.ended(found.sight, "id", True, NOW)
        recorder.stood(found.sight, "id", 2)
    for one in kept:
        again = decide_again(one.sight.seen, a_snapshot)
        assert differences(answer_of(one.sight.answered), answer_of(again)) == ()
        if again.decision is not None:
            assert again.decision.variant == found.decision.variant
        explained = explain_again(one.sight.seen, a_snapshot)
        was = Answered(explained.decision, explained.refusal_reason)
        assert differences(answer_of(one.sight.answered), answer_of(was)) == ()
    assert kept


def test_the_recorder_has_no_bearing_on_what_is_decided():
    found = []
    for share in (0.0, 0.3, 1.0):
        drift, answers = Drift(3), []
        recorder = Recorder(lambda _: None, share, random.Random(1))
        for _ in range(300):
            arguments = drift.arguments()
            decision = None
            try:
                decision = recorder.decide(
                    snapshot=drift.snapshot, board=drift.board, rng=drift.rng, **arguments
                ).decision
            except RefusedError as error:
                answers.append(error.reason)
            else:
                answers.append(decision.endpoint.name)
            drift.happen(decision, arguments)
        found.append(answers)
    assert found[0] == found[1] == found[2]


def test_a_refusal_is_kept_once_and_one_without_a_decision_never():
    kept = []
    recorder = Recorder(kept.append, 0.5, random.Random(1))
    recorder.refused(ShedError("no place"))
    assert kept == []
    error = None
    drift = Drift(1)
    while error is None:
        try:
            recorder.decide(
                snapshot=drift.snapshot, board=drift.board, rng=drift.rng, **drift.arguments()
            )
        except RefusedError as refusal:
            error = refusal
    recorder.refused(error, "d-1")
    recorder.refused(error, "d-1")
    assert [one.decision_id for one in kept] == ["d-1"]
    assert kept[0].sight.answered.refusal == error.reason


def test_another_share_holds_from_the_next_on():
    recorder = Recorder(lambda _: None, 0.0, random.Random(1))
    recorder.adopt(1.0)
    assert (recorder.share, recorder._left) == (1.0, 1)


def test_a_fleet_that_refuses_everybody_does_not_fill_the_record():
    """Beyond so many a second, refusals are kept by chance as all else is."""
    drift, kept = Drift(1), []
    for seat in drift.board.seats.values():
        seat.health.refuse(drift.now)
        seat.publish_load()
    recorder = Recorder(kept.append, 0.1, random.Random(1), Certain(50.0, 20.0))
    for number in range(2000):
        arguments = {**drift.arguments(), "tried": (), "monotonic": 5.0 + number / 1000.0}
        try:
            recorder.decide(snapshot=drift.snapshot, board=drift.board, rng=drift.rng, **arguments)
        except RefusedError as error:
            recorder.refused(error)
    certain = [one for one in kept if one.sight.probability == 1.0]
    # 20 at once and 50 a second, for two seconds.
    assert 100 <= len(certain) <= 125
    assert sum(1.0 / one.sight.probability for one in kept) == pytest.approx(2000.0, rel=0.2)


def test_one_beside_another_takes_its_own_share_and_leaves_the_others_alone():
    """Both keep what they would keep alone, and the same is decided."""
    found = []
    for beside in (False, True):
        drift, ledger, onlooker = Drift(4), [], []
        recorder = Recorder(ledger.append, 0.3, random.Random(1))
        if beside:
            few = Certain(0.0, 3.0)
            recorder = Recorder(onlooker.append, 0.5, random.Random(2), few, recorder)
        for number in range(300):
            arguments, decision = drift.arguments(), None
            try:
                decided = recorder.decide(
                    snapshot=drift.snapshot, board=drift.board, rng=drift.rng, **arguments
                )
            except RefusedError as error:
                recorder.refused(error, f"d-{number}")
            else:
                decision = decided.decision
                recorder.stood(decided.sight, f"d-{number}")
            drift.happen(decision, arguments)
        found.append([(one.decision_id, one.sight.probability) for one in ledger])
    assert found[0] == found[1]
    assert len(onlooker) > 100
    assert sum(one.sight.probability == 1.0 for one in onlooker) <= 3
    assert all(same(one) == () for one in onlooker)


def watched(script, share=1.0, certain=OF_THE_RECORD, **options):
    room, kept = Room(script, **options), []
    room.dispatcher.recorder = Recorder(kept.append, share, random.Random(1), certain)
    return room, kept


def same(one):
    return differences(
        answer_of(one.sight.answered),
        answer_of(decide_again(one.sight.seen, one.sight.snapshot)),
    )


async def test_a_decision_bears_the_id_of_its_receipt():
    room, kept = watched(dict.fromkeys("abc", ANSWER))
    answer = await room.infer()
    (one,) = kept
    assert (one.decision_id, one.attempt) == (answer.receipt.decision_id, 1)
    # What is told of it is no part of what was decided.
    assert one.sight.answered.decision == answer.receipt.decision._replace(told=None)
    assert same(one) == ()


async def test_what_follows_a_failure_is_kept_whatever_chance_says():
    room, kept = watched({"a": fails("fault"), "b": ANSWER, "c": ANSWER}, share=0.0)
    answer = await room.infer()
    first, one = kept
    # That which failed, too: nobody knew when it was taken.
    assert (first.decision_id, first.attempt) == (answer.receipt.decision_id, 1)
    assert (first.kind, first.sight.probability) == (DecisionKind.FIRST, 1.0)
    assert first.sight.answered.decision.endpoint.name == "a"
    assert same(first) == ()
    assert (one.decision_id, one.attempt) == (answer.receipt.decision_id, 2)
    assert (one.kind, one.sight.probability) == (DecisionKind.MOVED, 1.0)
    assert one.sight.seen.tried == ("a",)
    assert one.sight.answered.decision.endpoint.name == answer.receipt.decision.endpoint.name
    assert same(one) == ()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_of_many_requests_those_that_failed_are_certain_and_nothing_stays_watched(share):
    """A failed decision that chance keeps stands for itself alone."""
    script = dict.fromkeys("abc", fails("fault"))
    room, kept = watched(script, share, limits={"max_attempts": 1})
    for _ in range(20):
        with pytest.raises(UpstreamError):
            await room.infer()
    assert [one.sight.probability for one in kept] == [1.0] * 20
    assert room.dispatcher.recorder._watched_bytes == 0


async def test_without_room_to_watch_chance_alone_keeps_what_fails():
    script = dict.fromkeys("abc", fails("fault"))
    unwatched = OF_THE_RECORD._replace(watched_bytes=0)
    room, kept = watched(script, 0.5, unwatched, limits={"max_attempts": 1})
    for _ in range(40):
        with pytest.raises(UpstreamError):
            await room.infer()
    first = [one for one in kept if one.attempt == 1 and not one.sight.seen.tried]
    assert 8 <= len(first) <= 32
    assert {one.sight.probability for one in first} == {0.5}


async def test_what_the_caller_leaves_is_kept_by_chance_alone():
    room, kept = watched({"a": Says(end_s=math.inf)}, 0.0)
    left = asyncio.ensure_future(room.infer())
    await asyncio.sleep(0)
    assert room.dispatcher.recorder._watched_bytes > 0
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert (kept, room.dispatcher.recorder._watched_bytes) == ([], 0)


async def test_a_refusal_is_kept_once_however_often_it_was_decided():
    """A request that waits for a place is decided anew all the time."""
    room, kept = watched(dict.fromkeys("abc", ANSWER), 0.0, limits={"max_wait_s": 0.03})
    for name in "abc":
        while room.seat(name).in_flight < 64:
            Lease(room.seat(name), UNBURDENED)
    with pytest.raises(ShedError):
        await room.infer()
    (one,) = kept
    assert (one.decision_id, one.sight.answered.refusal) == ("", "shed")
    assert same(one) == ()


async def test_who_is_refused_before_anything_was_decided_is_not_in_it():
    room, kept = watched(dict.fromkeys("abc", ANSWER))
    room.dispatcher.draining = True
    with pytest.raises(DrainingError):
        await room.infer()
    assert kept == []
