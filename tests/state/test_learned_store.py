"""What processes of all gateways learned, in what they share: whole or in part, or nonsense."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from router.core.learned import LatencyLearned, Learned, LengthsLearned, MarginsLearned
from router.state import learned_store
from router.state.learned_store import KEEP_S, MOST_PROCESSES, Kept, LearnedStore
from router.state.memory import MemoryStore
from tests.examples import examples
from tests.state.test_learned_file import LEARNED, SOME

NOW = 1_795_303_267.0
again = settings(
    max_examples=examples(20),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Now:
    def __init__(self, wall=NOW):
        self.wall = wall

    def now(self):
        return self.wall

    def monotonic(self):
        return self.wall - NOW


def process(store, identity, clock=None, place=""):
    return LearnedStore(store, identity, place, clock or Now())


@again
@given(LEARNED, LEARNED)
async def test_what_one_wrote_the_others_read(own, others):
    store = MemoryStore()
    await process(store, "a", place="west").write(own, others)
    found = await process(store, "b", Now(NOW + 100.0)).read()
    size = sum(map(len, (await store.scan("learned/a/", NOW)).values()))
    kept = [Kept(own, others, 100.0, "west", size)]
    assert found == (kept if (own, others) != (Learned(), Learned()) else [])
    assert await process(store, "a").read() == []


async def test_of_those_that_have_ended_nothing_is_read_where_nothing_is_wanted():
    store = MemoryStore()
    await process(store, "a").write(SOME)
    reader = process(store, "b", Now(NOW + 100.0))
    assert await reader.read(newer_than_s=99.0) == []
    assert [kept.own for kept in await reader.read(newer_than_s=101.0)] == [SOME]


async def test_who_reads_goes_on_telling():
    store = MemoryStore()
    one = process(store, "a")
    await one.write(SOME)
    await one.read()
    assert [kept.own for kept in await process(store, "b").read()] == [SOME]


async def test_the_newest_come_first_and_too_many_are_cleared_away():
    store = MemoryStore()
    for number in range(MOST_PROCESSES + 10):
        await process(store, f"p{number}", Now(NOW + number)).write(SOME)
    reader = process(store, "reader", Now(NOW + 1000.0))
    ages = [kept.age_s for kept in await reader.read()]
    assert ages == [1000.0 - number for number in range(MOST_PROCESSES + 9, 9, -1)]
    left = await store.scan("learned/", NOW + 1001.0)
    assert len(left) == MOST_PROCESSES
    assert len(await reader.read()) == MOST_PROCESSES


async def test_who_starts_again_and_again_displaces_nobody():
    store = MemoryStore()
    await process(store, "a").write(SOME)
    for number in range(2 * MOST_PROCESSES):
        clock = Now(NOW + 10.0 * number)
        assert [kept.own for kept in await process(store, f"p{number}", clock).read()] == [SOME]
    rows = await store.exchange("learned", "x", b"", 1.0, clock.now())
    assert len(rows) < MOST_PROCESSES + 4


async def test_it_is_kept_over_a_week():
    store = MemoryStore()
    await process(store, "a").write(SOME)
    assert await process(store, "b", Now(NOW + KEEP_S - 1.0)).read()
    assert not await process(store, "b", Now(NOW + KEEP_S + 1.0)).read()


async def test_what_is_large_goes_in_parts_that_a_store_can_hold(monkeypatch):
    monkeypatch.setattr(learned_store, "_PART_ENTRIES", 10)
    latency = tuple(
        LatencyLearned(f"e{n}", "k", 1.6, (1.0,) * 13, 1, (0.0, 1.0), 1) for n in range(25)
    )
    lengths = tuple(LengthsLearned("m", f"t{n}", (1.0,) * 5, n) for n in range(35))
    margins = tuple(MarginsLearned(f"e{n}", "k", False, 1.6, (0.0,) * 3, 1) for n in range(15))
    learned = Learned(latency, lengths=lengths, margins=margins)
    store = MemoryStore()
    await process(store, "a").write(learned)
    assert len(await store.scan("learned/a/", NOW)) == 3 + 4 + 2
    (kept,) = await process(store, "b").read()
    assert set(kept.own.latency) == set(latency)
    assert set(kept.own.lengths) == set(lengths)
    assert set(kept.own.margins) == set(margins)
    # What was written of more before is not read with it.
    await process(store, "a").write(SOME)
    (kept,) = await process(store, "b").read()
    assert kept.own == SOME


async def test_there_is_room_for_tenants_of_late(monkeypatch):
    monkeypatch.setattr(learned_store, "_PART_ENTRIES", 1)
    lengths = tuple(LengthsLearned("m", f"t{n}", (1.0,), n) for n in range(100))
    store = MemoryStore()
    await process(store, "a").write(Learned(lengths=lengths))
    (kept,) = await process(store, "b").read()
    assert {one.tenant for one in kept.own.lengths} == {f"t{n}" for n in range(36, 100)}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xc1", b"{}", msgspec.msgpack.encode([1, {}]), msgspec.msgpack.encode([2]),
        msgspec.msgpack.encode([2, True, {"latency": [1]}]), msgspec.msgpack.encode([2, True, []]),
        msgspec.msgpack.encode([3, True, {}]),
        b"\x91" * 100_000,
    ],
)  # fmt: skip
async def test_a_part_that_cannot_be_read_is_passed_over(body):
    store = MemoryStore()
    await process(store, "a").write(SOME)
    await process(store, "b").write(SOME)
    await store.put("learned/a/0", body, 100.0, NOW)
    assert [kept.own for kept in await process(store, "c").read()] == [Learned(), SOME]


@pytest.mark.parametrize(
    "row",
    [
        b"", b"\xc1" * 9, msgspec.msgpack.encode([3, NOW, "", 1]),
        msgspec.msgpack.encode([2, float("nan"), "", 1]), msgspec.msgpack.encode([2, 1e300, "", 1]),
        msgspec.msgpack.encode([2, NOW, "", -1]), msgspec.msgpack.encode([2, NOW, "", 10**9]),
    ],
)  # fmt: skip
async def test_a_row_that_cannot_be_is_cleared_away(row):
    store = MemoryStore()
    await process(store, "a").write(SOME)
    await store.exchange("learned", "stranger", row, KEEP_S, NOW)
    assert len(await process(store, "b").read()) == 1
    assert set(await store.exchange("learned", "x", b"", 1.0, NOW)) == {"a", "b", "x"}


async def test_no_more_is_read_than_can_be_held(monkeypatch):
    store = MemoryStore()
    for name in "abc":
        await process(store, name).write(SOME)
    size = sum(map(len, (await store.scan("learned/a/", NOW)).values()))
    monkeypatch.setattr(learned_store, "_MOST_BYTES", 2 * size)
    found = await process(store, "d").read()
    assert [kept.own == SOME for kept in found] == [True, True, False]
