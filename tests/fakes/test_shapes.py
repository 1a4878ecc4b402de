"""The fakes answer in the shape of recorded real answers, where there are any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.energy_charts import FakeEnergyCharts
from tests.fakes.gb import FakeGreatBritain
from tests.fakes.serving import Fake, iso, parse_time, serving
from tests.fakes.world import DAY, World

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "forecast-api-fixtures"


def recorded(name: str) -> Any:
    if not RECORDED.is_dir():
        pytest.skip(f"RECORDED ANSWERS NOT COMPARED: {RECORDED} is not there")
    return json.loads((RECORDED / name).read_text())


def shape(value: Any) -> Any:
    """Keys and types; a list by the shapes that occur in it; numbers alike; null a shape too."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(inner), sort_keys=True) for inner in value})
    return "number" if isinstance(value, int | float) else type(value).__name__


async def answer(fake: Fake, path: str) -> Any:
    async with (
        serving(fake) as url,
        aiohttp.ClientSession(url) as session,
        session.get(path) as response,
    ):
        assert response.status == 200
        return await response.json()


async def test_gb_national() -> None:
    real = recorded("gb_national_fw48h_2023-12-03.json")
    start = parse_time(real["data"][0]["from"])
    # Asked at 11:00, the API begins with the half-hour that ends there, and its actual is known.
    asked = start + 1800.0
    fake = FakeGreatBritain(World(asked))
    ours = await answer(fake, f"/intensity/{iso(asked, 'minutes')}/fw48h")
    assert shape(ours) == shape(real)
    assert [(row["from"], row["to"]) for row in ours["data"]] == [
        (row["from"], row["to"]) for row in real["data"]
    ]
    assert [row["intensity"]["actual"] is None for row in ours["data"]] == [
        row["intensity"]["actual"] is None for row in real["data"]
    ]


async def test_gb_region() -> None:
    real = recorded("gb_regional_london_fw48h_2023-12-03.json")
    asked = parse_time(real["data"]["data"][0]["from"]) + 1800.0
    fake = FakeGreatBritain(World(asked))
    path = f"/regional/intensity/{iso(asked, 'minutes')}/fw48h/regionid/13"
    ours = await answer(fake, path)
    assert shape(ours) == shape(real)
    for key in ("regionid", "dnoregion", "shortname"):
        assert ours["data"][key] == real["data"][key]
    assert len(ours["data"]["data"]) == len(real["data"]["data"])


async def test_energy_charts() -> None:
    real = recorded("de_co2eq_forecast_2024-03-22.json")
    known = real["co2eq"].index(None)
    begin = real["unix_seconds"][0]
    fake = FakeEnergyCharts(World(begin + known * 900.0), {"de": "DE"}, lag_s=0.0)
    ours = await answer(fake, "/co2eq?country=de")
    # Newer answers also say whether the endpoint is deprecated.
    assert set(ours) == {*real, "deprecated"}
    assert ours["unix_seconds"] == real["unix_seconds"]
    for column in ("co2eq", "co2eq_forecast"):
        assert [value is None for value in ours[column]] == [
            value is None for value in real[column]
        ]


@pytest.mark.parametrize(
    ("day", "quarters"),
    [("2022-03-25", 192 - 4), ("2022-03-26", 192 - 8), ("2022-10-29", 192 - 4)],
)
async def test_energy_charts_ends_with_tomorrow_where_the_clocks_change(
    day: str, quarters: int
) -> None:
    fake = FakeEnergyCharts(World(parse_time(f"{day}T12:00Z")), {"de": "DE"})
    ours = await answer(fake, "/co2eq?country=de")
    assert len(ours["unix_seconds"]) == quarters
    assert ours["unix_seconds"][-1] - ours["unix_seconds"][0] < 2 * DAY
