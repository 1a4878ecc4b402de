"""The memory store stays inside its bounds, whatever is put into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.state.memory import MemoryStore


async def test_a_full_store_lets_go_of_what_would_expire_soonest() -> None:
    store = MemoryStore(max_keys=2)
    await store.put("long", b"1", 100.0, 0.0)
    await store.put("short", b"2", 10.0, 0.0)
    await store.put("new", b"3", 50.0, 0.0)
    assert await store.scan("", 0.0) == {"long": b"1", "new": b"3"}


async def test_expired_keys_go_before_live_ones() -> None:
    store = MemoryStore(max_keys=2)
    await store.put("old", b"1", 1.0, 0.0)
    await store.put("live", b"2", 10.0, 0.0)
    await store.put("new", b"3", 100.0, 5.0)
    assert set(await store.scan("", 5.0)) == {"live", "new"}


async def test_putting_a_key_again_evicts_nobody() -> None:
    store = MemoryStore(max_keys=2)
    await store.put("a", b"1", 1.0, 0.0)
    await store.put("b", b"2", 1.0, 0.0)
    await store.put("b", b"3", 1.0, 0.0)
    assert await store.scan("", 0.0) == {"a": b"1", "b": b"3"}


async def test_bytes_are_bounded() -> None:
    store = MemoryStore(max_bytes=10)
    await store.put("a", b"12345678", 1.0, 0.0)
    await store.put("b", b"12345678", 1.0, 0.0)
    assert await store.scan("", 0.0) == {"b": b"12345678"}
    with pytest.raises(ValueError, match="too large"):
        await store.put("c", b"1234567890", 1.0, 0.0)
    assert await store.get("b", 0.0) == b"12345678"


async def test_a_hold_is_never_evicted() -> None:
    store = MemoryStore(max_holds=1)
    assert await store.acquire("a", "one", 10.0, 0.0)
    assert not await store.acquire("b", "two", 10.0, 5.0)
    assert not await store.acquire("a", "two", 10.0, 5.0)
    assert await store.acquire("a", "one", 10.0, 6.0)
    assert await store.acquire("b", "two", 10.0, 16.0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20).map(str), st.binary(max_size=9), st.floats(0.1, 50), st.floats(0, 9)
        ),
        max_size=300,
    )
)
async def test_any_history_stays_inside_the_bounds(
    puts: list[tuple[str, bytes, float, float]],
) -> None:
    store, now = MemoryStore(max_keys=7, max_bytes=40), 0.0
    for key, value, ttl_s, passed_s in puts:
        now += passed_s
        await store.put(key, value, ttl_s, now)
        live = await store.scan("", now)
        assert live[key] == value
        assert len(live) <= 7
        assert sum(len(k) + len(v) for k, v in live.items()) <= 40


async def test_a_key_that_is_put_again_and_again_takes_no_more_room() -> None:
    store = MemoryStore()
    for number in range(1_000):
        await store.put("heartbeat", b"1", 1e6, float(number))
    assert len(store._expiries) < 100
    assert await store.scan("", 1_000.0) == {"heartbeat": b"1"}
