"""What every StateStore promises, whoever implements it. Add an implementation to STORES."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract import StateStore
from router.state.memory import MemoryStore
from tests.examples import examples
from tests.state.redis.aging import AgingRedis
from tests.state.redis.servers import PROGRAMS

T0 = 1_795_303_267.0


class AgingStore(Protocol):
    """A store whose time passes when a test says so."""

    store: StateStore
    now: float

    async def age(self, seconds: float) -> None:
        """Let time pass, for the store and for `now`."""
        ...

    async def close(self) -> None: ...


class AgingMemory:
    """Memory judges by the caller's time alone."""

    def __init__(self) -> None:
        self.store: StateStore = MemoryStore()
        self.now = T0

    async def age(self, seconds: float) -> None:
        self.now += seconds

    async def close(self) -> None:
        await self.store.close()


STORES: dict[str, Callable[[], AgingStore]] = {
    "memory": AgingMemory,
    # Valkey always; Redis where it is installed.
    **{program: functools.partial(AgingRedis, program) for program in PROGRAMS},
    "valkey-cluster": functools.partial(AgingRedis, "valkey", cluster=True),
}


@pytest.fixture(params=sorted(STORES))
async def aging(request: pytest.FixtureRequest) -> AsyncIterator[AgingStore]:
    aging = STORES[request.param]()
    yield aging
    await aging.close()


async def test_put_then_get(aging: AgingStore) -> None:
    store = aging.store
    await store.put("a", b"\x00\xff", 10.0, aging.now)
    assert await store.get("a", aging.now) == b"\x00\xff"
    await aging.age(9.0)
    assert await store.get("a", aging.now) == b"\x00\xff"


async def test_absent_is_none_and_empty_is_not_absent(aging: AgingStore) -> None:
    store = aging.store
    assert await store.get("a", aging.now) is None
    await store.put("a", b"", 10.0, aging.now)
    assert await store.get("a", aging.now) == b""


async def test_a_key_expires_at_its_time(aging: AgingStore) -> None:
    store = aging.store
    await store.put("a", b"1", 10.0, aging.now)
    await aging.age(10.0)
    assert await store.get("a", aging.now) is None
    assert await store.scan("", aging.now) == {}


async def test_put_replaces_value_and_expiry(aging: AgingStore) -> None:
    store = aging.store
    await store.put("a", b"1", 100.0, aging.now)
    await store.put("a", b"2", 10.0, aging.now)
    await aging.age(5.0)
    assert await store.get("a", aging.now) == b"2"
    await aging.age(45.0)
    assert await store.get("a", aging.now) is None
    await store.put("a", b"3", 100.0, aging.now)
    await aging.age(60.0)
    assert await store.get("a", aging.now) == b"3"


async def test_what_never_ends_is_kept_until_it_is_replaced(aging: AgingStore) -> None:
    store = aging.store
    await store.put("a", b"1", 10.0, aging.now)
    await store.put("a", b"2", math.inf, aging.now)
    await store.put_all({"b": b"3"}, math.inf, aging.now)
    await aging.age(10.0 * 366 * 86_400)
    assert await store.scan("", aging.now) == {"a": b"2", "b": b"3"}
    assert await store.get("a", aging.now) == b"2"
    await store.put("a", b"4", 10.0, aging.now)
    await aging.age(10.0)
    assert await store.scan("", aging.now) == {"b": b"3"}


async def test_many_are_put_at_once(aging: AgingStore) -> None:
    store = aging.store
    await store.put_all({}, 10.0, aging.now)
    await store.put_all({"r/1": b"1", "r/2": b"2"}, 10.0, aging.now)
    assert await store.scan("r/", aging.now) == {"r/1": b"1", "r/2": b"2"}
    await aging.age(10.0)
    assert await store.scan("r/", aging.now) == {}


async def test_scan_gives_live_keys_by_prefix(aging: AgingStore) -> None:
    store = aging.store
    await store.put("load/a", b"1", 10.0, aging.now)
    await store.put("load/b", b"2", 100.0, aging.now)
    await store.put("carbon/a", b"3", 100.0, aging.now)
    await store.put("load*", b"4", 100.0, aging.now)
    assert await store.scan("load/", aging.now) == {"load/a": b"1", "load/b": b"2"}
    assert await store.scan("load*", aging.now) == {"load*": b"4"}
    assert len(await store.scan("", aging.now)) == 4
    assert await store.scan("nothing", aging.now) == {}
    await aging.age(50.0)
    assert await store.scan("load/", aging.now) == {"load/b": b"2"}


async def test_scan_is_a_copy(aging: AgingStore) -> None:
    store = aging.store
    await store.put("a", b"1", 10.0, aging.now)
    found = await store.scan("", aging.now)
    await store.put("b", b"2", 10.0, aging.now)
    assert set(found) == {"a"}


async def test_a_counter_adds_up(aging: AgingStore) -> None:
    store = aging.store
    assert await store.add("spent", 5, 100.0, aging.now) == 5
    assert await store.add("spent", 2**40, 100.0, aging.now) == 2**40 + 5
    assert await store.add("spent", -7, 100.0, aging.now) == 2**40 - 2
    assert await store.add("other", 0, 100.0, aging.now) == 0


async def test_a_counter_lives_from_its_last_addition(aging: AgingStore) -> None:
    store = aging.store
    await store.add("spent", 5, 10.0, aging.now)
    await aging.age(8.0)
    assert await store.add("spent", 1, 10.0, aging.now) == 6
    await aging.age(8.0)
    assert await store.add("spent", 1, 10.0, aging.now) == 7
    await aging.age(10.0)
    assert await store.add("spent", 1, 10.0, aging.now) == 1


async def test_only_one_holder_at_a_time(aging: AgingStore) -> None:
    store = aging.store
    assert await store.acquire("refresh", "gateway-1", 10.0, aging.now)
    await aging.age(1.0)
    assert await store.acquire("refresh", "gateway-2", 10.0, aging.now) == 0
    assert await store.acquire("other", "gateway-2", 10.0, aging.now)


async def test_a_holder_stays_by_acquiring_again(aging: AgingStore) -> None:
    store = aging.store
    token = await store.acquire("refresh", "gateway-1", 10.0, aging.now)
    await aging.age(8.0)
    assert await store.acquire("refresh", "gateway-1", 10.0, aging.now) == token > 0
    await aging.age(4.0)
    assert await store.acquire("refresh", "gateway-2", 10.0, aging.now) == 0


async def test_a_hold_ends_at_its_time(aging: AgingStore) -> None:
    store = aging.store
    first = await store.acquire("refresh", "gateway-1", 10.0, aging.now)
    await aging.age(10.0)
    second = await store.acquire("refresh", "gateway-2", 10.0, aging.now)
    assert second > first
    assert await store.acquire("refresh", "gateway-1", 10.0, aging.now) == 0


async def test_a_token_rises_with_each_holder(aging: AgingStore) -> None:
    store = aging.store
    tokens = []
    for holder in ("gateway-1", "gateway-2", "gateway-2", "gateway-1"):
        tokens.append(await store.acquire("refresh", holder, 10.0, aging.now))
        await aging.age(10.0)
    tokens.append(await store.acquire("refresh", "gateway-1", 10.0, aging.now))
    await store.release("refresh", "gateway-1")
    tokens.append(await store.acquire("refresh", "gateway-1", 10.0, aging.now))
    assert tokens == sorted(set(tokens))


async def test_only_the_holder_can_release(aging: AgingStore) -> None:
    store = aging.store
    assert await store.acquire("refresh", "gateway-1", 10.0, aging.now)
    await store.release("refresh", "gateway-2")
    await store.release("never-held", "gateway-1")
    assert await store.acquire("refresh", "gateway-2", 10.0, aging.now) == 0
    await store.release("refresh", "gateway-1")
    assert await store.acquire("refresh", "gateway-2", 10.0, aging.now)


async def test_a_room_shows_every_live_row(aging: AgingStore) -> None:
    store = aging.store
    assert await store.exchange("load", "one", b"1", 10.0, aging.now) == {"one": b"1"}
    both = {"one": b"1", "two": b"\x00"}
    assert await store.exchange("load", "two", b"\x00", 100.0, aging.now) == both
    assert await store.exchange("other", "three", b"", 10.0, aging.now) == {"three": b""}
    await aging.age(5.0)
    later = {"one": b"4", "two": b"\x00"}
    assert await store.exchange("load", "one", b"4", 6.0, aging.now) == later
    await aging.age(6.0)
    assert await store.exchange("load", "two", b"2", 10.0, aging.now) == {"two": b"2"}


async def test_who_leaves_a_room_is_gone(aging: AgingStore) -> None:
    store = aging.store
    await store.exchange("load", "one", b"1", 10.0, aging.now)
    await store.leave("load", "one")
    await store.leave("load", "nobody")
    assert await store.exchange("load", "two", b"2", 10.0, aging.now) == {"two": b"2"}
    assert "one" in await store.exchange("load", "one", b"1", 10.0, aging.now)


async def test_keys_counters_holds_and_rooms_are_apart(aging: AgingStore) -> None:
    store = aging.store
    await store.put("a", b"1", 10.0, aging.now)
    assert await store.add("a", 1, 10.0, aging.now) == 1
    assert await store.acquire("a", "gateway-1", 10.0, aging.now)
    assert await store.exchange("a", "a", b"2", 10.0, aging.now) == {"a": b"2"}
    assert await store.get("a", aging.now) == b"1"
    assert await store.scan("", aging.now) == {"a": b"1"}


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, math.nan, -math.inf, math.inf])
async def test_an_unusable_ttl_is_refused(aging: AgingStore, ttl_s: float) -> None:
    store, now = aging.store, aging.now
    # Values alone may be kept for ever.
    if ttl_s != math.inf:
        with pytest.raises(ValueError, match="ttl_s"):
            await store.put("a", b"1", ttl_s, now)
        with pytest.raises(ValueError, match="ttl_s"):
            await store.put_all({"a": b"1"}, ttl_s, now)
    with pytest.raises(ValueError, match="ttl_s"):
        await store.add("a", 1, ttl_s, now)
    with pytest.raises(ValueError, match="ttl_s"):
        await store.acquire("a", "gateway-1", ttl_s, now)
    with pytest.raises(ValueError, match="ttl_s"):
        await store.exchange("a", "gateway-1", b"1", ttl_s, now)
    assert await store.get("a", now) is None


class Put(NamedTuple):
    key: str
    value: bytes
    ttl_s: float


class Acquire(NamedTuple):
    name: str
    holder: str
    ttl_s: float


class Release(NamedTuple):
    name: str
    holder: str


class Add(NamedTuple):
    counter: str
    amount: int
    ttl_s: float


class Exchange(NamedTuple):
    member: str
    row: bytes
    ttl_s: float


names = st.sampled_from(["a", "ab", "b/", ""])
holders = st.sampled_from(["one", "two"])
ttls = st.sampled_from([1.0, 3.0, 10.0])
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 4.0]),
        st.builds(Put, names, st.binary(max_size=3), ttls | st.just(math.inf))
        | st.builds(Acquire, names, holders, ttls)
        | st.builds(Release, names, holders)
        | st.builds(Add, names, st.integers(-9, 2**40), ttls)
        | st.builds(Exchange, names, st.binary(max_size=3), ttls),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", sorted(STORES))
# A history is up to three hundred round trips.
@settings(max_examples=examples(30), deadline=None)
@given(steps=steps)
async def test_any_history_matches_the_obvious_twin(
    kind: str, steps: list[tuple[float, Put | Acquire | Release | Add | Exchange]]
) -> None:
    aging = STORES[kind]()
    try:
        await _same_history(aging, steps)
    finally:
        await aging.close()


async def _same_history(
    aging: AgingStore, steps: list[tuple[float, Put | Acquire | Release | Add | Exchange]]
) -> None:
    store = aging.store
    values: dict[str, tuple[bytes, float]] = {}
    holds: dict[str, tuple[str, float]] = {}
    counts: dict[str, tuple[int, float]] = {}
    rows: dict[str, tuple[bytes, float]] = {}
    for passed_s, step in steps:
        await aging.age(passed_s)
        now = aging.now
        if isinstance(step, Put):
            await store.put(step.key, step.value, step.ttl_s, now)
            values[step.key] = (step.value, now + step.ttl_s)
        elif isinstance(step, Acquire):
            holder, until = holds.get(step.name, ("", 0.0))
            free = until <= now or holder == step.holder
            assert bool(await store.acquire(*step, now)) == free
            if free:
                holds[step.name] = (step.holder, now + step.ttl_s)
        elif isinstance(step, Add):
            total, until = counts.get(step.counter, (0, 0.0))
            total = step.amount + (total if until > now else 0)
            assert await store.add(*step, now) == total
            counts[step.counter] = (total, now + step.ttl_s)
        elif isinstance(step, Exchange):
            rows[step.member] = (step.row, now + step.ttl_s)
            seen = {member: row for member, (row, until) in rows.items() if until > now}
            assert await store.exchange("room", *step, now) == seen
        else:
            await store.release(*step)
            if holds.get(step.name, ("", 0.0))[0] == step.holder:
                del holds[step.name]
        live = {key: value for key, (value, until) in values.items() if until > now}
        for prefix in ("", "a", "b/"):
            expected = {key: value for key, value in live.items() if key.startswith(prefix)}
            assert await store.scan(prefix, now) == expected
        for key in ("a", "ab", "b/", ""):
            assert await store.get(key, now) == live.get(key)
