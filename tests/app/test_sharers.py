"""How many processes share a limit."""

import pytest

from router.app.sharers import Sharers
from router.errors import StateStoreError
from router.state.memory import MemoryStore
from tests.identity.support import WallHands


class Broken(MemoryStore):
    async def exchange(self, *_):
        raise StateStoreError("away")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    async def at_once(_):
        pass

    monkeypatch.setattr("router.app.sharers.asyncio.sleep", at_once)


def test_alone_it_is_the_workers():
    assert Sharers(3, None, "a", WallHands()).count == 3


async def test_with_a_store_it_is_who_is_there():
    store, clock = MemoryStore(), WallHands()
    first, second = (Sharers(1, store, name, clock) for name in "ab")
    await first.run()
    assert first.count == 1
    await second.run()
    await first.run()
    assert (first.count, second.count) == (2, 2)
    clock.at += 16.0
    await first.run()
    assert first.count == 1


async def test_while_the_store_is_away_it_stays_as_it_was():
    sharers = Sharers(2, Broken(), "a", WallHands())
    sharers.count = 7
    await sharers.run()
    assert sharers.count == 7
