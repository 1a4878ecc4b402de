"""Rounds through a store and through memory, and what is left of limits without either."""

import itertools
from dataclasses import replace

import pytest

from router.app.limit_sharing import LIMIT_ROOM, LimitSharing
from router.errors import StateStoreError
from router.identity.principal import PrincipalLimits
from router.peers.limit_room import WorkerLimitRoom, limit_room_nbytes
from router.state.memory import MemoryStore
from tests.identity.support import CHAT, WallHands, access

LIMITED = replace(CHAT, limits=PrincipalLimits(requests_per_s=160.0, max_concurrent=8))


class Half:
    def random(self):
        return 0.5


class Flaky:
    """A store that may lose a call, or carry it out without an answer."""

    def __init__(self):
        self.store, self.broken, self.late = MemoryStore(), False, False

    async def exchange(self, *given):
        if self.broken:
            raise StateStoreError("gone")
        answer = await self.store.exchange(*given)
        if self.late:
            raise StateStoreError("no answer")
        return answer

    async def leave(self, *given):
        if self.broken:
            raise StateStoreError("gone")
        await self.store.leave(*given)


class Process:
    """One of several that share limits."""

    def __init__(self, clock, name, sharers, store=None, room=None):
        self.access = access(clock=clock, sharers=sharers)
        self.sharing = LimitSharing(self.access, clock, Half(), name, sharers, store, room)
        self.sharing.join()

    def part(self):
        """As one more request finds it."""
        limiter = self.access.limiter
        limiter.begin(LIMITED).end()
        return limiter._kept[LIMITED.name].part


@pytest.fixture
def clock():
    return WallHands()


async def rounds(clock, processes, count, asked=()):
    for _ in range(count):
        for process in processes:
            clock.at += 0.25
            for one in asked:
                one.part()
            await process.sharing.round()


async def test_gateways_share_through_a_store(clock):
    store = Flaky()
    one, two = (Process(clock, name, lambda: 2, store) for name in ("one", "two"))
    assert one.sharing.work().keys() == {"limits"}
    assert one.part() == (0.5, 0.5, 4)
    await rounds(clock, (one, two), 4, asked=(one,))
    assert one.part() == pytest.approx((15 / 16, 15 / 16, 7))
    rows = await store.exchange(LIMIT_ROOM, "test", b"", 1.0, clock.at)
    assert set(rows) == {"one.0", "two.0", "test"}
    # Gone, each has its even part before its row has ended; back, all is as before.
    store.broken = True
    await rounds(clock, (one, two), 4, asked=(one,))
    assert one.part() == (0.5, 0.5, 4)
    store.broken = False
    await rounds(clock, (one, two), 5, asked=(one,))
    assert one.part().requests == pytest.approx(15 / 16)
    await one.sharing.leave()
    await two.sharing.leave()
    rows = await store.exchange(LIMIT_ROOM, "test", b"", 1.0, clock.at)
    assert set(rows) == {"test"}


async def test_after_a_call_without_an_answer_the_row_has_another_name(clock):
    store = Flaky()
    one = Process(clock, "one", lambda: 1, store)
    store.late = True
    await one.sharing.round()
    store.late = False
    await one.sharing.round()
    rows = await store.exchange(LIMIT_ROOM, "test", b"", 1.0, clock.at)
    assert set(rows) == {"one.0", "one.1", "test"}
    store.broken = True
    await one.sharing.leave()


async def test_a_process_that_publishes_nothing_is_left_its_even_part(clock):
    one = Process(clock, "one", lambda: 2, MemoryStore())
    await rounds(clock, (one,), 8, asked=(one,))
    assert one.part() == pytest.approx((0.5, 0.5, 4))


async def test_strange_rows_are_nobodys(clock):
    store = MemoryStore()
    one = Process(clock, "one", lambda: 1, store)
    await store.exchange(LIMIT_ROOM, "stranger", b"cl" + b"\xff" * 60, 1e3, clock.at)
    await rounds(clock, (one,), 4, asked=(one,))
    assert one.part() == pytest.approx((1.0, 1.0, 8))


async def test_an_answer_that_came_too_late_is_worth_nothing(clock):
    class Slow(MemoryStore):
        async def exchange(self, *given):
            clock.at += 10.0
            return await super().exchange(*given)

    one = Process(clock, "one", lambda: 2, Slow())
    await one.sharing.round()
    assert one.part() == (0.5, 0.5, 4)


async def test_workers_share_through_memory_without_a_store(clock):
    memory = memoryview(bytearray(limit_room_nbytes(2)))
    one, two = (
        Process(clock, str(row), lambda: 2, None, WorkerLimitRoom(memory, row, lambda _: True))
        for row in (1, 2)
    )
    await rounds(clock, (one, two), 4, asked=(one,))
    assert one.part() == pytest.approx((15 / 16, 15 / 16, 7))
    await rounds(clock, (one, two), 12, asked=(one, two))
    assert one.part().requests + two.part().requests <= 1.0 + 1e-6
    assert two.part().requests > 0.4
    # What stands in memory does not end.
    clock.at += 5.0
    assert one.part().requests + two.part().requests <= 1.0 + 1e-6
    await one.sharing.leave()


async def test_a_process_alone_shares_nothing(clock):
    one = Process(clock, "one", lambda: 1)
    assert one.sharing.work() == {}
    assert one.access.limiter.claims is None
    await one.sharing.round()


async def test_a_job_tells_only_where_callers_are_asked_who_they_are(clock, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("router.app.limit_sharing.asyncio.sleep", sleep)
    store = MemoryStore()
    one = Process(clock, "one", lambda: 1, store)
    kept, one.access.credentials = one.access.credentials, None
    await one.sharing.run()
    assert set(await store.exchange(LIMIT_ROOM, "test", b"", 1.0, clock.at)) == {"test"}
    one.access.credentials = kept
    await one.sharing.run()
    rows = await store.exchange(LIMIT_ROOM, "test", b"", 1.0, clock.at)
    assert set(rows) == {"one.0", "test"}
    assert slept == pytest.approx([0.5, 0.5])


async def test_rounds_are_rarer_where_much_is_told_and_no_claim_lapses_on_the_way(
    clock, monkeypatch
):
    async def sleep(seconds):
        clock.at += seconds

    monkeypatch.setattr("router.app.limit_sharing.asyncio.sleep", sleep)
    ttls = []

    class Watched(MemoryStore):
        async def exchange(self, room, member, row, ttl_s, now):
            ttls.append(ttl_s)
            # As of many processes: each is looked at, and none of them is one of ours.
            junk = {str(i): bytes(2**20) for i in range(4)}
            return {**await super().exchange(room, member, row, ttl_s, now), **junk}

    one = Process(clock, "one", lambda: 1, Watched())
    began = []
    for _ in range(12):
        began.append(clock.at)
        await one.sharing.run()
        assert one.access.limiter.claims.epoch(clock.at) > 0
    gaps = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert gaps[0] < 1.0
    assert gaps[-1] == pytest.approx(4.0, rel=0.01)
    assert ttls[-1] == pytest.approx(16.0, rel=0.01)
