"""Weather from a file and from points, through the gateway's own chains to the forecaster."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.app.carbon import build as carbon_room
from router.app.carbon.chains import CarbonChains
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.compose import build_rng
from router.carbon.polling.election import Part
from router.config import Config
from router.errors import ConfigError, TraceError
from router.state.memory import MemoryStore
from tests.app.support import START, stamp, trace
from tests.config.samples import loaded
from tests.factories import HOUR
from tests.fakes.faults import Fault, What
from tests.fakes.open_meteo import FakeOpenMeteo
from tests.fakes.serving import serving
from tests.fakes.world import World

WEST, EAST = "US-CAL-CISO", "US-MIDA-PJM"
POINTS = {WEST: [{"lat": 36.0, "lon": -119.0}, {"lat": 34.0, "lon": -118.0, "weight": 2}]}
HEADER = (
    "datetime,grid_zone,wind_speed_m_s,irradiance_w_m2,temperature_c,dew_point_c,precipitation_mm"
)
NOW = START + 600.0


def weather_file(folder: Path, hours_back: int = 24 * 9, wind: float = 6.0) -> str:
    rows = [
        f"{stamp(START + hour * HOUR)},{WEST},{wind + hour % 5},{hour % 24 * 10},12,7,0"
        for hour in range(-hours_back, 120)
    ]
    (folder / "weather.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    os.utime(folder / "weather.csv", (NOW - HOUR, NOW - HOUR))
    return "weather.csv"


def config_of(folder: Path, weather: dict[str, Any], **carbon: Any) -> Config:
    rows = [(100 + hour % 24, 200) for hour in range(24 * 10)]
    trace(folder, *rows, start=START - 240 * HOUR, name="past.csv")
    sources = [{"kind": "static", "g_per_kwh": {WEST: 50, EAST: 60}}]
    history = {"file": "past.csv"}
    return loaded(
        folder, {"carbon": {"sources": sources, "history": history, "weather": weather, **carbon}}
    )


@asynccontextmanager
async def live(fake: FakeOpenMeteo) -> AsyncIterator[tuple[str, ProviderDeps]]:
    sessions = Sessions()
    environ: Mapping[str, str] = {"OM_KEY": "om-secret-1"}
    async with serving(fake) as url:
        yield url, ProviderDeps(fake.world, build_rng(1), environ, sessions)
        await sessions.close()


def sources(chains: CarbonChains, zone: str, now: float = NOW) -> Sequence[str]:
    assert chains.forecaster is not None
    forecast = chains.forecaster.forecast(zone, now, 12)
    return [slot.source for slot in forecast.slots]


async def test_a_file_has_its_say_where_it_reaches(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"file": weather_file(tmp_path)})
    chains = carbon_room.configured_carbon(config, NOW)
    with_it = "nowcast(history:past.csv, weather:weather.csv)"
    assert set(sources(chains, WEST)) == {with_it}
    assert set(sources(chains, EAST)) == {"nowcast(history:past.csv)"}
    await chains.refresh([WEST, EAST], NOW)
    told = [a for a in chains.attempts()[WEST] if a.source == "weather:weather.csv"]
    assert [(a.ok, a.age_s) for a in told] == [(True, HOUR)]
    # Of a zone that it does not have it says nothing.
    assert all(a.source != "weather:weather.csv" for a in chains.attempts()[EAST])
    # A broken file is told, and what was known stays until it is too old.
    (tmp_path / "weather.csv").write_text("nothing")
    await chains.refresh([WEST, EAST], NOW + 3 * HOUR)
    told = [a for a in chains.attempts()[WEST] if a.source == "weather:weather.csv"]
    assert [(a.ok, a.code) for a in told] == [(False, "trace_invalid")]
    assert sources(chains, WEST)[0] == with_it


def test_a_file_that_cannot_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"file": weather_file(tmp_path)})
    (tmp_path / "weather.csv").write_text("nothing")
    with pytest.raises(TraceError, match="no column datetime"):
        carbon_room.configured_carbon(config, NOW)


async def test_points_are_asked_for_and_a_reload_does_not_ask_again(tmp_path: Path) -> None:
    fake = FakeOpenMeteo(World(NOW), keys=["om-secret-1"])
    async with live(fake) as (url, deps):
        weather = {"points": POINTS, "base_url": url, "key_env": "OM_KEY"}
        config = config_of(tmp_path, weather)
        chains = carbon_room.configured_carbon(config, NOW, deps)
        assert set(sources(chains, WEST)) == {"nowcast(history:past.csv)"}
        await chains.refresh([WEST, EAST], NOW)
        assert len(fake.calls) == 2
        assert set(sources(chains, WEST)) == {"nowcast(history:past.csv, open_meteo)"}
        told = [a for a in chains.attempts()[WEST] if a.source == "open_meteo"]
        assert [(a.ok, a.age_s) for a in told] == [(True, 0.0)]
        again = carbon_room.configured_carbon(config, NOW, deps, chains)
        await again.refresh([WEST, EAST], NOW)
        assert len(fake.calls) == 2
        assert set(sources(again, WEST)) == {"nowcast(history:past.csv, open_meteo)"}
        other = config_of(tmp_path, {**weather, "points": {EAST: POINTS[WEST]}})
        without = carbon_room.configured_carbon(other, NOW, deps, again)
        assert without.forecaster is again.forecaster
        assert set(sources(without, WEST)) == {"nowcast(history:past.csv)"}


async def test_without_an_answer_the_past_alone_counts_and_it_is_told(tmp_path: Path) -> None:
    fake = FakeOpenMeteo(World(NOW), faults=[Fault(What.SERVER_ERROR)])
    async with live(fake) as (url, deps):
        config = config_of(tmp_path, {"points": POINTS, "base_url": url})
        chains = carbon_room.configured_carbon(config, NOW, deps)
        await chains.refresh([WEST, EAST], NOW)
        assert set(sources(chains, WEST)) == {"nowcast(history:past.csv)"}
        told = [a for a in chains.attempts()[WEST] if a.source == "open_meteo"]
        assert [(a.ok, a.code) for a in told] == [(False, "provider_unavailable")]


async def test_a_limit_of_calls_is_kept(tmp_path: Path) -> None:
    fake = FakeOpenMeteo(World(NOW))
    async with live(fake) as (url, deps):
        weather = {"points": {**POINTS, EAST: POINTS[WEST]}, "base_url": url, "calls_per_h": 3}
        chains = carbon_room.configured_carbon(config_of(tmp_path, weather), NOW, deps)
        await chains.refresh([WEST, EAST], NOW)
        assert len(fake.calls) == 3
        codes = {a.code for a in (*chains.attempts()[WEST], *chains.attempts()[EAST])}
        assert "call_budget_spent" in codes


async def test_the_limit_is_of_all_gateways_and_a_reload_neither_resets_nor_blocks_it(
    tmp_path: Path,
) -> None:
    world, store = World(NOW), MemoryStore()
    fake = FakeOpenMeteo(world)
    async with live(fake) as (url, deps):
        weather = {"points": {**POINTS, EAST: POINTS[WEST]}, "base_url": url, "calls_per_h": 3}
        config = config_of(tmp_path, weather)
        first, second = (
            carbon_room.configured_carbon(config, NOW, deps._replace(store=store, holder=name))
            for name in ("a", "b")
        )
        await first.refresh([WEST, EAST], NOW)
        await second.refresh([WEST, EAST], NOW)
        assert len(fake.calls) == 3
        assert first.weather is not None and second.weather is not None
        assert first.weather.parts == {"open_meteo": Part.LEADS}
        assert second.weather.parts == {"open_meteo": Part.FOLLOWS}
        # What one was answered both have.
        had = [sources(chains, WEST)[0] for chains in (first, second)]
        assert had == ["nowcast(history:past.csv, open_meteo)"] * 2
        again = carbon_room.configured_carbon(
            config, NOW, deps._replace(store=store, holder="a"), first
        )
        await first.close(again)
        world.advance(3900.0)
        await again.refresh([WEST, EAST], world.now())
        assert again.weather is not None
        assert again.weather.parts == {"open_meteo": Part.LEADS}
        assert len(fake.calls) == 5
        assert sources(again, EAST, world.now())[0].endswith("open_meteo)")
        for chains in (again, second):
            await chains.close()


def test_a_key_that_is_missing_names_its_variable(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"points": POINTS, "key_env": "NOT_SET"})
    deps = ProviderDeps(World(NOW), build_rng(1), {}, Sessions())
    with pytest.raises(ConfigError) as caught:
        carbon_room.configured_carbon(config, NOW, deps)
    assert "NOT_SET" in str(caught.value)
