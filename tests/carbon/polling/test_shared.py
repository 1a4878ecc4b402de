"""Two gateways over one store: one asks, both know."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.polling.shared import Part, SharedReadings
from router.carbon.polling.source import PolledSource
from router.carbon.providers.provider import Want
from router.contract import StateStore
from router.errors import ProviderRefusedError
from router.state.memory import MemoryStore
from tests.carbon.stub_provider import HOUR, SIGNAL, StubProvider

T0 = 1_652_486_400.0
ZONES = ("A", "B", "C")
STEP = 60.0


class Gateway:
    """One gateway with its own link to the provider and a store that several share."""

    def __init__(self, holder: str, store: StateStore, zones: tuple[str, ...] = ZONES) -> None:
        self.provider = StubProvider(("A", "B", "C", "D"))
        self.zones = zones
        rng = random.Random(holder)
        self.shared = SharedReadings(store, "stub", SIGNAL, holder, rng, timeout_s=0.02)
        self.source = PolledSource(self.provider, rng, shared=self.shared)

    async def refresh(self, now: float) -> None:
        self.values = await self.source.read(self.zones, now)
        self.ahead = await self.source.forecast(self.zones, now, 96)
        self.past = await self.source.history(self.zones, now, 216)


async def run(since: float, hours: float, *gateways: Gateway) -> float:
    steps = int(hours * HOUR / STEP)
    for step in range(steps):
        for place, gateway in enumerate(gateways):
            await gateway.refresh(since + step * STEP + place)
    return since + steps * STEP


class Flaky(MemoryStore):
    """Fails in whichever way it is told to."""

    error: Exception | None = None
    hangs = False

    async def _trouble(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        await self._trouble()
        await super().put(key, value, ttl_s, now)

    async def get(self, key: str, now: float) -> bytes | None:
        await self._trouble()
        return await super().get(key, now)

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> bool:
        await self._trouble()
        return await super().acquire(name, holder, ttl_s, now)


async def test_one_gateway_asks_and_both_know_the_same() -> None:
    store = MemoryStore()
    first, second = Gateway("first", store), Gateway("second", store)
    await run(T0, 10, first, second)
    assert (first.source.part, second.source.part) == (Part.LEADS, Part.FOLLOWS)
    assert second.provider.calls == []
    assert set(first.values) == set(ZONES)
    assert (second.values, second.ahead, second.past) == (first.values, first.ahead, first.past)
    assert first.provider.count(Want.LATEST) <= 3 * 10 * 1.4


async def test_a_follower_takes_over_when_the_holder_dies_and_asks_for_nothing_twice() -> None:
    store = MemoryStore()
    first, second = Gateway("first", store), Gateway("second", store)
    now = await run(T0, 5, first, second)
    # A revision that only the dead holder was told of is known, too.
    now = await run(now, 5, second)
    assert second.source.part is Part.LEADS
    # The first forecast and history of the follower came from the store.
    assert second.provider.by_zone(Want.FORECAST)["A"] <= 2
    assert second.provider.by_zone(Want.HISTORY)["A"] <= 1
    assert all(value.age_s(now) < 1.4 * HOUR for value in second.values.values())
    assert len(second.past["A"]) >= 216
    # Back again, the first one reads along.
    calls = len(first.provider.calls)
    await run(now, 2, first, second)
    assert (first.source.part, len(first.provider.calls)) == (Part.FOLLOWS, calls)
    assert first.values == second.values


async def test_leaving_hands_over_at_once() -> None:
    store = MemoryStore()
    first, second = Gateway("first", store), Gateway("second", store)
    now = await run(T0, 1, first, second)
    await first.source.close()
    await second.refresh(now)
    assert second.source.part is Part.LEADS


async def test_the_holder_asks_for_zones_that_only_a_follower_wants() -> None:
    store = MemoryStore()
    first, second = Gateway("first", store), Gateway("second", store, ("A", "D"))
    await run(T0, 2, first, second)
    assert second.provider.calls == []
    assert set(second.values) == {"A", "D"} == set(second.ahead)


async def test_a_follower_says_what_the_holder_met() -> None:
    store = MemoryStore()
    first, second = Gateway("first", store), Gateway("second", store)
    first.provider.zone_errors["B"] = ProviderRefusedError("stub: B is outside the plan")
    await run(T0, 1, first, second)
    assert set(second.values) == {"A", "C"}
    last = second.source.last_attempt("B", Want.LATEST)
    assert last == SourceAttempt("stub", False, "B is outside the plan", "provider_refused")


@pytest.mark.parametrize("fault", ["error", "hang"])
async def test_without_the_store_each_asks_for_itself_not_all_at_once_and_says_so(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = Flaky()
    fleet = [Gateway(f"gateway {i}", store) for i in range(4)]
    now = await run(T0, 2, *fleet)
    if fault == "error":
        store.error = ConnectionError("secret-host:6379 refused")
    else:
        store.hangs = True
    hours = 3 if fault == "error" else 0.2
    started = {}
    for step in range(int(hours * 60)):
        for gateway in fleet:
            await gateway.refresh(now)
            if gateway.source.part is Part.ALONE:
                started.setdefault(gateway, step)
            assert set(gateway.values) == set(ZONES)
        now += STEP
    assert len(started) == 4 and len(set(started.values())) > 1
    assert all("state store fails" in gateway.source.sharing_trouble for gateway in fleet)
    if fault == "error":
        assert all(gateway.provider.count(Want.LATEST) > 3 for gateway in fleet)
    store.error, store.hangs = None, False
    now = await run(now, 0.2, *fleet)
    parts = sorted(gateway.source.part for gateway in fleet)
    assert parts == [Part.FOLLOWS] * 3 + [Part.LEADS]
    assert not any(gateway.source.sharing_trouble for gateway in fleet)
    # Said once at each change, not at every refresh; no address in it.
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "asking for ourselves" in text]) == 4
    assert "secret-host" not in "".join(said)


async def test_a_holder_that_falls_silent_is_not_waited_for() -> None:
    store = MemoryStore()
    second = Gateway("second", store)
    key = "carbon/stub/average-lifecycle"
    for step in range(40):
        now = T0 + step * STEP
        # Somebody keeps the lease and stores nothing.
        assert await store.acquire(key, "zombie", 180.0, now)
        await second.refresh(now)
    assert second.source.part is Part.ALONE
    assert "silent" in second.source.sharing_trouble
    assert set(second.values) == set(ZONES)


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"v":2}', b"\xff\xfe", b"null"])
async def test_garbage_in_the_store_is_passed_over(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    first, second = Gateway("first", store), Gateway("second", store)
    now = await run(T0, 1, first, second)
    values = second.values
    for key in await store.scan("carbon/", now):
        await store.put(key, garbage, HOUR, now)
    await second.refresh(now)
    assert second.values == values
    third = Gateway("third", store)
    await third.refresh(now)
    assert third.values == {}
    now = await run(now, 3, first, second, third)
    assert third.values == first.values
    assert second.provider.calls == []
