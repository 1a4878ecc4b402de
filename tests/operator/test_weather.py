"""What `check` says of weather: of a file without a call, of points when told to ask."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from router.app.carbon.build import configured_carbon
from router.app.loading import load
from router.clock import WallClock
from router.errors import ConfigError, TraceError
from router.operator.check import provider_deps
from router.operator.weather import check_weather, weather_notes
from tests.app.support import START, configured, stamp
from tests.factories import HOUR
from tests.fakes.faults import Fault, What
from tests.fakes.open_meteo import FakeOpenMeteo
from tests.fakes.serving import serving
from tests.fakes.world import World

WEST, EAST = "US-CAL-CISO", "US-MIDA-PJM"
NOW = START + 600.0
HEADER = (
    "datetime,grid_zone,wind_speed_m_s,irradiance_w_m2,temperature_c,dew_point_c,precipitation_mm"
)


def file_of(folder: Path, first: int, end: int, skip: int | None = None, age_h: float = 1.0) -> str:
    """Hours ``first`` .. ``end`` from the present one on, ``skip`` of them not known."""
    rows = [
        f"{stamp(START + hour * HOUR)},{WEST},{'' if hour == skip else 6},0,12,7,0"
        for hour in range(first, end)
    ]
    (folder / "weather.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    os.utime(folder / "weather.csv", (NOW - age_h * HOUR,) * 2)
    return "weather.csv"


def notes(folder: Path, weather: dict[str, Any], **changes: Any) -> list[str]:
    observed = {"carbon/sources/0/value_kind": "measured"}
    path = configured(folder, {"carbon/weather": weather, **observed, **changes})
    config = load(path)
    carbon = configured_carbon(config, NOW, provider_deps(World(NOW)))
    return weather_notes(config, carbon.forecaster, NOW)


@pytest.mark.parametrize(
    ("hours", "more", "said"),
    [
        ((-200, 48), {}, " from 2023-11-06T14:00Z to 2023-11-16T22:00Z"),
        ((-200, 48), {"skip": 5}, ", 1 of 248 hours not known in full"),
        ((-200, 48), {"age_h": 30.0}, "more than 24 h ago: it corrects nothing"),
        ((-200, 0), {}, "no hour ahead of now, 2023-11-14T22:10Z: it corrects nothing"),
        ((-100, 48), {}, "68 hours of the seven days before now are not known"),
    ],
)
def test_a_file_is_told_with_what_keeps_it_from_being_of_use(
    tmp_path: Path, hours: tuple[int, int], more: dict[str, Any], said: str
) -> None:
    told, without = notes(tmp_path, {"file": file_of(tmp_path, *hours, **more)})
    assert told.startswith(f"weather:weather.csv: {WEST} from ") and said in told
    assert without == f"weather: none for {EAST}: forecast from the past alone"


def test_weather_that_corrects_nothing_that_is_observed_is_told(tmp_path: Path) -> None:
    weather = {"file": file_of(tmp_path, -200, 48)}
    for kind in ("forecast", "estimated"):
        told = notes(tmp_path, weather, **{"carbon/sources/0/value_kind": kind})
        said = [one for one in told if "no source of carbon observes intensities" in one]
        assert len(said) == (kind == "forecast")
    mean = {"carbon/sources": [{"kind": "climatology"}, {"kind": "static"}]}
    assert "add a live source" in notes(tmp_path, weather, **mean)[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "24 calls a day, 1.0 an hour; limit: 400 an hour"),
        ({"server/workers": 3}, "72 calls a day, 3.0 an hour by 3 workers; limit: 400 an hour"),
        (
            {"server/workers": 3, "state": {"redis": {"url": "unix:///nowhere"}}},
            "24 calls a day, 1.0 an hour by all gateways together; limit: 400 an hour",
        ),
    ],
)
def test_calls_are_counted_beside_their_limit(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    point = {"lat": 36.0, "lon": -119.0}
    points = {zone: [point] * 3 for zone in (WEST, EAST, "US-TEX-ERCO")}
    weather = {"points": points, "refresh_s": 6 * HOUR}
    strange, told = notes(tmp_path, weather, **changes)
    assert "no region is in US-TEX-ERCO: not asked for" in strange
    assert told == f"open_meteo: about {said}"
    over = {**weather, "calls_per_h": 1, "refresh_s": HOUR}
    assert "over it" in notes(tmp_path, over)[-1]


async def test_points_are_asked_when_told_to(tmp_path: Path) -> None:
    fake = FakeOpenMeteo(World(WallClock().now()))
    async with serving(fake) as url:
        weather = {"points": {WEST: [{"lat": 36.0, "lon": -119.0}] * 2}, "base_url": url}
        path = configured(tmp_path, {"carbon/weather": weather})
        told, answered = await asyncio.to_thread(check_weather, path)
        assert told.startswith(f"open_meteo: {WEST} from ") and answered.startswith("open_meteo: a")
        assert len(fake.calls) == 2
        fake.faults.append(Fault(What.SERVER_ERROR))
        with pytest.raises(ConfigError) as caught:
            await asyncio.to_thread(check_weather, path)
    ((key, text),) = caught.value.problems
    assert key == "carbon.weather" and text.startswith(f"{WEST}: open_meteo: ")


def test_a_file_that_cannot_be_read_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not given"):
        check_weather(configured(tmp_path))
    path = configured(tmp_path, {"carbon/weather": {"file": file_of(tmp_path, -3, 3)}})
    (tmp_path / "weather.csv").write_text("nothing")
    with pytest.raises(TraceError, match="no column datetime"):
        check_weather(path)
