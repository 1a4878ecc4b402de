"""Work that is asked for again and again."""

import asyncio

import pytest

from router.app import turns
from router.app.turns import Turns


@pytest.fixture
def rests(monkeypatch):
    """How long each waited, s."""
    found = []

    async def sleep(seconds):
        found.append(seconds)

    monkeypatch.setattr(turns.asyncio, "sleep", sleep)
    return found


async def test_the_next_waits_for_longer_than_the_one_before_took(rests):
    one = Turns()
    async with one.turn() as turn:
        turn.took(60.0)
    async with one.turn() as turn:
        assert await turn.aside(lambda: "done") == "done"
    async with one.turn():
        pass
    assert rests[0] == 0.0
    assert rests[1] == pytest.approx(240.0, rel=0.05)
    assert rests[2] < 60.0


async def test_one_at_a_time(rests):
    one, order = Turns(), []

    async def work(name):
        async with one.turn():
            order.append(f"{name} begins")
            await turn_over()
            order.append(f"{name} ends")

    async with asyncio.TaskGroup() as group:
        group.create_task(work("a"))
        group.create_task(work("b"))
    assert order == ["a begins", "a ends", "b begins", "b ends"]


async def turn_over():
    """Whoever else can go on does."""
    await asyncio.to_thread(lambda: None)
