"""What gateways that serve learn from each other, through a store."""

import asyncio
import math

import pytest

from router.app.learned_sharing import (
    LEAST_PERIOD_S,
    READ_BYTES_PER_S,
    LearnedSharing,
    reading_period_s,
)
from router.core.evidence import Evidence
from router.director.learned import learned_by
from router.state.memory import MemoryStore
from tests.app.support import Place, configured

MODEL = "llama-3.1-8b"


class Running:
    """A gateway that has started, and its rounds."""

    def __init__(self, place, store, name):
        self.place = place
        self.evidence = Evidence()
        self.sharing = LearnedSharing(store, name, place.runtime, self.evidence)

    def teach(self, tenant, tokens, count=60):
        for _ in range(count):
            self.place.dispatcher.parts.lengths.observe(MODEL, tenant, 100.0, tokens)

    async def round(self):
        await self.sharing.tell(learned_by(self.place.dispatcher), 60.0)
        await self.sharing.take_up()

    def expects(self, tenant):
        lengths = self.place.dispatcher.parts.lengths
        return lengths.expect(MODEL, tenant, math.nan, math.inf).output_tokens

    def lessons(self, tenant):
        told = {one.tenant: one.lessons for one in learned_by(self.place.dispatcher).lengths}
        return told.get(tenant, 0)


async def started(folder, store, *names):
    fleet = []
    for name in names:
        one = Running(await Place(configured(folder)).open(), store, name)
        await one.sharing.first(None, 0.0)
        learned = learned_by(one.place.dispatcher)
        one.evidence.took_up(learned, one.place.runtime.clock.monotonic())
        fleet.append(one)
    return fleet


def later(fleet, seconds=LEAST_PERIOD_S):
    for one in fleet:
        one.place.clock.advance(seconds)


async def test_a_gateway_that_serves_comes_to_know_what_another_learned(tmp_path):
    fleet = one, other = await started(tmp_path, MemoryStore(), "a", "b")
    one.teach("acme", 20.0)
    await one.round()
    await other.round()
    assert other.lessons("acme") == 0
    later(fleet)
    await other.round()
    assert other.expects("acme") == one.expects("acme")


async def test_what_it_took_up_is_never_told_as_its_own_nor_counted_again(tmp_path):
    fleet = one, other = await started(tmp_path, MemoryStore(), "a", "b")
    one.teach("acme", 20.0)
    for _ in range(5):
        later(fleet)
        for gateway in fleet:
            await gateway.round()
    assert one.lessons("acme") == other.lessons("acme") == 60
    (late,) = await started(tmp_path, one.sharing._store._store, "c")
    late.place.clock.advance(one.place.clock.ticks - late.place.clock.ticks)
    found = {kept.own.lengths != () for kept in await late.sharing._store.read()}
    assert found == {True, False}


async def test_who_knows_for_himself_is_moved_by_nobody(tmp_path):
    fleet = one, other, third = await started(tmp_path, MemoryStore(), "a", "b", "c")
    one.teach("acme", 20.0)
    third.teach("acme", 20.0)
    other.teach("acme", 900.0)
    before = other.expects("acme")
    for _ in range(3):
        later(fleet)
        for gateway in fleet:
            await gateway.round()
    assert other.expects("acme") == before


async def test_tenants_that_others_know_displace_none_that_asks_here(tmp_path, monkeypatch):
    fleet = one, other = await started(tmp_path, MemoryStore(), "a", "b")
    monkeypatch.setattr("router.core.lengths._MAX_TENANTS", 3)
    for tenant in ("t1", "t2", "t3"):
        one.teach(tenant, 20.0)
    other.teach("mine", 40.0)
    await one.round()
    later(fleet)
    await other.round()
    assert other.lessons("mine") == 60
    assert sum(bool(other.lessons(tenant)) for tenant in ("t1", "t2", "t3")) == 2


async def test_it_is_read_once_a_period_however_often_it_is_told(tmp_path, monkeypatch):
    (one,) = await started(tmp_path, MemoryStore(), "a")
    reads = []
    read = one.sharing._store.read

    async def counted(*newer):
        reads.append(newer)
        return await read(*newer)

    monkeypatch.setattr(one.sharing._store, "read", counted)
    for _ in range(10):
        one.place.clock.advance(60.0)
        await one.round()
        await asyncio.sleep(0)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("read_bytes", "period_s"),
    [(0, LEAST_PERIOD_S), (10_000, LEAST_PERIOD_S), (64 * 2**20, 64 * 2**20 / READ_BYTES_PER_S)],
)
def test_the_more_there_is_to_read_the_rarer_it_is_read(read_bytes, period_s):
    assert reading_period_s(read_bytes) == period_s
