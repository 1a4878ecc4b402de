"""Who asks for weather and when: alone, with others at one store, and when everything fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from router.app.compose import build_rng
from router.carbon.chain.attempt import ROWS_DROPPED
from router.carbon.polling.election import LEASE_S, Part, PollerElection
from router.carbon.polling.fleet_calls import ElectedCalls
from router.carbon.polling.shared_weather import SharedWeather
from router.carbon.polling.weather_feed import WeatherFeed
from router.carbon.providers.budget import CallLimit
from router.carbon.providers.rows import Dropped, Fault
from router.carbon.weather.conditions import WeatherForecast
from router.carbon.weather.open_meteo import WeatherPoint
from router.errors import (
    CallBudgetError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderUnavailableError,
    StateStoreError,
)
from tests.carbon.polling.gateways import World, WorldStore

NOW = 1_652_486_400.0
EVERY = 10_800.0
POINTS = {
    "DE": [WeatherPoint(52.5, 13.4)],
    "GB": [WeatherPoint(51.5, 0.0), WeatherPoint(55.9, -3.2)],
}


class Provider:
    """Counts who is asked for; says whatever ``says`` holds for a zone."""

    name = "open_meteo"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.says: dict[str, ProviderError | tuple[Dropped, ...]] = {}
        self.hold: asyncio.Event | None = None

    async def fetch(
        self, grid_zone: str, points: Sequence[WeatherPoint], now: float
    ) -> tuple[WeatherForecast, tuple[Dropped, ...]]:
        self.asked.append(grid_zone)
        if self.hold is not None:
            await self.hold.wait()
        said = self.says.get(grid_zone, ())
        if isinstance(said, ProviderError):
            raise said
        values = np.full((5, 5), float(len(points)))
        values[2, 1] = np.nan
        return WeatherForecast(self.name, now, round(now / 3600.0), values), said


class Clock:
    """Of all gateways alike."""

    def __init__(self, world: World) -> None:
        self.world = world

    def now(self) -> float:
        return self.world.now

    def monotonic(self) -> float:
        return self.world.now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps")


def feed(
    provider: Provider, shared: SharedWeather | None = None, **more: object
) -> tuple[WeatherFeed, dict[str, WeatherForecast]]:
    taken: dict[str, WeatherForecast] = {}
    made = WeatherFeed(
        provider, POINTS, taken.__setitem__, build_rng(1), EVERY, shared=shared,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return made, taken


class Gateway:
    """One of several: its feed, what it took, and its part of a limit of calls."""

    def __init__(self, name: str, store: WorldStore, provider: Provider, calls: int = 100) -> None:
        self.world = store.world
        clock = Clock(self.world)
        election = PollerElection(store, "weather/open_meteo", name, clock, build_rng(2))
        elected = ElectedCalls(store, election, clock)
        self.allowance = elected.within([CallLimit(calls, 3600.0)])
        shared = SharedWeather(store, elected, clock, "open_meteo")
        self.feed, self.taken = feed(provider, shared)

    async def refresh(self, *zones: str) -> None:
        await self.feed.refresh(zones or POINTS, self.world.now)


async def test_a_zone_is_asked_for_as_seldom_as_it_is_due() -> None:
    provider = Provider()
    weather, taken = feed(provider)
    await weather.refresh(["DE", "GB", "FR", "DE"], NOW)
    assert sorted(provider.asked) == ["DE", "GB"] and set(taken) == {"DE", "GB"}
    assert weather.attempts["DE"].ok and "FR" not in weather.attempts
    for after in (60.0, 0.9 * EVERY):
        await weather.refresh(["DE", "GB"], NOW + after)
    assert len(provider.asked) == 2
    await weather.refresh(["DE", "GB"], NOW + 1.06 * EVERY)
    assert len(provider.asked) == 4 and taken["DE"].issued_at == NOW + 1.06 * EVERY


async def test_what_is_known_is_not_asked_for_at_once() -> None:
    provider = Provider()
    weather, _ = feed(provider, known={"DE": NOW - 3600.0})
    await weather.refresh(["DE", "GB"], NOW)
    assert provider.asked == ["GB"]
    await weather.refresh(["DE"], NOW + EVERY - 3600.0)
    assert provider.asked == ["GB", "DE"]


@pytest.mark.parametrize(
    "error",
    [ProviderAnswerError("open_meteo: no"), ProviderUnavailableError("open_meteo: no")],
)
async def test_a_failure_backs_off_and_is_told(error: ProviderError) -> None:
    provider = Provider()
    provider.says["DE"] = error
    weather, taken = feed(provider)
    times = []
    for minute in range(240):
        before = len(provider.asked)
        await weather.refresh(["DE"], NOW + 60.0 * minute)
        if len(provider.asked) > before:
            times.append(minute)
    assert not taken and weather.attempts["DE"] == ("open_meteo", False, "no", error.reason, None)
    assert len(times) < 12 and times[1] - times[0] <= 3 and times[-1] - times[-2] > 20


async def test_a_provider_that_asks_to_wait_is_left_alone() -> None:
    for error in (ProviderBusyError("busy", 900.0), CallBudgetError("spent", 900.0)):
        provider = Provider()
        provider.says["DE"] = error
        weather, taken = feed(provider)
        await weather.refresh(["DE"], NOW)
        await weather.refresh(["DE", "GB"], NOW + 890.0)
        assert provider.asked == ["DE"]
        provider.says.clear()
        await weather.refresh(["DE", "GB"], NOW + 910.0)
        assert set(taken) == {"DE", "GB"}


async def test_lost_rows_are_told_of_a_good_answer() -> None:
    provider = Provider()
    provider.says["DE"] = (Dropped(Fault.OUT_OF_RANGE, 2, "row 5: 300 is no temperature"),)
    weather, taken = feed(provider)
    await weather.refresh(["DE"], NOW)
    assert "DE" in taken and weather.attempts["DE"].ok
    assert weather.attempts["DE"].code == ROWS_DROPPED and "2 rows" in weather.attempts["DE"].why


async def test_a_clock_that_steps_back_does_not_silence_it() -> None:
    provider = Provider()
    weather, _ = feed(provider)
    await weather.refresh(["DE"], NOW)
    await weather.refresh(["DE"], NOW - 30 * 86_400.0)
    await weather.refresh(["DE"], NOW - 30 * 86_400.0 + 1.06 * EVERY)
    assert provider.asked == ["DE", "DE"]


def fleet(provider: Provider, count: int, calls: int = 100) -> tuple[WorldStore, list[Gateway]]:
    store = WorldStore(World())
    store.world.now = NOW
    return store, [Gateway(f"g{n}", store, provider, calls) for n in range(count)]


async def test_of_gateways_that_share_a_store_one_asks() -> None:
    provider = Provider()
    store, gateways = fleet(provider, 4)
    provider.hold = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for gateway in gateways:
            tasks.create_task(gateway.refresh())
        while len(provider.asked) < 2:
            await asyncio.sleep(0)
        provider.hold.set()
    assert [one.feed.part for one in gateways] == [Part.LEADS, *[Part.FOLLOWS] * 3]
    store.world.now += 2.0
    for gateway in gateways:
        await gateway.refresh()
    assert sorted(provider.asked) == ["DE", "GB"]
    values = [gateway.taken["GB"].values for gateway in gateways]
    assert all(np.array_equal(values[0], other, equal_nan=True) for other in values)
    # The one that asked is gone: another does, and nothing before it is due.
    store.world.now += LEASE_S
    for gateway in gateways[1:]:
        assert await gateway.feed.beat() is (gateway is gateways[1])
        await gateway.refresh()
    assert len(provider.asked) == 2
    store.world.now = NOW + 1.2 * EVERY
    for gateway in gateways[1:]:
        await gateway.refresh()
    assert len(provider.asked) == 4


async def test_one_that_leaves_lets_another_ask_at_once() -> None:
    provider = Provider()
    store, (first, second) = fleet(provider, 2)
    await first.refresh("DE")
    await first.feed.close()
    store.world.now += 2.0
    await second.refresh()
    assert second.feed.part is Part.LEADS and provider.asked == ["DE", "GB"]


async def test_whoever_asks_asks_for_what_the_others_want_too() -> None:
    provider = Provider()
    store, (first, second) = fleet(provider, 2)
    await first.refresh("DE")
    await second.refresh("GB")
    store.world.now += 2.0
    await first.refresh("DE")
    await second.refresh("GB")
    assert provider.asked == ["DE", "GB"] and set(second.taken) == {"GB"}


async def test_the_limit_is_of_all_gateways_and_outlives_who_called() -> None:
    store, (first, second) = fleet(Provider(), 2, calls=5)
    await first.refresh()
    assert [await first.allowance.spend(NOW) for _ in range(4)] == [0.0] * 4
    assert await second.allowance.spend(NOW) > 0.0
    await first.feed.close()
    store.world.now += 2.0
    await second.refresh()
    assert second.feed.part is Part.LEADS
    assert await second.allowance.spend(NOW) == 0.0
    assert await second.allowance.spend(NOW) > 2000.0


async def test_a_store_that_fails_keeps_nobody_from_asking_within_its_part() -> None:
    provider = Provider()
    store, gateways = fleet(provider, 2, calls=6)
    for gateway in gateways:
        await gateway.refresh("DE")
    # Each learns of the other, and that nothing was called.
    for _ in range(8):
        store.world.now += 2.0
        for gateway in gateways:
            await gateway.feed.beat()
    store.error = StateStoreError("gone")
    store.world.now += 1.1 * EVERY
    for gateway in gateways:
        await gateway.refresh("DE")
    store.world.now += 200.0
    for gateway in gateways:
        await gateway.refresh("DE")
        assert gateway.feed.part is Part.ALONE
    assert provider.asked == ["DE"] * 3
    made = [sum([await one.allowance.spend(NOW) == 0.0 for _ in range(9)]) for one in gateways]
    assert made == [3, 3]


async def test_what_could_not_be_shared_is_shared_once_it_can_be() -> None:
    provider = Provider()
    store, (first, second) = fleet(provider, 2)
    await first.feed.beat()
    await second.feed.beat()
    # The store fails between the answer and the word of it.
    provider.hold = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first.refresh())
        while len(provider.asked) < 2:
            await asyncio.sleep(0)
        store.error = StateStoreError("gone")
        provider.hold.set()
    store.error = None
    for _ in range(2):
        store.world.now += 2.0
        await first.refresh()
        await second.refresh()
    assert first.feed.part is Part.LEADS and len(provider.asked) == 2
    assert set(second.taken) == {"DE", "GB"}


async def test_what_a_store_holds_is_believed_only_if_it_can_be() -> None:
    provider = Provider()
    store, (gateway,) = fleet(provider, 1)
    await store.put("weather/open_meteo/DE", b'{"issued_at": 1e999}', 1e9, NOW)
    await gateway.refresh("DE")
    assert provider.asked == ["DE"] and gateway.taken["DE"].issued_at == NOW
