"""What every StateStore promises, whoever implements it. Add an implementation to STORES."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import StateStore
from router.state.memory import MemoryStore

STORES: dict[str, Callable[[], StateStore]] = {"memory": MemoryStore}

T0 = 1_795_303_267.0


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest) -> StateStore:
    return STORES[request.param]()


async def test_put_then_get(store: StateStore) -> None:
    await store.put("a", b"\x00\xff", 10.0, T0)
    assert await store.get("a", T0) == b"\x00\xff"
    assert await store.get("a", T0 + 9.9) == b"\x00\xff"


async def test_absent_is_none_and_empty_is_not_absent(store: StateStore) -> None:
    assert await store.get("a", T0) is None
    await store.put("a", b"", 10.0, T0)
    assert await store.get("a", T0) == b""


async def test_a_key_expires_at_its_time(store: StateStore) -> None:
    await store.put("a", b"1", 10.0, T0)
    assert await store.get("a", T0 + 10.0) is None
    assert await store.scan("", T0 + 10.0) == {}


async def test_put_replaces_value_and_expiry(store: StateStore) -> None:
    await store.put("a", b"1", 100.0, T0)
    await store.put("a", b"2", 10.0, T0)
    assert await store.get("a", T0 + 5.0) == b"2"
    assert await store.get("a", T0 + 50.0) is None
    await store.put("a", b"3", 100.0, T0 + 60.0)
    assert await store.get("a", T0 + 100.0) == b"3"


async def test_scan_gives_live_keys_by_prefix(store: StateStore) -> None:
    await store.put("load/a", b"1", 10.0, T0)
    await store.put("load/b", b"2", 100.0, T0)
    await store.put("carbon/a", b"3", 100.0, T0)
    await store.put("load*", b"4", 100.0, T0)
    assert await store.scan("load/", T0) == {"load/a": b"1", "load/b": b"2"}
    assert await store.scan("load/", T0 + 50.0) == {"load/b": b"2"}
    assert await store.scan("load*", T0) == {"load*": b"4"}
    assert len(await store.scan("", T0)) == 4
    assert await store.scan("nothing", T0) == {}


async def test_scan_is_a_copy(store: StateStore) -> None:
    await store.put("a", b"1", 10.0, T0)
    found = await store.scan("", T0)
    await store.put("b", b"2", 10.0, T0)
    assert set(found) == {"a"}


async def test_only_one_holder_at_a_time(store: StateStore) -> None:
    assert await store.acquire("refresh", "gateway-1", 10.0, T0)
    assert not await store.acquire("refresh", "gateway-2", 10.0, T0 + 1.0)
    assert await store.acquire("other", "gateway-2", 10.0, T0 + 1.0)


async def test_a_holder_stays_by_acquiring_again(store: StateStore) -> None:
    assert await store.acquire("refresh", "gateway-1", 10.0, T0)
    assert await store.acquire("refresh", "gateway-1", 10.0, T0 + 8.0)
    assert not await store.acquire("refresh", "gateway-2", 10.0, T0 + 12.0)


async def test_a_hold_ends_at_its_time(store: StateStore) -> None:
    assert await store.acquire("refresh", "gateway-1", 10.0, T0)
    assert await store.acquire("refresh", "gateway-2", 10.0, T0 + 10.0)
    assert not await store.acquire("refresh", "gateway-1", 10.0, T0 + 11.0)


async def test_only_the_holder_can_release(store: StateStore) -> None:
    assert await store.acquire("refresh", "gateway-1", 10.0, T0)
    await store.release("refresh", "gateway-2")
    await store.release("never-held", "gateway-1")
    assert not await store.acquire("refresh", "gateway-2", 10.0, T0 + 1.0)
    await store.release("refresh", "gateway-1")
    assert await store.acquire("refresh", "gateway-2", 10.0, T0 + 1.0)


async def test_keys_and_holds_are_different_rooms(store: StateStore) -> None:
    await store.put("a", b"1", 10.0, T0)
    assert await store.acquire("a", "gateway-1", 10.0, T0)
    assert await store.get("a", T0) == b"1"
    assert await store.scan("", T0) == {"a": b"1"}


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, math.nan, math.inf])
async def test_an_unusable_ttl_is_refused(store: StateStore, ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        await store.put("a", b"1", ttl_s, T0)
    with pytest.raises(ValueError, match="ttl_s"):
        await store.acquire("a", "gateway-1", ttl_s, T0)
    assert await store.get("a", T0) is None


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


names = st.sampled_from(["a", "ab", "b/", ""])
holders = st.sampled_from(["one", "two"])
ttls = st.sampled_from([1.0, 3.0, 10.0])
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 4.0]),
        st.builds(Put, names, st.binary(max_size=3), ttls)
        | st.builds(Acquire, names, holders, ttls)
        | st.builds(Release, names, holders),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", sorted(STORES))
@given(steps=steps)
async def test_any_history_matches_the_obvious_twin(
    kind: str, steps: list[tuple[float, Put | Acquire | Release]]
) -> None:
    store, now = STORES[kind](), T0
    values: dict[str, tuple[bytes, float]] = {}
    holds: dict[str, tuple[str, float]] = {}
    for passed_s, step in steps:
        now += passed_s
        if isinstance(step, Put):
            await store.put(step.key, step.value, step.ttl_s, now)
            values[step.key] = (step.value, now + step.ttl_s)
        elif isinstance(step, Acquire):
            holder, until = holds.get(step.name, ("", 0.0))
            free = until <= now or holder == step.holder
            assert await store.acquire(*step, now) == free
            if free:
                holds[step.name] = (step.holder, now + step.ttl_s)
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
