"""Open-Meteo, on answers of every kind and against the fake over real sockets."""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.forecast.regressions import REACH_H
from router.carbon.providers.http import HttpClient, HttpLimits, open_session
from router.carbon.providers.rows import Fault as RowFault
from router.carbon.weather.conditions import IRRADIANCE, QUANTITIES, TEMPERATURE, WIND
from router.carbon.weather.open_meteo import FORECAST_DAYS, PAST_DAYS, OpenMeteo, WeatherPoint
from router.errors import (
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from router.trust.secrets import Secret
from tests.carbon.http_support import StubHttp
from tests.fakes.open_meteo import FakeOpenMeteo, moment
from tests.fakes.serving import Fault, What, serving
from tests.fakes.world import HOUR, World

NOW = 1_652_486_400.0 + 13 * HOUR + 400.0  # 2022-05-14T13:06:40Z
BERLIN, KIEL = WeatherPoint(52.52, 13.41), WeatherPoint(54.3, 10.1, 3.0)
SECRET = "om-secret-77ab01"


@asynccontextmanager
async def asked(fake: FakeOpenMeteo, **how: Any) -> AsyncIterator[OpenMeteo]:
    session = open_session()
    try:
        async with serving(fake) as url:
            http = HttpClient(
                lambda: session, url, provider="open_meteo", clock=fake.world,
                limits=HttpLimits(timeout_s=5.0, max_bytes=1 << 20),
            )  # fmt: skip
            yield OpenMeteo(http, **how)
    finally:
        await session.close()


async def test_hours_are_means_of_moments_and_points_weigh() -> None:
    fake = FakeOpenMeteo(World(NOW))
    async with asked(fake) as provider:
        found, dropped = await provider.fetch("DE", [BERLIN, KIEL], NOW)
    assert dropped == () and found.source == "open_meteo" and found.issued_at == NOW
    assert len(fake.calls) == 2 and {call.status for call in fake.calls} == {200}
    now_h = math.floor(NOW / HOUR)
    assert found.first_h <= now_h - 168 and found.end_h >= now_h + 1 + REACH_H
    hour = now_h + 30
    row = found.values[hour - found.first_h]

    def mean(name: str, *ends: float) -> float:
        each = [
            sum(moment(name, p.lat, p.lon, (hour + end) * HOUR) for end in ends) / len(ends)
            for p in (BERLIN, KIEL)
        ]
        return (each[0] + 3.0 * each[1]) / 4.0

    assert row[WIND] == pytest.approx(mean("wind_speed_80m", 0, 1), abs=0.01)
    assert row[TEMPERATURE] == pytest.approx(mean("temperature_2m", 0, 1), abs=0.01)
    # Radiation is told at the end of the hour that it is of.
    assert row[IRRADIANCE] == pytest.approx(mean("shortwave_radiation", 1), abs=0.01)
    assert not np.isnan(found.values).any()


async def test_at_the_end_of_a_day_four_days_are_still_ahead() -> None:
    late = NOW // 86_400.0 * 86_400.0 + 86_399.0
    async with asked(FakeOpenMeteo(World(late))) as provider:
        found, _ = await provider.fetch("DE", [BERLIN], late)
    assert found.end_h >= math.floor(late / HOUR) + 1 + REACH_H + 6


async def test_two_weeks_are_one_call_to_them() -> None:
    assert PAST_DAYS + FORECAST_DAYS <= 14


async def test_a_paid_plan_shows_its_key_and_no_error_does() -> None:
    fake = FakeOpenMeteo(World(NOW), keys=[SECRET])
    async with asked(fake, key=Secret(SECRET)) as provider:
        await provider.fetch("DE", [BERLIN], NOW)
        fake.faults = [Fault(What.KEY_REVOKED)]
        with pytest.raises(ProviderAnswerError) as caught:
            await provider.fetch("DE", [BERLIN], NOW)
    assert SECRET not in str(caught.value)
    async with asked(fake) as provider:
        with pytest.raises(ProviderRefusedError):
            await provider.fetch("DE", [BERLIN], NOW)


async def test_a_height_that_the_model_lacks_is_no_wind_of_0() -> None:
    async with asked(FakeOpenMeteo(World(NOW)), wind_height_m=100) as provider:
        found, _ = await provider.fetch("DE", [BERLIN], NOW)
    assert np.isnan(found.values[:, WIND]).all() and not np.isnan(found.values[:, 1:]).any()


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (What.DEAD, ProviderUnavailableError),
        (What.SERVER_ERROR, ProviderUnavailableError),
        (What.TOO_MANY, ProviderBusyError),
        (What.TRUNCATED, ProviderAnswerError),
        (What.INVALID, ProviderAnswerError),
        (What.HTML, ProviderAnswerError),
        (What.EMPTY, ProviderAnswerError),
        (What.HUGE, ProviderAnswerError),
        (What.NO_DATA, ProviderAnswerError),
        (What.NO_ROWS, NoDataError),
        (What.WRONG_ZONE, ProviderAnswerError),
        (What.OTHER_UNIT, ProviderAnswerError),
    ],
)
async def test_faults(what: What, error: type[ProviderError]) -> None:
    fake = FakeOpenMeteo(World(NOW), faults=[Fault(what)])
    async with asked(fake) as provider:
        with pytest.raises(error, match="open_meteo"):
            await provider.fetch("DE", [BERLIN], NOW)


async def test_quarter_hours_are_not_taken_for_hours() -> None:
    fake = FakeOpenMeteo(World(NOW))
    fake.step_s = 900.0
    async with asked(fake) as provider:
        with pytest.raises(ProviderAnswerError, match="steps of 900 s"):
            await provider.fetch("DE", [BERLIN], NOW)


async def answer() -> dict[str, Any]:
    """A good answer, as it came over the wire."""
    import aiohttp

    params = {
        "latitude": "52.52", "longitude": "13.41", "wind_speed_unit": "ms",
        "timeformat": "unixtime", "past_days": "1", "forecast_days": "1",
        "hourly": "wind_speed_80m,shortwave_radiation,temperature_2m,dew_point_2m,precipitation",
    }  # fmt: skip
    async with (
        serving(FakeOpenMeteo(World(NOW))) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/forecast", params=params) as reply,
    ):
        found: dict[str, Any] = await reply.json()
        return found


def set_in(path: str, value: Any) -> Callable[[Any], None]:
    def change(body: Any) -> None:
        *way, last = path.split("/")
        for part in way:
            body = body[int(part) if isinstance(body, list) else part]
        body[int(last) if isinstance(body, list) else last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_in("hourly", None),
        set_in("hourly_units", []),
        set_in("hourly_units/temperature_2m", "\N{DEGREE SIGN}F"),
        set_in("hourly_units/shortwave_radiation", "MJ/m\N{SUPERSCRIPT TWO}"),
        set_in("hourly_units/time", "iso8601"),
        set_in("hourly/precipitation", [0.0]),
        set_in("hourly/wind_speed_80m", None),
        set_in("latitude", "52.5"),
        set_in("latitude", math.nan),
        set_in("longitude", 193.0),
        set_in("hourly/time", ["2022-05-14T00:00"] * 48),
    ],
)
async def test_what_makes_all_of_it_doubtful_refuses_it(change: Callable[[Any], None]) -> None:
    body = await answer()
    change(body)
    with pytest.raises(ProviderAnswerError):
        await OpenMeteo(StubHttp(lambda _: body)).fetch("DE", [BERLIN], NOW)
    for whole in ([body], None, 3):
        with pytest.raises(ProviderAnswerError):
            await OpenMeteo(StubHttp(lambda _, whole=whole: whole)).fetch("DE", [BERLIN], NOW)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (285.0, RowFault.OUT_OF_RANGE),
        (math.nan, RowFault.OUT_OF_RANGE),
        (math.inf, RowFault.OUT_OF_RANGE),
        (True, RowFault.MALFORMED),
        ("12", RowFault.MALFORMED),
    ],
)
async def test_an_absurd_value_costs_its_time(value: Any, fault: RowFault) -> None:
    body = await answer()
    body["hourly"]["temperature_2m"][20] = value
    found, dropped = await OpenMeteo(StubHttp(lambda _: body)).fetch("DE", [BERLIN], NOW)
    assert [(rows.fault, rows.rows) for rows in dropped] == [(fault, 1)]
    unknown = np.isnan(found.values).any(axis=1)
    assert np.flatnonzero(unknown).tolist() == [19, 20]


async def test_null_is_unknown_and_no_fault_and_missing_hours_are_gaps() -> None:
    body = await answer()
    body["hourly"]["wind_speed_80m"][-3:] = [None] * 3
    for column in body["hourly"].values():
        del column[10:13]
    found, dropped = await OpenMeteo(StubHttp(lambda _: body)).fetch("DE", [BERLIN], NOW)
    assert dropped == () and len(found.values) == 47
    # The hour before a time that is there ends in it: its rain and sun are known.
    assert np.isnan(found.values[9:12]).all() and not np.isnan(found.values[13:43]).any()
    assert np.isnan(found.values[12]).tolist() == [True, False, True, True, False]
    assert np.isnan(found.values[44:, WIND]).all()
    assert not np.isnan(found.values[44:, TEMPERATURE]).any()


async def test_a_slot_with_two_values_is_unknown() -> None:
    body = await answer()
    body["hourly"]["time"][5] = body["hourly"]["time"][4]
    found, dropped = await OpenMeteo(StubHttp(lambda _: body)).fetch("DE", [BERLIN], NOW)
    assert [rows.fault for rows in dropped] == [RowFault.CONTRADICTED]
    assert np.isnan(found.values[3:5]).all() and np.isnan(found.values[5, WIND])


async def test_points_across_the_date_line_are_near() -> None:
    body = await answer()
    body["latitude"], body["longitude"] = -17.0, -179.9
    found, _ = await OpenMeteo(StubHttp(lambda _: body)).fetch(
        "FJ", [WeatherPoint(-17.2, 179.95)], NOW
    )
    assert len(found.values) == 47


_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]),
    st.just({}),
)  # fmt: skip


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    import asyncio

    return asyncio.run(answer())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["time", "wind_speed_80m", "temperature_2m"]),
                  st.integers(0, 47), _JUNK), min_size=1, max_size=8,
    )
)  # fmt: skip
def test_whatever_stands_in_it_what_comes_out_can_be(
    good: dict[str, Any], junk: list[tuple[str, int, Any]]
) -> None:
    import asyncio

    body = copy.deepcopy(good)
    for name, place, value in junk:
        body["hourly"][name][place] = value
    try:
        found, _ = asyncio.run(OpenMeteo(StubHttp(lambda _: body)).fetch("DE", [BERLIN], NOW))
    except ProviderError:
        return
    assert len(found.values) < 24 * 100
    for place, quantity in enumerate(QUANTITIES):
        column = found.values[:, place]
        known = column[~np.isnan(column)]
        assert ((known >= quantity.least) & (known <= quantity.most)).all()
