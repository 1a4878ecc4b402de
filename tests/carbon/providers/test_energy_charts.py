"""energy-charts.info, on a recorded answer and against the fake over real sockets."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.providers.energy_charts import EnergyCharts
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
from tests.carbon.http_support import Asked, StubHttp
from tests.fakes.energy_charts import FakeEnergyCharts
from tests.fakes.serving import Fault, What, serving
from tests.fakes.world import HOUR, GridZone, World

RECORDED = json.loads((Path(__file__).parent / "fixtures" / "de_co2eq.json").read_text())
SHARED = Path(__file__).parents[4] / "shared" / "data" / "forecast-api-fixtures"
NOW = datetime.fromisoformat("2024-03-22T16:35Z").timestamp()
LIFECYCLE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
QUARTER = 900.0


def provider_of(body: Any) -> tuple[EnergyCharts, StubHttp]:
    http = StubHttp(lambda asked: copy.deepcopy(body))
    return EnergyCharts(http, {"DE": "de"}, factors=Factors.LIFECYCLE), http


async def read(body: Any, want: Want = Want.LATEST, now: float = NOW) -> Reading:
    found = (await provider_of(body)[0].fetch(["DE"], want, now, 48))["DE"]
    assert isinstance(found, Reading)
    return found


def answer(observed: list[Any], forecast: list[Any], step_s: float = QUARTER) -> dict[str, Any]:
    start = NOW // HOUR * HOUR
    stamps = [start + i * step_s for i in range(len(observed))]
    return {"unix_seconds": stamps, "co2eq": observed, "co2eq_forecast": forecast}


async def test_a_recorded_answer_serves_two_roles_in_one_call() -> None:
    provider, http = provider_of(RECORDED)
    as_provider: Provider = provider
    found = (await as_provider.fetch(["DE"], Want.LATEST, NOW, 1))["DE"]
    assert isinstance(found, Reading)
    assert http.asked == [Asked("/co2eq", {"country": "de"}, {}, None)]
    newest = found.observed[-1]
    assert newest.g_per_kwh == 346.2 and newest.kind is Kind.ESTIMATED
    assert newest.signal == LIFECYCLE and newest.source == "energy_charts"
    assert newest.observed_at == datetime.fromisoformat("2024-03-22T16:15Z").timestamp()
    assert newest.low_g_per_kwh < 346.2 < newest.high_g_per_kwh
    assert found.forecast is not None
    assert found.forecast.start == newest.observed_at and found.forecast.step_s == QUARTER
    assert len(found.forecast.slots) == 11
    assert found.forecast.slots[0].g_per_kwh == 398.5
    assert {slot.kind for slot in found.forecast.slots} == {Kind.FORECAST}
    assert found.forecast.slots[0].observed_at == newest.observed_at


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the recorded answers")
async def test_the_whole_recorded_answer() -> None:
    body = json.loads((SHARED / "de_co2eq_forecast_2024-03-22.json").read_text())
    found = await read(body)
    assert len(found.observed) == 65
    assert found.forecast is not None and len(found.forecast.slots) == 123


async def test_a_history_asks_for_its_span_and_reads_only_values() -> None:
    provider, http = provider_of(RECORDED)
    found = (await provider.fetch(["DE"], Want.HISTORY, NOW, 48))["DE"]
    assert isinstance(found, Reading) and found.forecast is None and len(found.observed) == 9
    span = {"country": "de", "start": "2024-03-20T16:35Z", "end": "2024-03-22T16:35Z"}
    assert http.asked[0].params == span


async def test_just_after_midnight_yesterday_is_asked_for() -> None:
    today = answer([None, None], [200.0, 210.0])
    http = StubHttp(lambda asked: RECORDED if "start" in asked.params else today)
    provider = EnergyCharts(http, {"DE": "de"}, factors=Factors.DIRECT)
    found = (await provider.fetch(["DE"], Want.LATEST, NOW, 1))["DE"]
    assert isinstance(found, Reading) and len(http.asked) == 2
    assert found.observed[-1].g_per_kwh == 346.2 and found.forecast is None
    assert found.observed[-1].signal.factors is Factors.DIRECT


async def test_holes_stay_holes() -> None:
    found = await read(
        answer(
            [0, 200.0, None, 210.0, 3.0],
            [
                None,
                None,
                None,
                220.0,
                None,
            ][:5],
        )
    )
    # 0 does not exist with life-cycle factors, and the last slot has not begun.
    assert [value.g_per_kwh for value in found.observed] == [200.0]
    assert found.forecast is not None
    assert [slot.g_per_kwh for slot in found.forecast.slots] == [220.0]
    short = await read(answer([200.0] + [None] * 5, [None, 210.0, 220.0, 230.0, None, 250.0]))
    assert short.forecast is not None
    stated = [slot.g_per_kwh for slot in short.forecast.slots if is_stated(slot)]
    assert stated == [210.0, 220.0, 230.0, 250.0]


@pytest.mark.parametrize("step_s", [900.0, 1800.0, 3600.0])
async def test_countries_differ_in_the_length_of_a_slot(step_s: float) -> None:
    found = await read(answer([200.0] + [None] * 3, [None, 210.0, 220.0, 230.0], step_s))
    assert found.observed[0].observed_at == NOW // HOUR * HOUR + step_s
    assert found.forecast is None or found.forecast.step_s == step_s


async def test_a_frozen_answer_shows_as_age_and_not_as_a_forecast() -> None:
    late = NOW + 9 * HOUR
    found = await read(RECORDED, now=late)
    assert found.forecast is None and found.observed[-1].age_s(late) > 9 * HOUR
    with pytest.raises(ProviderAnswerError, match="frozen"):
        await read(RECORDED, Want.FORECAST, now=late)


async def test_an_old_forecast_that_still_reaches_now_is_as_old_as_its_first_slot() -> None:
    late = NOW + 2 * HOUR
    found = await read(RECORDED, Want.FORECAST, now=late)
    assert found.forecast is not None and found.forecast.start == late // HOUR * HOUR
    assert found.forecast.slots[0].age_s(late) > 2 * HOUR


@pytest.mark.parametrize(
    "body",
    [
        {"co2eq": [1.0]},
        {"unix_seconds": [NOW], "co2eq": [1.0, 2.0]},
        {"unix_seconds": [NOW, NOW], "co2eq": [1.0, 2.0]},
        {"unix_seconds": [NOW, NOW + 7], "co2eq": [1.0, 2.0]},
        {"unix_seconds": [NOW], "co2eq": ["200"]},
        {"unix_seconds": [NOW], "co2eq": [-3.0]},
        {"unix_seconds": ["2024"], "co2eq": [1.0]},
        [],
        None,
    ],
)
async def test_answers_of_another_shape_are_refused(body: Any) -> None:
    with pytest.raises(ProviderAnswerError):
        await read(body)


async def test_nothing_but_nulls_is_no_data() -> None:
    for want in Want:
        with pytest.raises(NoDataError):
            await read(answer([None, None], [None, None]), want)
    with pytest.raises(NoDataError, match="no country"):
        await provider_of(RECORDED)[0].fetch(["FR"], Want.LATEST, NOW, 1)


def test_factors_have_to_be_stated() -> None:
    with pytest.raises(ConfigError, match="lifecycle or direct"):
        EnergyCharts(StubHttp(lambda asked: None), {"DE": "de"}, factors=Factors.NONE)


FIGURES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
LISTS = st.lists(st.integers(0, 4).map(lambda i: NOW + i * 900) | FIGURES, max_size=4)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "unix_seconds": LISTS | st.just([NOW, NOW + 900.0]),
        "co2eq": LISTS | st.lists(st.floats(0, 900), min_size=2, max_size=2),
        "co2eq_forecast": LISTS | FIGURES,
    },
)


@given(BODIES | FIGURES | LISTS, st.sampled_from(Want))
@settings(max_examples=150, deadline=None)
async def test_any_json_is_a_reading_or_a_provider_error(body: Any, want: Want) -> None:
    try:
        found = await read(body, want)
    except ProviderError:
        return
    assert found.observed or found.forecast


@asynccontextmanager
async def wired(fake: FakeEnergyCharts) -> AsyncIterator[EnergyCharts]:
    async with serving(fake) as url, open_session() as session:
        limits = HttpLimits(timeout_s=2.0, max_bytes=1 << 20)
        http = HttpClient(
            lambda: session, url, provider="energy_charts", clock=fake.world, limits=limits
        )
        yield EnergyCharts(http, {"DE": "de"}, factors=Factors.LIFECYCLE)


def fake_at(when: float, *faults: Fault) -> FakeEnergyCharts:
    return FakeEnergyCharts(
        World(when, zones={"DE": GridZone("DE")}), {"de": "DE"}, faults=list(faults)
    )


# An ordinary day, and the days on which clocks change.
@pytest.mark.parametrize("begin", ["2024-03-22T16:35Z", "2024-03-31T05:10Z", "2024-10-27T05:10Z"])
async def test_the_fake_is_read_as_its_world_is(begin: str) -> None:
    fake = fake_at(datetime.fromisoformat(begin).timestamp())
    world = fake.world
    async with wired(fake) as provider:
        latest = (await provider.fetch(["DE"], Want.LATEST, world.now(), 1))["DE"]
        past = (await provider.fetch(["DE"], Want.HISTORY, world.now(), 48))["DE"]
    assert isinstance(latest, Reading) and isinstance(past, Reading)
    for value in [*latest.observed, *past.observed]:
        start = value.observed_at - QUARTER
        assert value.g_per_kwh == world.published("DE", start, world.now(), QUARTER)
    assert past.observed[0].observed_at <= world.now() - 47 * HOUR
    assert latest.observed[-1].age_s(world.now()) <= 1800.0
    newest = latest.observed[-1].observed_at
    assert latest.forecast is not None
    assert latest.forecast.start == max(newest, world.now() // HOUR * HOUR)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(What.TOO_MANY, retry_after_s=60.0), ProviderBusyError),
        (Fault(What.SERVER_ERROR), ProviderUnavailableError),
        (Fault(What.DEAD), ProviderUnavailableError),
        (Fault(What.INVALID), ProviderAnswerError),
        (Fault(What.NO_DATA), NoDataError),
        (Fault(What.NO_ROWS), NoDataError),
        (Fault(What.NULL), NoDataError),
    ],
)
async def test_faults_are_told_apart(fault: Fault, error: type[ProviderError]) -> None:
    async with wired(fake_at(NOW, fault)) as provider:
        with pytest.raises(error):
            await provider.fetch(["DE"], Want.LATEST, NOW, 1)
