"""Receipts of all gateways: sent in the background, asked for in time."""

import asyncio
from collections import Counter

import pytest

from router.core.decision_ids import decision_id
from router.errors import ReceiptsUnreachableError, StateStoreError
from router.gateway.shared_receipts import (
    FLUSH_S,
    KEEP_S,
    MOST_KEPT,
    MOST_WAITING,
    SharedReceipts,
)
from router.state.memory import MemoryStore
from tests.director import virtual_time
from tests.factories import NOW


class Still:
    def now(self):
        return NOW

    def monotonic(self):
        return 0.0


class Store(MemoryStore):
    """``fails``, ``hangs``: as it is told to. ``writes``: how many were made."""

    fails = hangs = False
    writes = 0

    async def put_all(self, values, ttl_s, now):
        await self._trouble()
        self.writes += 1
        self.ttl_s = ttl_s
        await super().put_all(values, ttl_s, now)

    async def get(self, key, now):
        await self._trouble()
        return await super().get(key, now)

    async def _trouble(self):
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise StateStoreError("state store: refused")


def name(count, identity="aa"):
    return decision_id(identity, count, 0.5, 498_895)


class Gateways:
    """Two of them over one store."""

    def __init__(self):
        self.store = Store()
        self.sent = Counter()
        self.one = SharedReceipts(
            self.store, Still(), lambda outcome, n: self.sent.update({outcome: n})
        )
        self.other = SharedReceipts(self.store, Still())


def run(scenario):
    return virtual_time.run(scenario(Gateways()))


def test_what_one_offered_the_other_finds():
    async def scenario(all_of_them):
        one, other, store = all_of_them.one, all_of_them.other, all_of_them.store
        for count in range(1000):
            one.offer(name(count), b"row %d" % count)
        await one.run()
        assert store.writes == 4
        assert store.ttl_s == KEEP_S
        for count in range(1000):
            assert await other.find(name(count)) == b"row %d" % count
        assert await other.find(name(5, "bb")) is None
        assert all_of_them.sent == {"stored": 1000}

    run(scenario)


def test_one_that_is_on_its_way_is_waited_for():
    async def scenario(all_of_them):
        all_of_them.one.offer(name(1), b"row")
        async with asyncio.TaskGroup() as group:
            group.create_task(all_of_them.one.run())
            assert await all_of_them.other.find(name(1)) == b"row"

    run(scenario)


def test_of_each_process_the_last_are_there():
    async def scenario(all_of_them):
        one, other = all_of_them.one, all_of_them.other
        for count in (0, 1, MOST_KEPT, 2 * MOST_KEPT + 1):
            one.offer(name(count), b"row %d" % count)
        await one.run()
        keys = await all_of_them.store.scan("receipts/", NOW)
        assert len(keys) == 2
        # Whoever reads it looks at whose it is.
        assert await other.find(name(0)) == b"row %d" % MOST_KEPT

    run(scenario)


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
def test_where_it_cannot_be_asked_for_that_is_said_in_time(trouble):
    async def scenario(all_of_them):
        setattr(all_of_them.store, trouble, True)
        began = asyncio.get_running_loop().time()
        with pytest.raises(ReceiptsUnreachableError, match="may exist there"):
            await all_of_them.other.find(name(1))
        assert asyncio.get_running_loop().time() - began <= 1.0

    run(scenario)


def test_strangers_who_ask_for_many_wait_in_line_and_not_for_ever():
    async def scenario(all_of_them):
        all_of_them.store.hangs = True
        asked = [all_of_them.other.find(name(count)) for count in range(500)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(one) for one in found} == {ReceiptsUnreachableError}
        assert asyncio.get_running_loop().time() <= 1.1

    run(scenario)


@pytest.mark.parametrize("word", ["", "gw-1", "../etc", "a b", "x" * 10_000, "é-1-1"])
def test_what_is_no_decision_id_asks_nobody(word):
    async def scenario(all_of_them):
        all_of_them.store.fails = True
        assert await all_of_them.other.find(word) is None

    run(scenario)


def test_while_the_store_is_lost_the_last_wait_and_the_rest_is_counted():
    async def scenario(all_of_them):
        one, store = all_of_them.one, all_of_them.store
        store.fails = True
        for count in range(MOST_WAITING):
            one.offer(name(count), b"row %d" % count)
        await one.run()
        assert all_of_them.sent == {}
        for count in range(MOST_WAITING, MOST_WAITING + 100):
            one.offer(name(count), b"row %d" % count)
        await one.run()
        assert all_of_them.sent == {"lost": 100}
        store.fails = False
        await one.run()
        assert all_of_them.sent == {"lost": 100, "stored": MOST_WAITING}
        assert await all_of_them.other.find(name(99)) is None
        assert await all_of_them.other.find(name(100)) == b"row 100"
        assert await all_of_them.other.find(name(MOST_WAITING + 99)) is not None

    run(scenario)


def test_a_process_that_ends_sends_what_still_waits():
    async def scenario(all_of_them):
        one, store = all_of_them.one, all_of_them.store
        one.offer(name(1), b"first")
        store.hangs = True
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(one.run())
            await asyncio.sleep(2 * FLUSH_S)
            sending.cancel()
        one.offer(name(2), b"second")
        store.hangs = False
        await one.close()
        assert [await all_of_them.other.find(name(n)) for n in (1, 2)] == [b"first", b"second"]
        one.offer(name(3), b"third")
        store.hangs = True
        began = asyncio.get_running_loop().time()
        await one.close()
        assert asyncio.get_running_loop().time() - began <= 2.0
        assert all_of_them.sent == {"stored": 2, "lost": 1}

    run(scenario)
