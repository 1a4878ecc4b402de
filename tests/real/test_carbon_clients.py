"""Clients of carbon APIs that nobody here wrote read the world's values from the fakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.entsoe import FakeEntsoe
from tests.fakes.faults import Fault, What
from tests.fakes.gb import FakeGreatBritain
from tests.fakes.serving import iso, serving
from tests.fakes.watttime import FakeWattTime
from tests.fakes.world import DAY, HOUR, World, floor_to

pytestmark = pytest.mark.real

CLIENTS = Path(__file__).parent / "clients"
SCRIPT_S = 60.0
NOW = 1_652_531_400.0  # 2022-05-14T12:30Z
THIS_HOUR = NOW - 1800.0

RunScript = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def script(carbon_python: Path, plain_environment: dict[str, str]) -> RunScript:
    """``await script(name, *arguments, **environment)``: the JSON that a client prints."""

    async def run(name: str, *arguments: str, **environment: str) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            carbon_python, CLIENTS / name, *arguments,
            env={**plain_environment, **environment},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(SCRIPT_S):
                out, error = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, error.decode()[-4000:]
        told: dict[str, Any] = json.loads(out)
        return told

    return run


@pytest.fixture
def world() -> World:
    return World(NOW)


def electricity_maps(world: World) -> FakeElectricityMaps:
    """DE answers well; every other zone goes wrong in one way."""
    return FakeElectricityMaps(
        world,
        ["DE", "ES", "IT", "PL", "NO", "SE", "FR"],
        keys={"key": frozenset({"DE", "IT", "PL", "NO", "SE", "FR"})},
        places={"DE": (52.0, 13.0), "FR": (48.0, 2.0)},
        data_centers={("gcp", "europe-west3"): "DE"},
        faults=[
            Fault(What.NULL, "IT"),
            Fault(What.NO_DATA, "PL"),
            Fault(What.SHORT, "NO", hours=6),
            Fault(What.FROZEN, "SE", start=NOW - 5 * HOUR),
        ],
    )


def unix(stamp: str) -> float:
    parsed = datetime.fromisoformat(stamp)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


async def test_the_official_electricity_maps_sdk(script: RunScript, world: World) -> None:
    fake = electricity_maps(world)
    async with serving(fake) as url:
        told = await script("em_official.py", url, "key", "DE", "ES", "IT", "PL", "NO", "SE")
        wrong = await script("em_official.py", url, "another", "DE")
    latest = told["DE"]["latest"]["value"]
    assert latest["carbonIntensity"] == world.published("DE", THIS_HOUR, NOW)
    assert unix(latest["datetime"]) == THIS_HOUR
    assert (latest["isEstimated"], latest["emissionFactorType"]) == (True, "lifecycle")
    history = told["DE"]["history"]["value"]["history"]
    assert [unix(row["datetime"]) for row in history] == [
        THIS_HOUR - (23 - hour) * HOUR for hour in range(24)
    ]
    for row in history:
        when = unix(row["datetime"])
        assert row["isEstimated"] == (when + 2 * HOUR > NOW)
        assert row["carbonIntensity"] == world.published("DE", when, NOW)
    forecast = told["DE"]["forecast"]["value"]["forecast"]
    assert len(forecast) == 49
    assert [row["carbonIntensity"] for row in forecast] == [
        world.forecast("DE", unix(row["datetime"]), THIS_HOUR) for row in forecast
    ]
    assert told["ES"]["latest"]["status"] == 401
    assert "Request unauthorized for zoneKey=ES,requestType=latest" in told["ES"]["latest"]["text"]
    assert told["PL"]["history"]["status"] == 404
    assert told["IT"]["latest"]["error"] == "ValidationError", "null is no number to this client"
    assert len(told["NO"]["forecast"]["value"]["forecast"]) == 7
    assert unix(told["SE"]["latest"]["value"]["datetime"]) == THIS_HOUR - 5 * HOUR
    for way in ("coordinates", "data_center"):
        assert told[way]["value"]["zone"] == "DE"
    assert told["nowhere"]["value"]["zone"] == "FR", "taken from the caller's address"
    assert told["lookup_disabled"]["status"] == 400
    assert wrong["DE"]["latest"]["status"] == 401


async def test_aioelectricitymaps(script: RunScript, world: World) -> None:
    async with serving(electricity_maps(world)) as url:
        told = await script("em_aio.py", url, "key", "DE", "ES", "PL")
        wrong = await script("em_aio.py", url, "another", "DE")
    latest = told["DE"]["latest"]["value"]
    assert latest["zone"] == "DE"
    assert latest["carbon_intensity"] == world.published("DE", THIS_HOUR, NOW)
    assert unix(latest["timestamp"]) == THIS_HOUR
    history = told["DE"]["history"]["value"]["history"]
    assert len(history) == 24
    for row in history:
        assert row["carbon_intensity"] == world.published("DE", unix(row["timestamp"]), NOW)
    assert told["DE"]["home"]["value"]["data"]["carbon_intensity"] == latest["carbon_intensity"]
    assert told["coordinates"]["value"] == latest
    assert told["ES"]["latest"]["error"] == "ElectricityMapsInvalidTokenError"
    assert told["PL"]["home"]["error"] == "ElectricityMapsNoDataError"
    assert set(told["zones"]["value"]) == {"DE", "ES", "IT", "PL", "NO", "SE", "FR"}
    assert wrong["DE"]["latest"]["error"] == "ElectricityMapsInvalidTokenError"


async def test_the_official_watttime_sdk(script: RunScript, world: World) -> None:
    regions = ["CAISO_NORTH", "PJM_DC", "ERCOT_NORTH"]
    fake = FakeWattTime(
        world,
        regions,
        plan=frozenset({"CAISO_NORTH", "ERCOT_NORTH"}),
        places={"CAISO_NORTH": (38.0, -122.0)},
        imputed_s=HOUR,
        faults=[Fault(What.OTHER_UNIT, "ERCOT_NORTH")],
    )
    start, end = NOW - 2 * HOUR, NOW
    async with serving(fake) as url:
        arguments = ("wt-user", "wt-password", iso(start), iso(end), *regions)
        told = await script("watttime_sdk.py", *arguments, WATTTIME_API_URL=url)
        refused = ("wt-user", "guess", iso(start), iso(end), "CAISO_NORTH")
        wrong = await script("watttime_sdk.py", *refused, WATTTIME_API_URL=url)
    good = told["CAISO_NORTH"]
    forecast = good["forecast"]["value"]
    assert len(forecast["data"]) == 288
    assert forecast["meta"]["units"] == "lbs_co2_per_mwh"
    assert unix(forecast["data"][0]["point_time"]) == NOW
    assert forecast["data"][0]["value"] == world.moer_lbs_per_mwh("CAISO_NORTH", NOW)
    assert len(good["nowcast"]["value"]["data"]) == 1
    history = good["history"]["value"]
    assert [unix(row["point_time"]) for row in history] == [start + 300.0 * i for i in range(24)]
    for row in history:
        when = unix(row["point_time"])
        assert row["value"] == world.moer_lbs_per_mwh("CAISO_NORTH", when)
        assert row["imputed_data_used"] == (NOW - when < HOUR)
    past = good["past_forecasts"]["value"]
    assert {unix(row["generated_at"]) for row in past} == {start + 300.0 * i for i in range(24)}
    assert told["PJM_DC"]["forecast"]["status"] == 403
    percentiles = told["ERCOT_NORTH"]["forecast"]["value"]
    assert percentiles["meta"]["units"] == "percentile"
    assert all(0 <= row["value"] <= 100 for row in percentiles["data"])
    assert told["where"]["value"]["region"] == "CAISO_NORTH"
    assert told["sea"]["status"] == 404
    assert {row["region"] for row in told["access"]["value"]} == {"CAISO_NORTH", "ERCOT_NORTH"}
    assert told["expired"]["status"] == 401
    assert wrong["CAISO_NORTH"]["forecast"]["status"] == 401
    logins = [call for call in fake.calls if call.endpoint == "login" and call.status == 200]
    assert len(logins) == 3, "one a client object: tokens are kept"


async def test_uk_energy(script: RunScript, world: World) -> None:
    async with serving(FakeGreatBritain(world)) as url:
        told = await script("gb_uk_energy.py", url, iso(NOW, "minutes"), "13")
    values = {name: answer.get("value") for name, answer in told.items()}

    def half_hour(when: float) -> tuple[str, str]:
        return iso(when, "minutes"), iso(when + 1800.0, "minutes")

    assert half_hour(NOW) == (values["current"]["from"], values["current"]["to"])
    assert values["current"]["intensity"]["actual"] is None, "the half-hour is not over"
    # Asked for a boundary, the API gives the half-hour that ends there.
    assert values["at"]["from"] == iso(NOW - 1800.0, "minutes")
    forward, past = values["forward"], values["past"]
    assert [row["from"] for row in forward] == [
        iso(NOW + (i - 1) * 1800.0, "minutes") for i in range(96)
    ]
    assert [row["to"] for row in past][-1] == iso(NOW, "minutes")
    assert len(past) == 48
    for row in past:
        start = unix(row["from"])
        assert row["intensity"]["actual"] == world.published("GB", start, NOW, 1800.0, "direct")
    for row in forward[1:]:
        assert row["intensity"]["actual"] is None
        assert row["intensity"]["forecast"] == world.forecast(
            "GB", unix(row["from"]), NOW, 1800.0, "direct"
        )
    for name, count in (("region_forward", 96), ("postcode_forward", 48)):
        assert values[name]["regionid"] == 13
        assert len(values[name]["data"]) == count
        assert "actual" not in values[name]["data"][0]["intensity"]
    assert len(values["region"]["data"]) == len(values["postcode"]["data"]) == 1
    assert len(values["all_regions"]) == 48
    assert [len(values[day]) for day in ("spring", "summer", "autumn")] == [46, 48, 50]
    assert values["summer"][0]["from"] == "2022-05-13T23:00Z", "a day of British summer time"
    assert told["unknown_region"]["status"] == 400
    assert values["factors"]["Nuclear"] == 0


async def test_entsoe_py(script: RunScript, world: World) -> None:
    world.zone("FR").storage_mw = 800.0
    world.zone("ES").lag_s = DAY
    codes = {"10Y1001A1001A82H": "DE", "10YFR-RTE------C": "FR", "10YES-REE------0": "ES"}
    fake = FakeEntsoe(world, codes, hourly=["10YFR-RTE------C"])
    start, end = THIS_HOUR - 6 * HOUR, THIS_HOUR
    async with serving(fake) as url:
        span = (iso(start), iso(end))
        address = {"ENTSOE_ENDPOINT_URL": f"{url}/api"}
        told = await script(
            "entsoe_pandas.py", "entsoe-key", *span, "DE_LU", "FR", "ES", "NL", **address
        )
        fake.no_data_status = 400
        again = await script("entsoe_pandas.py", "entsoe-key", *span, "NL", **address)
    names = {
        "coal": "Fossil Hard coal", "gas": "Fossil Gas", "nuclear": "Nuclear",
        "wind": "Wind Onshore", "solar": "Solar", "hydro": "Hydro Run-of-river and pondage",
    }  # fmt: skip
    columns = told["DE_LU"]["value"]
    quarters = [start + 900.0 * i for i in range(24)]
    for fuel, name in names.items():
        read = {unix(stamp): mw for stamp, mw in columns[name].items()}
        assert read == {when: world.mix_mw("DE", when, 900.0)[fuel] for when in quarters}
    stored = told["FR"]["value"]
    for i in range(6):
        stamp = datetime.fromtimestamp(start + i * HOUR, UTC).isoformat()
        made = stored["Hydro Pumped Storage/Actual Aggregated"][stamp]
        used = stored["Hydro Pumped Storage/Actual Consumption"][stamp]
        assert made - used == world.storage_mw("FR", start + i * HOUR)
        assert min(made, used) == 0.0
    for nothing in (told["ES"], told["NL"], again["NL"]):
        assert nothing["error"] == "NoMatchingDataError"
    assert told["wrong_key"]["status"] == 401


def test_the_world_agrees_with_itself(world: World) -> None:
    """What the clients are compared with does not depend on who asks, when, or in which process."""
    assert world.published("DE", THIS_HOUR, NOW) == World(NOW).published("DE", THIS_HOUR, NOW)
    assert floor_to(NOW, HOUR) == THIS_HOUR
    assert world.published("DE", THIS_HOUR, NOW) != world.g_per_kwh("DE", THIS_HOUR), "an estimate"
    later = THIS_HOUR + 2 * HOUR
    assert world.published("DE", THIS_HOUR, later) == world.g_per_kwh("DE", THIS_HOUR)
