"""Several gateways over one store: one asks, all know."""

from __future__ import annotations

import asyncio
import logging

import pytest

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.polling.codec import decode_index, decode_values, encode_values
from router.carbon.polling.election import BEAT_S, LEASE_S, Part
from router.carbon.providers.provider import Want
from router.errors import ProviderRefusedError
from tests.carbon.polling.gateways import (
    STEP,
    T0,
    ZONES,
    Gateway,
    World,
    WorldStore,
    beats,
    run,
)
from tests.carbon.stub_provider import HOUR

KEY = "carbon/stub/average-lifecycle"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def store(world: World) -> WorldStore:
    return WorldStore(world)


async def test_one_gateway_asks_and_both_know_the_same(world: World, store: WorldStore) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    await run(world, 10, first, second)
    assert (first.source.part, second.source.part) == (Part.LEADS, Part.FOLLOWS)
    assert second.provider.calls == []
    assert set(first.values) == set(ZONES)
    assert (second.values, second.ahead, second.past) == (first.values, first.ahead, first.past)
    assert first.provider.count(Want.LATEST) <= 3 * 10 * 1.4


async def test_the_first_snapshot_of_a_follower_is_from_the_store(
    world: World, store: WorldStore
) -> None:
    first = Gateway("first", store, world)
    await run(world, 0.5, first)
    late = Gateway("late", store, world)
    await late.refresh()
    assert (late.values, late.ahead, late.past) == (first.values, first.ahead, first.past)
    assert late.provider.calls == []


async def test_a_fleet_that_starts_anew_goes_on_from_the_store(
    world: World, store: WorldStore
) -> None:
    first = Gateway("first", store, world)
    await run(world, 0.5, first)
    world.now += 60.0
    again = Gateway("again", store, world)
    await again.refresh()
    assert again.source.part is Part.LEADS
    assert set(again.values) == set(ZONES)
    assert set(first.past["A"][-200:]) <= set(again.past["A"])
    # What has become due in the meantime.
    assert again.provider.count(Want.LATEST) == len(again.provider.calls) <= len(ZONES)


async def test_a_follower_takes_over_within_ten_seconds_and_asks_for_nothing_twice(
    world: World, store: WorldStore
) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    await run(world, 5, first, second)
    died_at = world.now
    while second.source.part is not Part.LEADS:
        await beats(world, BEAT_S, second)
        assert world.now - died_at < 10.0
    assert second.provider.calls == []
    await run(world, 5, second)
    assert second.provider.by_zone(Want.FORECAST)["A"] <= 2
    assert second.provider.by_zone(Want.HISTORY)["A"] <= 1
    assert all(value.age_s(world.now) < 1.4 * HOUR for value in second.values.values())
    assert len(second.past["A"]) >= 216
    # Back again, the first one reads along.
    calls = len(first.provider.calls)
    await run(world, 2, first, second)
    assert (first.source.part, len(first.provider.calls)) == (Part.FOLLOWS, calls)
    assert first.values == second.values


async def test_who_takes_over_says_so_once(world: World, store: WorldStore) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    await first.refresh()
    await second.refresh()
    world.now += LEASE_S
    assert await second.source.beat()
    world.now += BEAT_S
    assert not await second.source.beat()
    assert not await first.source.beat()


async def test_leaving_hands_over_at_the_next_beat_and_for_good(
    world: World, store: WorldStore
) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    await run(world, 1, first, second)
    await first.source.close()
    assert first.source.part is Part.FOLLOWS
    await beats(world, BEAT_S, first, second)
    assert (first.source.part, second.source.part) == (Part.FOLLOWS, Part.LEADS)


async def test_who_was_stopped_beyond_its_lease_notices_before_it_calls_or_stores(
    world: World, store: WorldStore
) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    await run(world, 1, first, second)
    calls = len(first.provider.calls)
    kept = dict(await store.scan(KEY, world.now))
    # Nobody beat, for the first one stood still; the second takes over in the same moment.
    world.now += 2 * HOUR
    assert first.source.part is Part.FOLLOWS
    await first.source._poller.poll_due(Want.LATEST, ZONES, world.now, 1)
    await first.source._publish(world.now)
    assert len(first.provider.calls) == calls
    assert not await first.shared.publish({}, {}, {})
    assert await store.scan(KEY, world.now) == kept
    await second.refresh()
    await first.refresh()
    assert second.provider.count(Want.LATEST) == 3
    assert len(first.provider.calls) == calls
    assert first.values == second.values


async def test_what_a_former_leader_stores_late_is_passed_over_and_replaced(
    world: World, store: WorldStore, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    third = Gateway("third", store, world)
    await run(world, 1, first, second, third)
    old = {key: await store.get(key, world.now) for key in await store.scan(KEY, world.now)}
    await run(world, 2, second, third)
    values = third.values
    # Writes that were under way when the first one was stopped.
    for key, data in old.items():
        await store.put(key, data or b"", HOUR, world.now)
    await third.refresh()
    assert third.values == values
    assert "former leader" in caplog.text
    await second.refresh()
    for zone in ZONES:
        data = await store.get(f"{KEY}/observed/{zone}", world.now)
        assert data is not None
        assert decode_values(data).token == second.shared.token
    await third.refresh()
    assert third.values == second.values


async def test_values_of_a_lower_token_than_the_index_says_are_not_taken(
    world: World, store: WorldStore
) -> None:
    first = Gateway("first", store, world)
    await run(world, 1, first)
    stored = first.past["A"]
    await store.put(f"{KEY}/observed/A", encode_values(stored[:5], 0), HOUR, world.now)
    late = Gateway("late", store, world)
    await late.refresh()
    assert set(late.values) == {"B", "C"}


async def test_a_store_that_forgot_its_tokens_is_believed_when_it_goes_on(
    world: World, store: WorldStore
) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    for _ in range(3):
        # Tokens rise.
        await run(world, 0.1, first)
        world.now += 2 * LEASE_S
        await run(world, 0.1, second)
        world.now += 2 * LEASE_S
    await run(world, 1, first, second)
    token = first.shared.token
    store.flush()
    await run(world, 2, first, second)
    assert first.shared.token < token
    assert second.provider.count(Want.LATEST) < 10
    calls = len(second.provider.calls)
    await run(world, 2, first, second)
    assert len(second.provider.calls) == calls
    assert second.values == first.values
    index = await store.get(f"{KEY}/index", world.now)
    assert index is not None
    assert set(decode_index(index).zones) == set(ZONES)


async def test_the_leader_asks_for_zones_that_only_a_follower_wants(
    world: World, store: WorldStore
) -> None:
    first = Gateway("first", store, world)
    second = Gateway("second", store, world, ("A", "D"))
    await run(world, 2, first, second)
    assert second.provider.calls == []
    assert set(second.values) == {"A", "D"} == set(second.ahead)
    assert len(second.past["D"]) >= 200
    # Whoever comes to lead knows of them as well, and of zones of its own.
    third = Gateway("third", store, world, ("B",))
    await run(world, 0.1, first, second, third)
    await run(world, 0.5, second, third)
    assert second.source.part is not third.source.part
    assert len(second.provider.calls) + len(third.provider.calls) <= 6
    assert (set(second.values), set(third.values)) == ({"A", "D"}, {"B"})


async def test_a_follower_says_what_the_leader_met(world: World, store: WorldStore) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    first.provider.zone_errors["B"] = ProviderRefusedError("stub: B is outside the plan")
    await run(world, 1, first, second)
    assert set(second.values) == {"A", "C"}
    last = second.source.last_attempt("B", Want.LATEST)
    assert last == SourceAttempt("stub", False, "B is outside the plan", "provider_refused")


@pytest.mark.parametrize("fault", ["error", "hang"])
async def test_without_the_store_each_asks_for_itself_not_all_at_once_and_says_so(
    fault: str, world: World, store: WorldStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fleet = [Gateway(f"gateway {i}", store, world) for i in range(4)]
    await run(world, 1, *fleet)
    if fault == "error":
        store.error = ConnectionError("secret-host:6379 refused")
    else:
        store.hangs = True
        for gateway in fleet:
            gateway.shared._election._timeout_s = 0.01
    started: dict[Gateway, int] = {}
    for step in range(180 if fault == "error" else 4):
        for gateway in fleet:
            await gateway.refresh()
            if gateway.source.part is Part.ALONE:
                started.setdefault(gateway, step)
            assert set(gateway.values) == set(ZONES)
        world.now += STEP
    assert len(started) == 4
    assert len(set(started.values())) > 1
    assert all("state store fails" in gateway.source.sharing_trouble for gateway in fleet)
    if fault == "error":
        assert all(gateway.provider.count(Want.LATEST) > 3 for gateway in fleet)
    store.error, store.hangs = None, False
    for gateway in fleet:
        gateway.shared._election._timeout_s = 1.0
    await run(world, 0.2, *fleet)
    parts = sorted(gateway.source.part for gateway in fleet)
    assert parts == [Part.FOLLOWS] * 3 + [Part.LEADS]
    assert not any(gateway.source.sharing_trouble for gateway in fleet)
    # Said once at each change, not at every refresh; no address in it.
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "asking for ourselves" in text]) == 4
    assert len([text for text in said if "shared again" in text]) == 4
    assert "secret-host" not in "".join(said)


async def test_a_leader_that_falls_silent_is_not_waited_for(
    world: World, store: WorldStore
) -> None:
    second = Gateway("second", store, world)
    calls = 0
    for _ in range(40):
        # Somebody keeps the lease and stores nothing.
        assert await store.acquire(KEY, "zombie", 180.0, world.now)
        await second.refresh()
        world.now += STEP
        calls = calls or len(second.provider.calls)
    assert second.source.part is Part.ALONE
    assert "silent" in second.source.sharing_trouble
    assert set(second.values) == set(ZONES)
    # It is back, and speaks.
    await store.release(KEY, "zombie")
    first = Gateway("first", store, world)
    await run(world, 0.2, first, second)
    assert {first.source.part, second.source.part} == {Part.LEADS, Part.FOLLOWS}
    assert second.source.sharing_trouble == ""


@pytest.mark.parametrize("skew_s", [-7200.0, -5.0, 5.0, 60.0, 7200.0])
async def test_clocks_that_differ_cost_no_call_and_elect_nobody(
    world: World, store: WorldStore, skew_s: float
) -> None:
    off = Gateway("off", store, world, skew_s=skew_s)
    right = Gateway("right", store, world)
    # Values are of the provider's time, whoever asks.
    off.provider.frozen_at = right.provider.frozen_at = T0 - 3 * HOUR
    await run(world, 2, off, right)
    assert (off.source.part, right.source.part) == (Part.LEADS, Part.FOLLOWS)
    assert right.provider.calls == []
    assert right.values == off.values
    await off.source.close()
    off.provider.frozen_at = right.provider.frozen_at = float("inf")
    await run(world, 4, right)
    assert right.source.part is Part.LEADS
    # It asks as if the calls of a clock that is ahead had been made now.
    assert right.provider.by_zone(Want.FORECAST)["A"] >= 1
    assert all(value.age_s(world.now) < 2.5 * HOUR for value in right.values.values())


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"v":2}', b"\xff\xfe", b"null"])
async def test_garbage_in_the_store_is_passed_over(
    garbage: bytes, world: World, store: WorldStore
) -> None:
    first, second = Gateway("first", store, world), Gateway("second", store, world)
    await run(world, 0.5, first, second)
    values = second.values
    for key in await store.scan("carbon/", world.now):
        await store.put(key, garbage, HOUR, world.now)
    await store.exchange(KEY, "stranger", garbage, HOUR, world.now)
    await second.refresh()
    assert second.values == values
    third = Gateway("third", store, world)
    await third.refresh()
    assert third.values == {}
    await run(world, 0.5, first, second, third)
    assert third.values == first.values
    assert second.provider.calls == []


async def test_a_write_that_is_large_goes_in_parts_and_stops_with_the_lease(
    world: World, store: WorldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.carbon.polling.shared._BATCH_BYTES", 10)
    first = Gateway("first", store, world)
    await run(world, 0.1, first)
    before = store.calls
    values = {zone: first.past[zone][-1:] for zone in ZONES}

    async def publish() -> bool:
        return await first.shared.publish(values, {}, first.source._poller.seen())

    assert await publish()
    # A write a zone, and the index.
    assert store.calls - before == len(ZONES) + 1
    publishing = asyncio.ensure_future(publish())
    await asyncio.sleep(0)
    world.now += LEASE_S
    assert not await publishing
