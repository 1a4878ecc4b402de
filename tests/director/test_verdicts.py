"""Requests that wait for what the trials of others show."""

import asyncio

import pytest

from router.core.retry import RetryBudget
from router.director.verdicts import Verdicts
from router.errors import UpstreamInternalError
from tests.director.support import ANSWER, Room, Says, fails

A = ("a", ("llama", ""))


async def test_without_a_trial_there_is_nothing_to_wait_for():
    assert await Verdicts().next(A, 60.0) is None


@pytest.mark.parametrize("proven", [False, True])
async def test_all_who_wait_hear_what_a_trial_proved(proven):
    verdicts = Verdicts()
    verdicts.begin(A)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(verdicts.next(A, 60.0)) for _ in range(3)]
        await asyncio.sleep(0)
        verdicts.end(A, proven)
    assert [one.result() for one in waiting] == [proven] * 3
    assert await verdicts.next(A, 60.0) is None


async def test_a_wait_ends_with_the_callers_time():
    verdicts = Verdicts()
    verdicts.begin(A)
    assert await verdicts.next(A, 0.0) is None


async def test_trials_of_one_endpoint_tell_nothing_of_another():
    verdicts = Verdicts()
    verdicts.begin(A)
    assert await verdicts.next(("b", ("llama", "")), 60.0) is None


async def many(room, count, **changes):
    calls = [room.infer(**changes) for _ in range(count)]
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("kind", ["internal", "denied"])
async def test_none_of_those_under_way_is_lost_when_a_server_breaks_under_all(kind):
    """Far more at once than one caller has trials, or the gateway retries."""
    broken, slow = fails(kind), Says(b"answer", turns=50)
    room = Room({"a": broken, "b": slow, "c": slow}, budget=RetryBudget(0.0, 10.0))
    answers = await many(room, 50)
    assert [a for a in answers if isinstance(a, BaseException)] == []
    assert room.watch.ejections == ["a"]
    assert not room.in_flight


async def test_those_that_wait_are_told_when_the_fault_was_the_requests_own():
    bad = Says(error=UpstreamInternalError("bad tensor"), turns=20)
    room = Room(dict.fromkeys("abc", bad))
    answers = await many(room, 50)
    assert {type(one) for one in answers} == {UpstreamInternalError}
    assert len(room.backend.asked) <= 50 + 2 * 16
    assert not room.in_flight


async def test_nobody_waits_for_more_than_a_few_trials_that_prove_nothing():
    """Where all is broken others try again and again: each is told soon."""
    room = Room({"a": fails("internal")}, budget=RetryBudget(0.0, 0.0))
    verdicts = room.dispatcher.verdicts
    for _ in range(9):
        verdicts.begin(A)
    async with asyncio.timeout(5.0), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(many(room, 1))
        for _ in range(3):
            for _ in range(9):
                await asyncio.sleep(0)
            assert not waiting.done()
            verdicts.end(A, False)
    assert isinstance(waiting.result()[0], UpstreamInternalError)


async def test_a_caller_that_leaves_during_its_trial_keeps_nobody_waiting():
    room = Room({"a": fails("internal"), "b": Says(b"answer", turns=10**6), "c": ANSWER},
                budget=RetryBudget(0.0, 1.0))  # fmt: skip
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(room.infer())
        while "b" not in room.backend.asked:
            await asyncio.sleep(0)
        second = tasks.create_task(many(room, 1))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not second.done()
        first.cancel()
    assert isinstance(second.result()[0], UpstreamInternalError)
