"""Faults are on for whom, where and when they should be; the world's clock rules them."""

from __future__ import annotations

import asyncio
import base64
import math
import ssl
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.eia import FakeEia
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.entsoe import FakeEntsoe
from tests.fakes.faults import Fault, What
from tests.fakes.serving import serving
from tests.fakes.watttime import FakeWattTime
from tests.fakes.world import DAY, HOUR, World

T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
LATEST = "/v3/carbon-intensity/latest"
KEY = {"auth-token": "em-key"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"wt-user:wt-password").decode()}


async def status(url: str, path: str, **params: str) -> int:
    async with (
        aiohttp.ClientSession(url) as session,
        session.get(path, params=params, headers=KEY) as response,
    ):
        await response.read()
        return response.status


async def test_a_fault_is_on_in_its_window_zone_and_endpoint_only() -> None:
    world = World(T0)
    fault = Fault(What.SERVER_ERROR, "DE", "latest", T0 + 60.0, T0 + 120.0, status=503)
    async with serving(FakeElectricityMaps(world, ["DE", "FR"], faults=[fault])) as url:
        assert await status(url, LATEST, zone="DE") == 200
        world.advance(60.0)
        assert await status(url, LATEST, zone="DE") == 503
        assert await status(url, LATEST, zone="FR") == 200
        assert await status(url, "/v3/carbon-intensity/history", zone="DE") == 200
        world.advance(60.0)
        assert await status(url, LATEST, zone="DE") == 200


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_in_both_notations(as_date: bool) -> None:
    world = World(T0)
    fault = Fault(What.TOO_MANY, retry_after_s=90.0, as_date=as_date)
    async with (
        serving(FakeElectricityMaps(world, ["DE"], faults=[fault])) as url,
        aiohttp.ClientSession(url) as session,
        session.get(LATEST, params={"zone": "DE"}, headers=KEY) as response,
    ):
        assert response.status == 429
        told = response.headers["Retry-After"]
        assert parsedate_to_datetime(response.headers["Date"]).timestamp() == T0
    assert (parsedate_to_datetime(told).timestamp() - T0 if as_date else float(told)) == 90.0


async def test_a_limit_counts_on_the_worlds_clock() -> None:
    world = World(T0)
    fake = FakeWattTime(world, ["CAISO_NORTH"])
    async with serving(fake) as url, aiohttp.ClientSession(url) as session:

        async def login() -> int:
            async with session.get("/login", headers=BASIC) as response:
                return response.status

        assert [await login() for _ in range(100)] == [200] * 100
        assert await login() == 429
        world.advance(301.0)
        assert await login() == 200


async def test_a_token_lasts_thirty_minutes() -> None:
    world = World(T0)
    query = {"region": "CAISO_NORTH", "signal_type": "co2_moer"}
    fake = FakeWattTime(world, ["CAISO_NORTH"])
    async with serving(fake) as url, aiohttp.ClientSession(url) as session:
        async with session.get("/login", headers=BASIC) as response:
            bearer = {"Authorization": f"Bearer {(await response.json())['token']}"}
        for passed, expected in ((1799.0, 200), (1.0, 401)):
            world.advance(passed)
            async with session.get("/v3/forecast", params=query, headers=bearer) as response:
                assert response.status == expected


async def test_slow_waits_for_the_test_and_no_longer() -> None:
    fake = FakeElectricityMaps(World(T0), ["DE"], faults=[Fault(What.SLOW)])
    async with serving(fake) as url, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(status(url, LATEST, zone="DE"))
        while not fake.slow_calls:
            await asyncio.sleep(0)
        assert not asking.done()
        fake.release.set()
        assert await asking == 200


@pytest.mark.parametrize("what", [What.DEAD, What.TRUNCATED])
async def test_broken_connections(what: What) -> None:
    fake = FakeElectricityMaps(World(T0), ["DE"], faults=[Fault(what)])
    async with serving(fake) as url:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError)):
            await status(url, LATEST, zone="DE")


async def test_huge_is_valid_all_the_same() -> None:
    fake = FakeElectricityMaps(World(T0), ["DE"], faults=[Fault(What.HUGE)])
    fake.huge_bytes = 1 << 20
    async with (
        serving(fake) as url,
        aiohttp.ClientSession(url) as session,
        session.get(LATEST, params={"zone": "DE"}, headers=KEY) as response,
    ):
        body = await response.read()
        assert len(body) > 1 << 20
        assert (await response.json())["zone"] == "DE"


async def test_a_certificate_of_nobodys_is_refused() -> None:
    async with serving(FakeElectricityMaps(World(T0), ["DE"]), tls=True) as url:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await status(url, LATEST, zone="DE")
        async with aiohttp.ClientSession(url) as session:
            lax = ssl.create_default_context()
            lax.check_hostname, lax.verify_mode = False, ssl.CERT_NONE
            async with session.get(LATEST, ssl=lax) as response:
                assert response.status == 401


async def test_eia_pages_and_echoes() -> None:
    world = World(T0)
    query = {
        "api_key": "eia-key", "frequency": "hourly", "data[]": "value",
        "facets[respondent][]": "CISO", "start": "2022-05-13T00", "length": "100",
    }  # fmt: skip
    fake = FakeEia(world, {"CISO": "US-CAL-CISO"})
    seen: list[dict[str, str]] = []
    async with serving(fake) as url, aiohttp.ClientSession(url) as session:
        for offset in ("0", "100"):
            params = {**query, "offset": offset}
            path = "/v2/electricity/rto/fuel-type-data/data/"
            async with session.get(path, params=params) as response:
                told = await response.json()
            assert told["response"]["total"] == "150", "25 hours of six fuels"
            assert told["request"]["params"]["api_key"] == "eia-key"
            seen += told["response"]["data"]
    assert len({(row["period"], row["fueltype"]) for row in seen}) == 150
    by_hour = {row["period"]: row["value"] for row in seen if row["fueltype"] == "NG"}
    # Stamped with its end: the hour from 23:00 to midnight.
    gas = world.mix_mw("US-CAL-CISO", T0 - HOUR)["gas"]
    assert float(by_hour["2022-05-14T00"]) == gas


async def test_entsoe_leaves_out_what_repeats() -> None:
    world = World(T0)
    span = {"periodStart": "202205130000", "periodEnd": "202205130200"}
    query = {"documentType": "A75", "processType": "A16", "in_Domain": "DE"} | span
    params = {**query, "securityToken": "entsoe-key"}
    async with (
        serving(FakeEntsoe(world, {"DE": "DE"})) as url,
        aiohttp.ClientSession(url) as session,
        session.get("/api", params=params) as response,
    ):
        text = await response.text()
    # Eight quarter-hours of constant nuclear power are one point.
    nuclear = text.split("<psrType>B14</psrType>")[1].split("</TimeSeries>")[0]
    assert nuclear.count("<Point>") == 1


@given(
    zone=st.sampled_from(["DE", "US-CAL-CISO", "anywhere"]),
    start=st.floats(T0 - 365 * DAY, T0 + 365 * DAY),
    step_s=st.sampled_from([300.0, 900.0, 1800.0, HOUR]),
    factors=st.sampled_from(["lifecycle", "direct"]),
)
def test_the_world_is_plausible_at_any_time(
    zone: str, start: float, step_s: float, factors: str
) -> None:
    world, again = World(T0), World(T0)
    value = world.g_per_kwh(zone, start, step_s, factors)
    assert 1.0 <= value <= 950.0
    assert value == again.g_per_kwh(zone, start, step_s, factors)
    assert min(world.mix_mw(zone, start, step_s).values()) >= 0.0
    assert math.isfinite(world.moer_lbs_per_mwh(zone, start))
    estimate = world.published(zone, start, start, step_s, factors)
    assert abs(estimate - value) <= 0.08 * value + 1.0
