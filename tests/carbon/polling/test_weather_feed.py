"""Who asks for weather and when: alone, with others at one store, and when everything fails."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np
import pytest

from router.app.compose import build_rng
from router.carbon.chain.attempt import ROWS_DROPPED
from router.carbon.polling.weather_feed import WeatherFeed, decode, encode
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
from router.state.memory import MemoryStore

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


class Failing(MemoryStore):
    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        raise StateStoreError("gone")

    async def get(self, key: str, now: float) -> bytes | None:
        raise StateStoreError("gone")

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        raise StateStoreError("gone")


def feed(
    provider: Provider, store: MemoryStore | None = None, holder: str = "a", **more: object
) -> tuple[WeatherFeed, dict[str, WeatherForecast]]:
    taken: dict[str, WeatherForecast] = {}
    made = WeatherFeed(
        provider, POINTS, taken.__setitem__, build_rng(1), EVERY, store=store, holder=holder,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return made, taken


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


async def test_of_gateways_that_share_a_store_one_asks() -> None:
    store, provider = MemoryStore(), Provider()
    feeds = [feed(provider, store, f"g{n}") for n in range(4)]
    provider.hold = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for weather, _ in feeds:
            tasks.create_task(weather.refresh(["DE", "GB"], NOW))
        while len(provider.asked) < 2:
            await asyncio.sleep(0)
        provider.hold.set()
    for weather, _ in feeds:
        await weather.refresh(["DE", "GB"], NOW + 61.0)
    assert sorted(provider.asked) == ["DE", "GB"]
    values = [taken["GB"].values for _, taken in feeds]
    assert all(np.array_equal(values[0], other, equal_nan=True) for other in values)
    # The one that asked is gone: another does.
    for weather, _ in feeds[1:]:
        await weather.refresh(["DE", "GB"], NOW + 1.2 * EVERY)
    assert len(provider.asked) == 4


async def test_a_store_that_fails_keeps_nobody_from_asking() -> None:
    provider = Provider()
    weather, taken = feed(provider, Failing())
    await weather.refresh(["DE"], NOW)
    assert provider.asked == ["DE"] and "DE" in taken


async def test_what_a_store_holds_is_believed_only_if_it_can_be() -> None:
    store, provider = MemoryStore(), Provider()
    await store.put("weather/open_meteo/DE", b'{"issued_at": 1e999}', 1e9, NOW)
    weather, taken = feed(provider, store)
    await weather.refresh(["DE"], NOW)
    assert provider.asked == ["DE"] and taken["DE"].issued_at == NOW


def test_what_is_kept_comes_back() -> None:
    values = np.random.default_rng(1).uniform(0.0, 20.0, (300, 5)).round(3)
    values[7, 3] = math.nan
    kept = WeatherForecast("open_meteo", NOW, 459_024, values)
    found = decode(encode(kept), "open_meteo")
    assert found is not None and found[:3] == kept[:3]
    assert np.array_equal(found.values, values, equal_nan=True)
    assert len(encode(kept)) < 20_000
    hot = values.copy()
    hot[0, 2] = 285.0
    for bad in (
        None, b"", b"[]", b"{}", b"\xff", b"[" * 100_000, encode(kept)[:-3],
        encode(kept._replace(values=values[:, :4])), encode(kept._replace(values=hot)),
        b'{"issued_at": 1, "first_h": 1e400, "values": []}', b"x" * 2_000_000,
    ):  # fmt: skip
        assert decode(bad, "open_meteo") is None
