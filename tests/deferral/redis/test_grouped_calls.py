"""Calls that come at the same time go together."""

import asyncio

import pytest

from router.deferral.redis.grouped_calls import MOST_TOGETHER, GroupedCalls
from router.errors import StateStoreError


class Server:
    """Answers to each what it was asked, once it may."""

    def __init__(self):
        self.calls = []
        self.free = asyncio.Event()
        self.fails = False
        self.grouping = GroupedCalls(self.send)

    async def send(self, each):
        self.calls.append([one[0] for one in each])
        await self.free.wait()
        if self.fails:
            raise StateStoreError("gone")
        return [StateStoreError("bad") if one[0] == "bad" else one[0] for one in each]


async def begun(group, server, *names):
    tasks = [group.create_task(server.grouping.ask([name])) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_the_first_goes_at_once_and_those_that_come_meanwhile_together():
    server = Server()
    async with asyncio.TaskGroup() as group:
        names = [str(number) for number in range(MOST_TOGETHER + 2)]
        tasks = await begun(group, server, *names)
        assert server.calls == [["0"]]
        server.free.set()
    assert [task.result() for task in tasks] == names
    assert [len(call) for call in server.calls] == [1, MOST_TOGETHER, 1]


async def test_each_gets_its_own_answer_or_what_went_wrong_with_it():
    server = Server()
    async with asyncio.TaskGroup() as group:
        names = ("0", "1", "bad", "2")
        tasks = [group.create_task(asyncio.wait_for(_told(server, name), 5.0)) for name in names]
        await asyncio.sleep(0)
        server.free.set()
    assert [task.result() for task in tasks] == ["0", "1", "state store", "2"]
    server.fails = True
    for _ in range(2):
        with pytest.raises(StateStoreError, match="gone"):
            await server.grouping.ask(["3"])


async def _told(server, name):
    try:
        return await server.grouping.ask([name])
    except StateStoreError:
        return "state store"


async def test_whoever_is_cancelled_takes_nobody_along():
    server = Server()
    async with asyncio.TaskGroup() as group:
        first, second, third = await begun(group, server, "0", "1", "2")
        # One that waits, and then the one that makes the call for others.
        third.cancel()
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (fourth,) = await begun(group, server, "3")
        second.cancel()
        await asyncio.sleep(0)
        server.free.set()
    assert fourth.result() == "3"
    assert first.cancelled() and second.cancelled() and third.cancelled()
    assert server.grouping._waiting == []


async def test_who_leaves_while_another_asks_for_it_spoils_no_answer():
    server = Server()
    async with asyncio.TaskGroup() as group:
        first, leader, follower, last = await begun(group, server, "0", "1", "2", "3")
        server.free.set()
        # The next call waits until it may, too.
        server.free = asyncio.Event()
        while len(server.calls) < 2:
            await asyncio.sleep(0)
        follower.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert follower.done()
        server.free.set()
    assert follower.cancelled()
    assert (first.result(), leader.result(), last.result()) == ("0", "1", "3")
    assert server.calls == [["0"], ["1", "2", "3"]]
    assert server.grouping._waiting == []
