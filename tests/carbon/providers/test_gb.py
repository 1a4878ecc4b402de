"""The GB Carbon Intensity API, on recorded answers and against the fake over real sockets."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.chain.resample import hourly
from router.carbon.providers.gb import FORECAST_HALF_WIDTH_G, GreatBritain
from router.carbon.providers.holes import is_stated
from router.carbon.providers.http import HttpClient, HttpLimits, open_session
from router.carbon.providers.provider import Provider, Reading, Want
from router.errors import (
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderUnavailableError,
)
from router.model import Basis, Factors, Kind, Signal
from tests.carbon.http_support import StubHttp
from tests.fakes.gb import FakeGreatBritain
from tests.fakes.serving import Fault, What, serving
from tests.fakes.world import HOUR, World

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "forecast-api-fixtures"
RECORDED = datetime.fromisoformat("2023-12-03T10:50Z").timestamp()
FIRST = datetime.fromisoformat("2023-12-03T10:30Z").timestamp()
PLACES = {"GB": "national", "GB-LON": "13"}
NATIONAL = json.loads((FIXTURES / "gb_national.json").read_text())
LONDON = json.loads((FIXTURES / "gb_london.json").read_text())


def canned(body: Any) -> tuple[GreatBritain, StubHttp]:
    http = StubHttp(lambda asked: copy.deepcopy(body))
    return GreatBritain(http, PLACES), http


async def read(
    body: Any, want: Want = Want.LATEST, zone: str = "GB", now: float = RECORDED
) -> Reading:
    found = (await canned(body)[0].fetch([zone], want, now, 48))[zone]
    assert isinstance(found, Reading)
    return found


def slot(start: str, end: str, **intensity: Any) -> dict[str, Any]:
    return {"from": start, "to": end, "intensity": intensity}


async def test_a_recorded_national_answer_serves_two_roles_in_one_call() -> None:
    provider, http = canned(NATIONAL)
    as_provider: Provider = provider
    found = (await as_provider.fetch(["GB"], Want.LATEST, RECORDED, 1))["GB"]
    assert isinstance(found, Reading)
    assert [asked.path for asked in http.asked] == ["/intensity/2023-12-03T07:01Z/fw48h"]
    (actual,) = found.observed
    assert (actual.g_per_kwh, actual.low_g_per_kwh, actual.high_g_per_kwh) == (206.0,) * 3
    assert actual.kind is Kind.MEASURED and actual.source == "gb_carbon_intensity"
    assert actual.signal == Signal(Basis.AVERAGE, Factors.DIRECT)
    assert actual.observed_at == FIRST + 1800.0
    assert found.forecast is not None
    assert (found.forecast.start, found.forecast.step_s) == (FIRST, 1800.0)
    assert [s.g_per_kwh for s in found.forecast.slots[:3]] == [211.0, 216.0, 220.0]
    assert {s.kind for s in found.forecast.slots} == {Kind.FORECAST}
    assert found.forecast.slots[0].high_g_per_kwh == 211.0 + FORECAST_HALF_WIDTH_G
    assert max(s.observed_at for s in found.forecast.slots) <= RECORDED


async def test_a_recorded_region_has_a_forecast_only() -> None:
    provider, http = canned(LONDON)
    found = (await provider.fetch(["GB-LON"], Want.FORECAST, RECORDED, 48))["GB-LON"]
    assert isinstance(found, Reading)
    assert http.asked[0].path == "/regional/intensity/2023-12-03T10:01Z/fw48h/regionid/13"
    assert found.observed == () and found.forecast is not None
    assert [s.g_per_kwh for s in found.forecast.slots] == [134.0, 136.0, 137.0, 142.0]
    for want in (Want.LATEST, Want.HISTORY):
        with pytest.raises(NoDataError, match="no actual values"):
            await provider.fetch(["GB-LON"], want, RECORDED, 24)
    assert len(http.asked) == 1
    assert GreatBritain(http, {"X": "3"}).wants == {Want.FORECAST}
    assert provider.wants == set(Want)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the recorded answers")
async def test_whole_recorded_answers_cover_two_days() -> None:
    name = "gb_national_fw48h_2023-12-03.json"
    national = await read(json.loads((SHARED / name).read_text()))
    assert national.forecast is not None and len(national.forecast.slots) == 96
    name = "gb_regional_london_fw48h_2023-12-03.json"
    london = await read(json.loads((SHARED / name).read_text()), Want.FORECAST, "GB-LON")
    assert london.forecast is not None and len(london.forecast.slots) == 96
    ahead = hourly(london.forecast, FIRST - 1800.0, RECORDED, 48)
    assert all(value is not None for value in ahead[:20])


async def test_a_region_may_come_in_a_list() -> None:
    listed = {"data": [LONDON["data"]]}
    assert await read(listed, Want.FORECAST, "GB-LON") == await read(
        LONDON, Want.FORECAST, "GB-LON"
    )


@pytest.mark.parametrize(
    "change",
    [{"regionid": 3}, {"regionid": True}, {"regionid": None}, {"data": None}, {"data": 3}],
)
async def test_another_region_is_refused(change: dict[str, Any]) -> None:
    body = {"data": {**LONDON["data"], **change}}
    with pytest.raises(ProviderAnswerError):
        await read(body, Want.FORECAST, "GB-LON")
    with pytest.raises(ProviderAnswerError, match="2 regions"):
        await read({"data": [LONDON["data"]] * 2}, Want.FORECAST, "GB-LON")


async def test_values_of_the_future_and_nulls_are_not_observed() -> None:
    body = {
        "data": [
            slot("2023-12-03T10:00Z", "2023-12-03T10:30Z", forecast=200, actual=None),
            slot("2023-12-03T10:30Z", "2023-12-03T11:00Z", forecast=210, actual=0),
            slot("2023-12-03T11:00Z", "2023-12-03T11:30Z", forecast=220, actual=99),
            slot("2023-12-03T11:30Z", "2023-12-03T12:00Z", forecast=None, actual=None),
            slot("2023-12-03T12:00Z", "2023-12-03T12:30Z", forecast=240, actual=None),
        ]
    }
    found = await read(body)
    # Nothing burns in the wind: 0 is a value with direct factors.
    assert [value.g_per_kwh for value in found.observed] == [0.0]
    assert found.forecast is not None
    stated = [value.g_per_kwh for value in found.forecast.slots if is_stated(value)]
    assert stated == [200.0, 210.0, 220.0, 240.0]


async def test_frozen_answers_show_as_age_and_not_as_a_forecast() -> None:
    late = RECORDED + 7 * HOUR
    found = await read(NATIONAL, now=late)
    assert found.forecast is None
    assert found.observed[-1].age_s(late) > 6 * HOUR and found.observed[-1].expires_at < late
    with pytest.raises(ProviderAnswerError, match="frozen"):
        await read(NATIONAL, Want.FORECAST, now=late)


async def test_without_an_actual_value_there_is_no_latest_one() -> None:
    body = copy.deepcopy(NATIONAL)
    body["data"][0]["intensity"]["actual"] = None
    with pytest.raises(NoDataError, match="no actual value"):
        await read(body)
    assert (await read(body, Want.FORECAST)).observed == ()


@pytest.mark.parametrize(
    "row",
    [
        slot("2023-12-03T10:30Z", "2023-12-03T11:30Z", forecast=1),
        slot("2023-12-03T10:30", "2023-12-03T11:00", forecast=1),
        slot("2023-12-03T10:30Z", "2023-12-03T11:00Z", forecast=-1),
        slot("2023-12-03T10:30Z", "2023-12-03T11:00Z", forecast=60_000),
        slot("2023-12-03T10:30Z", "2023-12-03T11:00Z", forecast="211"),
        slot("2023-12-03T10:30Z", "2023-12-03T11:00Z", forecast=1, actual=True),
        {"from": "2023-12-03T10:30Z", "to": "2023-12-03T11:00Z"},
    ],
)
async def test_answers_of_another_shape_are_refused(row: dict[str, Any]) -> None:
    for body in ({"data": [row]}, {"data": row}):
        with pytest.raises(ProviderAnswerError):
            await read(body, Want.FORECAST)
    with pytest.raises(ProviderAnswerError, match="an error"):
        await read({"error": {"code": "400 Bad Request", "message": "Please enter"}})


async def test_a_history_takes_a_call_a_day() -> None:
    provider, http = canned(NATIONAL)
    found = (await provider.fetch(["GB"], Want.HISTORY, RECORDED, 50))["GB"]
    assert isinstance(found, Reading) and len(found.observed) == 1 and found.forecast is None
    assert [asked.path for asked in http.asked] == [
        "/intensity/2023-12-03T10:31Z/pt24h",
        "/intensity/2023-12-02T10:31Z/pt24h",
        "/intensity/2023-12-01T10:31Z/pt24h",
    ]
    with pytest.raises(NoDataError, match="no actual value"):
        await canned({"data": []})[0].fetch(["GB"], Want.HISTORY, RECORDED, 10_000)


@pytest.mark.parametrize("place", ["London", "0", "18", "", "013"])
def test_places_are_checked(place: str) -> None:
    with pytest.raises(ConfigError, match=r"zones\.GB"):
        GreatBritain(StubHttp(lambda asked: None), {"GB": place})


async def test_an_unconfigured_zone_has_no_place() -> None:
    with pytest.raises(NoDataError, match="no region is configured"):
        await canned(NATIONAL)[0].fetch(["FR"], Want.LATEST, RECORDED, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["2023-12-03T10:30Z", "2023-12-03T11:00Z", "0001-01-01T00:00+23:59"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["data", "from", "to", "intensity", "forecast", "actual", "regionid"]),
        inner,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.one_of(JSON, st.builds(lambda inner: {"data": inner}, JSON)), st.sampled_from(Want))
@settings(max_examples=150, deadline=None)
async def test_any_json_is_a_reading_or_a_provider_error(body: Any, want: Want) -> None:
    for zone in PLACES:
        try:
            found = await read(body, want, zone)
        except ProviderError:
            continue
        assert found.observed or found.forecast


@asynccontextmanager
async def wired(fake: FakeGreatBritain) -> AsyncIterator[GreatBritain]:
    async with serving(fake) as url, open_session() as session:
        limits = HttpLimits(timeout_s=2.0, max_bytes=1 << 20)
        http = HttpClient(lambda: session, url, provider="gb", clock=fake.world, limits=limits)
        yield GreatBritain(http, PLACES)


# An ordinary day, and the night on which British clocks are put forward.
@pytest.mark.parametrize("begin", ["2022-05-14T05:10Z", "2022-03-27T02:40Z", "2022-10-30T01:20Z"])
async def test_the_fake_is_read_as_its_world_is(begin: str) -> None:
    world = World(datetime.fromisoformat(begin).timestamp())
    async with wired(FakeGreatBritain(world, actual_lag_s=600.0)) as provider:
        answers = await provider.fetch(["GB"], Want.LATEST, world.now(), 1)
        past = await provider.fetch(["GB"], Want.HISTORY, world.now(), 48)
        region = await provider.fetch(["GB-LON"], Want.FORECAST, world.now(), 48)
    latest, history, london = answers["GB"], past["GB"], region["GB-LON"]
    assert isinstance(latest, Reading) and isinstance(history, Reading)
    assert isinstance(london, Reading) and latest.forecast and london.forecast
    assert 45 * HOUR <= len(latest.forecast.slots) * 1800.0 <= 48 * HOUR
    assert len(london.forecast.slots) == 96
    assert len(history.observed) in (95, 96)
    assert history.observed[-len(latest.observed) :] == latest.observed
    for value in history.observed:
        start = value.observed_at - 1800.0
        assert value.g_per_kwh == world.published("GB", start, world.now(), 1800.0, "direct")
    ends = [value.observed_at for value in history.observed]
    assert all(later - earlier == 1800.0 for earlier, later in pairwise(ends))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(What.TOO_MANY, retry_after_s=60.0), ProviderBusyError),
        (Fault(What.SERVER_ERROR), ProviderUnavailableError),
        (Fault(What.DEAD), ProviderUnavailableError),
        (Fault(What.INVALID), ProviderAnswerError),
        (Fault(What.EMPTY), ProviderAnswerError),
        (Fault(What.NO_ROWS), NoDataError),
        (Fault(What.NULL), NoDataError),
    ],
)
async def test_faults_are_told_apart(fault: Fault, error: type[ProviderError]) -> None:
    world = World(RECORDED)
    async with wired(FakeGreatBritain(world, faults=[fault])) as provider:
        with pytest.raises(error):
            await provider.fetch(["GB"], Want.LATEST, world.now(), 1)


async def test_a_short_forecast_and_a_wrong_region_over_sockets() -> None:
    world = World(RECORDED)
    faults = [Fault(What.SHORT, zone="GB", hours=4), Fault(What.WRONG_ZONE, zone="13")]
    async with wired(FakeGreatBritain(world, faults=faults)) as provider:
        short = (await provider.fetch(["GB"], Want.FORECAST, world.now(), 48))["GB"]
        assert isinstance(short, Reading) and short.forecast is not None
        assert len(short.forecast.slots) == 8
        with pytest.raises(ProviderAnswerError, match="region"):
            await provider.fetch(["GB-LON"], Want.FORECAST, world.now(), 48)
