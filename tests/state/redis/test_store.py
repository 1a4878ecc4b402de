"""What is particular to a store on Redis; what every store promises is in tests/contract."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator

import pytest

from router.contract import StateStore
from router.errors import StateStoreError
from router.state.redis import store as module
from router.state.redis.store import (
    MAX_NAME_BYTES,
    MAX_ROWS,
    MAX_VALUE_BYTES,
)
from tests.state.redis.servers import PROGRAMS, Server, server
from tests.state.redis.support import failure_of, store_at


@pytest.fixture(params=sorted(PROGRAMS))
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(request.param) as made:
        yield made


@pytest.fixture
async def store(running: Server) -> AsyncIterator[StateStore]:
    async with store_at(running.url) as made:
        yield made


async def test_fleets_with_other_prefixes_do_not_meet(running: Server, store: StateStore) -> None:
    async with store_at(running.url, prefix="other") as other:
        for one, value in ((store, b"1"), (other, b"2")):
            await one.put("a", value, 60.0, 0.0)
            assert await one.add("spent", 1, 60.0, 0.0) == 1
            assert await one.acquire("poll", "me", 60.0, 0.0)
            assert await one.exchange("load", "me", value, 60.0, 0.0) == {"me": value}
        assert await store.scan("", 0.0) == {"a": b"1"}
        assert await other.scan("", 0.0) == {"a": b"2"}


async def test_everything_ends_by_itself(running: Server, store: StateStore) -> None:
    await store.put("a", b"1", 60.0, 0.0)
    await store.put_all({"b": b"1"}, 60.0, 0.0)
    await store.add("spent", 1, 60.0, 0.0)
    await store.acquire("poll", "me", 60.0, 0.0)
    await store.exchange("load", "me", b"", 60.0, 0.0)
    names = running.ask("KEYS", "*")
    assert len(names) == 6
    assert all(running.ask("PTTL", name) > 0 for name in names)


async def test_what_is_to_be_kept_has_no_end(running: Server, store: StateStore) -> None:
    await store.put("a", b"1", 60.0, 0.0)
    await store.put("a", b"2", math.inf, 0.0)
    assert running.ask("PTTL", "carbon-router:value:a") == -1


async def test_a_room_that_all_have_left_is_gone(running: Server, store: StateStore) -> None:
    await store.exchange("load", "me", b"", 60.0, 0.0)
    await store.leave("load", "me")
    assert running.ask("KEYS", "*") == []


async def test_a_room_that_is_large_is_read_whole(store: StateStore) -> None:
    rows = {f"gw{number}": bytes([number]) * 900_000 for number in range(12)}
    for member, row in rows.items():
        there = await store.exchange("load", member, row, 60.0, 0.0)
    assert there == rows
    assert await store.exchange("load", "gw0", rows["gw0"], 60.0, 0.0) == rows


async def test_a_room_that_is_larger_than_can_be_held_is_an_error(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROOM_BYTES", 2_500_000)
    # And again: what is refused once is no reason to wait for it the next time.
    for member in "abcc":
        there = store.exchange("load", member, bytes(1_000_000), 60.0, 0.0)
        if member == "c":
            with pytest.raises(StateStoreError, match="over 2500000 bytes"):
                await there
        else:
            await there


async def test_a_room_that_is_small_again_is_waited_for_as_any_other(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_BYTES_PER_S", 1.0)
    monkeypatch.setattr(module, "_PATIENCE_S", 1e6)
    async with store_at(running.url) as store:
        for member in "abc":
            await store.exchange("load", member, bytes(1_000_000), 60.0, 0.0)
        running.ask("DEL", "carbon-router:room:load")
        await store.exchange("load", "a", b"", 60.0, 0.0)
        running.pause()
        try:
            room = store.exchange("load", "a", b"", 60.0, 0.0)
            assert (await failure_of(room)).cause == "timeout"
        finally:
            running.resume()


async def test_a_room_lasts_as_long_as_its_longest_row(running: Server, store: StateStore) -> None:
    await store.exchange("load", "long", b"", 600.0, 0.0)
    await store.exchange("load", "short", b"", 1.0, 0.0)
    assert running.ask("PTTL", "carbon-router:room:load") > 500_000


async def test_a_time_of_less_than_a_millisecond_is_one(store: StateStore) -> None:
    await store.put("a", b"1", 1e-9, 0.0)


async def test_a_counter_is_exact_beyond_what_a_double_holds(store: StateStore) -> None:
    assert await store.add("spent", 2**61 + 1, 60.0, 0.0) == 2**61 + 1
    assert await store.add("spent", 2, 60.0, 0.0) == 2**61 + 3
    await store.add("spent", 2**61, 60.0, 0.0)
    # Past 63 bits it says so, and stays what it was.
    assert (await failure_of(store.add("spent", 2**62 - 1, 60.0, 0.0))).cause == "refused"
    assert await store.add("spent", 0, 60.0, 0.0) == 2**62 + 3


async def test_what_is_too_large_is_not_sent(running: Server, store: StateStore) -> None:
    large, long = b"x" * (MAX_VALUE_BYTES + 1), "n" * (MAX_NAME_BYTES + 1)
    with pytest.raises(ValueError, match="too large"):
        await store.put("a", large, 60.0, 0.0)
    with pytest.raises(ValueError, match="too large"):
        await store.put_all({"a": b"1", "b": large}, 60.0, 0.0)
    with pytest.raises(ValueError, match="too large"):
        await store.exchange("load", "me", large, 60.0, 0.0)
    with pytest.raises(ValueError, match="too large"):
        await store.add("spent", 2**62, 60.0, 0.0)
    for call in (
        lambda: store.put(long, b"", 60.0, 0.0),
        lambda: store.put_all({long: b""}, 60.0, 0.0),
        lambda: store.get(long, 0.0),
        lambda: store.scan(long, 0.0),
        lambda: store.add(long, 1, 60.0, 0.0),
        lambda: store.acquire(long, "me", 60.0, 0.0),
        lambda: store.acquire("poll", long, 60.0, 0.0),
        lambda: store.release(long, "me"),
        lambda: store.exchange(long, "me", b"", 60.0, 0.0),
        lambda: store.exchange("load", long, b"", 60.0, 0.0),
        lambda: store.leave(long, "me"),
        lambda: store.leave("load", long),
    ):
        with pytest.raises(ValueError, match="too long"):
            await call()
    assert running.ask("KEYS", "*") == []
    await store.put("a", large[1:], 60.0, 0.0)
    assert await store.get("a", 0.0) == large[1:]


async def test_a_room_has_places_for_so_many(running: Server, store: StateStore) -> None:
    await store.exchange("load", "m0", b"", 600.0, 0.0)
    row = running.ask("HGET", "carbon-router:room:load", "m0")
    others = [part for number in range(1, MAX_ROWS) for part in (f"m{number}", row)]
    running.ask("HSET", "carbon-router:room:load", *others)
    room = store.exchange("load", "late", b"", 60.0, 0.0)
    assert (await failure_of(room)).cause == "refused"
    # Who is in it stays.
    assert len(await store.exchange("load", "m0", b"", 60.0, 0.0)) == MAX_ROWS
    await store.leave("load", "m1")
    assert "late" in await store.exchange("load", "late", b"", 60.0, 0.0)


async def test_what_others_wrote_there_is_not_read(running: Server, store: StateStore) -> None:
    await store.put("a", b"1", 60.0, 0.0)
    running.ask("SET", "carbon-router:value:strange", "2")
    running.ask("SET", "carbon-router:value:large", b"1" * (MAX_VALUE_BYTES + 2))
    assert await store.scan("", 0.0) == {"a": b"1"}
    assert await store.get("strange", 0.0) is None
    assert await store.get("large", 0.0) is None
    running.ask("SET", b"carbon-router:value:\xff", "1")
    assert await store.scan("", 0.0) == {"a": b"1"}


@pytest.mark.parametrize("row", ["", "text", ":", "9:", "999999999999999999:x", "-1:x", "1e9:x"])
async def test_rows_that_no_gateway_wrote_are_dropped(
    running: Server, store: StateStore, row: str
) -> None:
    await store.exchange("load", "me", b"1", 60.0, 0.0)
    running.ask("HSET", "carbon-router:room:load", "strange", row)
    assert await store.exchange("load", "me", b"2", 60.0, 0.0) == {"me": b"2"}
    assert running.ask("HKEYS", "carbon-router:room:load") == [b"me"]


async def test_a_member_whose_name_is_no_text_is_nobody(running: Server, store: StateStore) -> None:
    await store.exchange("load", "me", b"1", 600.0, 0.0)
    row = running.ask("HGET", "carbon-router:room:load", "me")
    running.ask("HSET", "carbon-router:room:load", b"\xff\xfe", row)
    assert await store.exchange("load", "me", b"2", 60.0, 0.0) == {"me": b"2"}


async def test_another_type_under_a_name_is_a_failure(running: Server, store: StateStore) -> None:
    running.ask("LPUSH", "carbon-router:value:a", "1")
    running.ask("SET", "carbon-router:count:spent", "much")
    for call in (store.get("a", 0.0), store.scan("", 0.0), store.add("spent", 1, 60.0, 0.0)):
        assert (await failure_of(call)).cause == "refused"
    # The server's own word for it, which is no secret.
    assert str(await failure_of(store.get("a", 0.0))).endswith("(WRONGTYPE)")


async def test_more_than_anybody_shares_is_not_collected(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put_all({f"k{n}": b"x" * 100 for n in range(30)}, 60.0, 0.0)
    monkeypatch.setattr(module, "MAX_SCANNED_BYTES", 100)
    await failure_of(store.scan("k", 0.0))
    monkeypatch.setattr(module, "MAX_SCANNED", 20)
    await failure_of(store.scan("k", 0.0))


async def test_members_may_have_any_names(store: StateStore) -> None:
    names = ["", "{", "}{", "a:b", "ü", "\ud800", "x y\n"]
    for name in names:
        await store.exchange("load", name, b"1", 60.0, 0.0)
        assert await store.acquire(name, name, 60.0, 0.0)
        await store.put(name, b"1", 60.0, 0.0)
    assert set(await store.exchange("load", "", b"1", 60.0, 0.0)) == set(names)
    assert set(await store.scan("", 0.0)) == set(names)


@pytest.mark.parametrize(
    "hold", ["nonsense", ":one", "inf:one", "nan:one", "1e300:one", "1" * 19 + ":one"]
)
@pytest.mark.parametrize("token", ["inf", "nan", "1e300", "9" * 19, "-5", ""])
async def test_a_lease_that_no_gateway_wrote_is_taken_over(
    running: Server, store: StateStore, hold: str, token: str
) -> None:
    assert await store.acquire("poll", "zero", 60.0, 0.0)
    (kept,) = [key for key in running.ask("KEYS", "*") if key.endswith(b":token")]
    (held,) = [key for key in running.ask("KEYS", "*") if key + b":token" == kept]
    running.ask("SET", held, hold)
    running.ask("SET", kept, token)
    first = await store.acquire("poll", "one", 60.0, 0.0)
    assert first and 10**12 < first < 10**15
    assert not await store.acquire("poll", "two", 60.0, 0.0)
    assert await store.acquire("poll", "one", 60.0, 0.0) == first
    await store.release("poll", "one")
    then = await store.acquire("poll", "two", 60.0, 0.0)
    assert then and then > first


async def test_nor_is_one_of_another_type(running: Server, store: StateStore) -> None:
    assert await store.acquire("poll", "zero", 60.0, 0.0)
    for key in running.ask("KEYS", "*"):
        running.ask("DEL", key)
        running.ask("RPUSH", key, "1")
    await store.release("poll", "zero")
    assert await store.acquire("poll", "one", 60.0, 0.0)


async def test_a_room_of_another_type_is_made_anew(running: Server, store: StateStore) -> None:
    await store.exchange("load", "one", b"1", 60.0, 0.0)
    (key,) = running.ask("KEYS", "*")
    running.ask("SET", key, "nonsense")
    assert await store.exchange("load", "one", b"2", 60.0, 0.0) == {"one": b"2"}
