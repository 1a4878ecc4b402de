"""Electricity Maps, on answers of its recorded shape and against the fake over real sockets."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.providers.bands import RELATIVE_HALF_WIDTH
from router.carbon.providers.electricity_maps import ElectricityMaps
from router.carbon.providers.holes import is_stated
from router.carbon.providers.http import HttpClient, HttpLimits, open_session
from router.carbon.providers.provider import Provider, Reading, Want
from router.errors import (
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from router.trust.secrets import Secret
from tests.carbon.http_support import Asked, StubHttp
from tests.examples import examples
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.serving import Fault, What, serving
from tests.fakes.world import DAY, HOUR, GridZone, World

T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
NOW = T0 + 1234.0
LIFECYCLE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
KEY = "em-k3y-9f27ab51c0de"

LATEST: dict[str, Any] = {
    "zone": "DE",
    "carbonIntensity": 302,
    "datetime": "2022-05-14T00:00:00.000Z",
    "updatedAt": "2022-05-13T23:47:02.408Z",
    "createdAt": "2022-05-11T03:45:20.860Z",
    "emissionFactorType": "lifecycle",
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
    "temporalGranularity": "hourly",
}


def stamped(hour: int, minute: int = 0) -> str:
    return f"2022-05-{14 + hour // 24:02}T{hour % 24:02}:{minute:02}:00.000Z"


def forecast(values: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {
        "zone": "DE",
        "forecast": [
            {"carbonIntensity": value, "datetime": stamped(hour)}
            for hour, value in enumerate(values)
        ],
        "updatedAt": "2022-05-13T23:30:00.000Z",
        "temporalGranularity": "hourly",
        **more,
    }


def provider(answer: Any, **more: Any) -> tuple[ElectricityMaps, StubHttp]:
    http = StubHttp(answer if callable(answer) else lambda _: copy.deepcopy(answer))
    more.setdefault("factors", Factors.LIFECYCLE)
    places = more.pop("places", {"DE": "DE"})
    return ElectricityMaps(http, places, key=Secret(KEY), **more), http


async def read(
    source: ElectricityMaps, want: Want = Want.LATEST, hours: int = 24, now: float = NOW
) -> Reading:
    answers = await source.fetch(["DE"], want, now, hours)
    assert list(answers) == ["DE"]
    found = answers["DE"]
    assert isinstance(found, Reading)
    return found


async def value(answer: Any, now: float = NOW, **more: Any) -> Intensity:
    (found,) = (await read(provider(answer, **more)[0], now=now)).observed
    return found


async def ahead(answer: Any, hours: int = 24, now: float = NOW, **more: Any) -> Forecast:
    found = (await read(provider(answer, **more)[0], Want.FORECAST, hours, now)).forecast
    assert found is not None
    return found


async def test_the_latest_value_is_an_estimate_of_the_slot_that_contains_now() -> None:
    source, http = provider(LATEST)
    typed: Provider = source
    assert typed.grid_zones == {"DE"} and typed.publishes_every_s == 3600.0
    found = await read(source)
    assert found.forecast is None
    half = 302 * RELATIVE_HALF_WIDTH[Kind.ESTIMATED]
    assert found.observed == (
        Intensity(
            302.0, 302 - half, 302 + half, LIFECYCLE, Kind.ESTIMATED, "electricity_maps",
            observed_at=T0 + HOUR, expires_at=T0 + 3 * HOUR,
        ),
    )  # fmt: skip
    assert http.asked == [
        Asked(
            "/carbon-intensity/latest",
            {
                "zone": "DE",
                "emissionFactorType": "lifecycle",
                "temporalGranularity": "hourly",
                "disableCallerLookup": "true",
            },
            {"auth-token": KEY},
            None,
        )
    ]


async def test_what_is_not_said_to_be_measured_is_an_estimate() -> None:
    assert (await value({**LATEST, "isEstimated": False})).kind is Kind.MEASURED
    assert (await value({**LATEST, "isEstimated": None})).kind is Kind.ESTIMATED
    bare = {k: v for k, v in LATEST.items() if k != "isEstimated"}
    assert (await value(bare)).kind is Kind.ESTIMATED


async def test_direct_factors_are_asked_for_and_are_another_signal() -> None:
    answer = {**LATEST, "emissionFactorType": "direct", "carbonIntensity": 0}
    source, http = provider(answer, factors=Factors.DIRECT)
    (found,) = (await read(source)).observed
    assert found.signal == Signal(Basis.AVERAGE, Factors.DIRECT) == source.signal
    assert found.g_per_kwh == 0.0
    assert http.asked[0].params["emissionFactorType"] == "direct"
    with pytest.raises(ConfigError, match="factors"):
        provider(LATEST, factors=Factors.NONE)


@pytest.mark.parametrize(
    ("change", "leaf", "told"),
    [
        ({"carbonIntensity": None}, NoDataError, "null or missing"),
        ({"carbonIntensity": 0}, NoDataError, "null or missing"),
        ({"carbonIntensity": -1}, ProviderAnswerError, "no number between"),
        ({"carbonIntensity": 302_000}, ProviderAnswerError, "no grid's g/kWh"),
        ({"carbonIntensity": "302"}, ProviderAnswerError, "str, not a number"),
        ({"carbonIntensity": True}, ProviderAnswerError, "bool, not a number"),
        ({"zone": "FR"}, ProviderAnswerError, "answered for zone 'FR', expected 'DE'"),
        ({"zone": ""}, ProviderAnswerError, "does not say for which zone"),
        ({"zone": KEY}, ProviderAnswerError, r"zone \*\*\*, expected"),
        ({"emissionFactorType": "direct"}, ProviderAnswerError, "'direct' emission factors"),
        ({"emissionFactorType": None}, ProviderAnswerError, "without emissionFactorType"),
        ({"datetime": "2022-05-14T00:00:00"}, ProviderAnswerError, "not in UTC"),
        ({"datetime": "2022-05-14T02:00:00+02:00"}, ProviderAnswerError, "not in UTC"),
        ({"datetime": "yesterday"}, ProviderAnswerError, "no ISO 8601 time"),
        ({"datetime": None}, ProviderAnswerError, "null, not a time"),
        ({"datetime": "2022-05-14T02:00:00Z"}, ProviderAnswerError, "for a time to come"),
        ({"updatedAt": "2022-05-13T15:00:00Z"}, ProviderAnswerError, "last updated over 6 h"),
        ({"isEstimated": "yes"}, ProviderAnswerError, "neither true nor false"),
        ({"temporalGranularity": "daily"}, ProviderAnswerError, "temporalGranularity"),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for(
    change: dict[str, Any], leaf: type[ProviderError], told: str
) -> None:
    with pytest.raises(leaf, match=told) as caught:
        await value({**LATEST, **change})
    assert type(caught.value) is leaf and "grid zone DE" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("answer", [None, [], "DE", 7, {}, [LATEST]])
async def test_no_object_at_all(answer: Any) -> None:
    with pytest.raises(ProviderAnswerError):
        await value(answer)


async def test_no_data_under_status_200() -> None:
    with pytest.raises(NoDataError, match="no recent data"):
        await value({"error": 'No recent data for zone "DE"'})
    with pytest.raises(ProviderAnswerError, match="with an error") as caught:
        await value({"error": f"bad key {KEY}"})
    assert KEY not in str(caught.value)


async def test_a_frozen_answer_ages() -> None:
    found = await value(LATEST, now=NOW + 5 * HOUR)
    assert found.observed_at == T0 + HOUR
    assert found.age_s(NOW + 5 * HOUR) == 1234.0 + 4 * HOUR
    assert found.expires_at < NOW + 5 * HOUR


async def test_a_slot_is_as_long_as_the_answer_says() -> None:
    bare = {k: v for k, v in LATEST.items() if k != "temporalGranularity"}
    for answer, step_s in (
        (bare, HOUR),
        ({**LATEST, "temporalGranularity": "15_minutes"}, 900.0),
        ({**LATEST, "temporalGranularity": "5_minutes"}, 300.0),
    ):
        source, http = provider(answer)
        assert (await read(source)).observed[0].observed_at == T0 + step_s
        assert http.asked[0].params["temporalGranularity"] == "hourly"


async def test_flow_tracing_is_asked_for_and_verified_on_v4() -> None:
    source, http = provider({**LATEST, "flowTraced": True}, flow_traced=True)
    await read(source)
    assert http.asked[0].params["flowTraced"] == "true"
    other, http = provider({**LATEST, "flowTraced": True}, flow_traced=False)
    with pytest.raises(ProviderAnswerError, match="flowTraced"):
        await read(other)
    assert http.asked[0].params["flowTraced"] == "false"


async def test_a_day_of_history_is_one_call_in_order_without_blanks() -> None:
    rows = [
        {**LATEST, "datetime": stamped(2), "carbonIntensity": 30},
        {**LATEST, "datetime": stamped(0), "carbonIntensity": 10, "isEstimated": False},
        {**LATEST, "datetime": stamped(1), "carbonIntensity": None},
        {**LATEST, "datetime": stamped(9), "carbonIntensity": 90},
    ]
    answer = {"zone": "DE", "history": rows, "temporalGranularity": "hourly"}
    source, http = provider(answer)
    found = (await read(source, Want.HISTORY, 24, T0 + 3 * HOUR)).observed
    assert [v.g_per_kwh for v in found] == [10.0, 30.0]
    assert [v.kind for v in found] == [Kind.MEASURED, Kind.ESTIMATED]
    assert [v.observed_at for v in found] == [T0 + HOUR, T0 + 3 * HOUR]
    assert [asked.path for asked in http.asked] == ["/carbon-intensity/history"]


async def test_a_settled_value_replaces_its_estimate() -> None:
    rows = [dict(LATEST)]
    answer = {"zone": "DE", "history": rows}
    source, _ = provider(lambda _: copy.deepcopy(answer))
    (first,) = (await read(source, Want.HISTORY)).observed
    rows[0] |= {"carbonIntensity": 340, "isEstimated": False}
    (second,) = (await read(source, Want.HISTORY)).observed
    assert first.observed_at == second.observed_at
    assert (first.kind, second.kind) == (Kind.ESTIMATED, Kind.MEASURED)
    assert second.g_per_kwh == 340.0


async def test_a_longer_history_is_asked_for_in_ranges_of_ten_days() -> None:
    def answer(asked: Asked) -> dict[str, Any]:
        row = {**LATEST, "datetime": asked.params["start"], "updatedAt": asked.params["end"]}
        row.pop("temporalGranularity")
        return {"zone": "DE", "data": [row]}

    source, http = provider(answer)
    found = (await read(source, Want.HISTORY, 300)).observed
    assert [(a.path, a.params["start"], a.params["end"]) for a in http.asked] == [
        ("/carbon-intensity/past-range", "2022-05-01T12:00:00Z", "2022-05-11T12:00:00Z"),
        ("/carbon-intensity/past-range", "2022-05-11T12:00:00Z", "2022-05-14T01:00:00Z"),
    ]
    assert {a.params["temporalGranularity"] for a in http.asked} == {"hourly"}
    assert [v.observed_at for v in found] == [T0 - 299 * HOUR, T0 - 59 * HOUR]


async def test_a_plan_without_ranges_gives_the_last_day() -> None:
    def answer(asked: Asked) -> Any:
        if asked.path.endswith("past-range"):
            return ProviderRefusedError("outside the plan")
        return {"zone": "DE", "history": [LATEST]}

    source, http = provider(answer)
    for _ in range(2):
        assert len((await read(source, Want.HISTORY, 216)).observed) == 1
    assert [a.path.rpartition("/")[2] for a in http.asked] == ["past-range", "history", "history"]
    wrong_key, http = provider(lambda _: ProviderRefusedError("wrong key"))
    with pytest.raises(ProviderRefusedError):
        await read(wrong_key, Want.HISTORY, 216)


async def test_a_forecast() -> None:
    source, http = provider(forecast([70, 71, 72]))
    found = (await read(source, Want.FORECAST, 40)).forecast
    assert found is not None
    assert (found.grid_zone, found.start, found.step_s) == ("DE", T0, HOUR)
    assert [slot.g_per_kwh for slot in found.slots] == [70.0, 71.0, 72.0]
    first = found.slots[0]
    assert first.kind is Kind.FORECAST and first.signal == LIFECYCLE
    assert first.observed_at == T0 - 1800.0 and first.expires_at == T0 - 1800.0 + DAY
    half = 70 * RELATIVE_HALF_WIDTH[Kind.FORECAST]
    assert first.high_g_per_kwh == pytest.approx(70 + half)
    assert http.asked[0].params["horizonHours"] == "48"


@pytest.mark.parametrize(
    ("hours", "asked"), [(1, "6"), (6, "6"), (7, "24"), (49, "72"), (96, "72")]
)
async def test_the_horizon_is_one_that_is_sold(hours: int, asked: str) -> None:
    source, http = provider(forecast([70]))
    await read(source, Want.FORECAST, hours)
    assert http.asked[0].params["horizonHours"] == asked


async def test_a_forecast_has_a_hole_where_it_says_nothing_and_widens_after_a_day() -> None:
    found = await ahead(forecast([None, 70, 71, None, 73]), now=T0 + HOUR)
    assert found.start == T0 + HOUR
    assert [s.g_per_kwh for s in found.slots if is_stated(s)] == [70.0, 71.0, 73.0]
    assert not is_stated(found.slots[2])
    long = await ahead(forecast([100] * 73))
    widths = [slot.high_g_per_kwh - 100.0 for slot in long.slots]
    assert widths == sorted(widths) and widths[10] == pytest.approx(14.2) and widths[72] > 18.0


async def test_a_forecast_without_a_time_of_issue_is_no_younger_than_its_start() -> None:
    answer = forecast([70] * 30)
    del answer["updatedAt"]
    assert (await ahead(answer)).slots[0].observed_at == T0
    assert (await ahead(answer, now=T0 + 20 * HOUR)).slots[0].age_s(T0 + 20 * HOUR) == 20 * HOUR
    late = forecast([70] * 30, updatedAt="2022-05-14T09:00:00Z")
    assert (await ahead(late)).slots[0].observed_at == NOW


async def test_a_forecast_in_finer_slots() -> None:
    rows = [{"carbonIntensity": 50, "datetime": stamped(0, minute)} for minute in (0, 15, 30, 45)]
    answer = forecast([], forecast=rows, temporalGranularity="15_minutes")
    assert (await ahead(answer)).step_s == 900.0
    unsaid = {k: v for k, v in answer.items() if k != "temporalGranularity"}
    found = await ahead(unsaid)
    assert found.step_s == 900.0 and len(found.slots) == 4


@pytest.mark.parametrize(
    ("answer", "leaf", "told"),
    [
        (forecast([]), NoDataError, "no forecast"),
        (forecast([None, None]), NoDataError, "no forecast"),
        (forecast([1, 2], zone="FR"), ProviderAnswerError, "'FR', expected 'DE'"),
        (forecast([1], emissionFactorType="direct"), ProviderAnswerError, "'direct'"),
        (forecast([1], forecast=None), ProviderAnswerError, "null, not a list"),
        (forecast([1], forecast=[1]), ProviderAnswerError, "no object"),
        (forecast([1], updatedAt="2022-05-14"), ProviderAnswerError, "not in UTC"),
    ],
)
async def test_a_forecast_that_cannot_be_used(
    answer: Any, leaf: type[ProviderError], told: str
) -> None:
    with pytest.raises(leaf, match=told):
        await ahead(answer)


async def test_a_forecast_that_lies_in_the_past_is_frozen() -> None:
    with pytest.raises(ProviderAnswerError, match="ended before now"):
        await ahead(forecast([70, 71]), now=T0 + 2 * HOUR)


async def test_a_forecast_that_does_not_say_its_factors_is_life_cycle() -> None:
    with pytest.raises(ProviderAnswerError, match="does not say its emission"):
        await ahead(forecast([1]), factors=Factors.DIRECT)
    said = forecast([1], emissionFactorType="direct")
    assert (await ahead(said, factors=Factors.DIRECT)).slots[0].signal.factors is Factors.DIRECT


async def test_an_unknown_zone_is_not_asked_for_and_spares_the_others() -> None:
    source, http = provider(LATEST)
    with pytest.raises(NoDataError, match="grid zone FR"):
        await source.fetch(["FR"], Want.LATEST, NOW, 1)
    assert http.asked == []
    answers = await source.fetch(["FR", "DE"], Want.LATEST, NOW, 1)
    assert isinstance(answers["FR"], NoDataError) and isinstance(answers["DE"], Reading)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["DE", KEY, "lifecycle", "hourly", stamped(0), stamped(3), "", "x" * 200]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*LATEST, "history", "data", "forecast", "error"]), inner, max_size=8
    ),
    max_leaves=12,
)  # fmt: skip
MUTATED = st.builds(
    lambda key, new, outer: outer({**LATEST, key: new}),
    st.sampled_from(sorted(LATEST)),
    JSON,
    st.sampled_from([
        lambda row: row,
        lambda row: {"zone": "DE", "history": [LATEST, row]},
        lambda row: {"zone": "DE", "data": [row, LATEST]},
        lambda row: {**row, "forecast": [LATEST, row]},
    ]),
)  # fmt: skip


@given(answer=JSON | MUTATED, want=st.sampled_from(list(Want)), hours=st.integers(0, 300))
@settings(deadline=None, max_examples=examples(75))
async def test_any_json_is_a_provider_error_or_valid_values(
    answer: Any, want: Want, hours: int
) -> None:
    source, _ = provider(answer)
    try:
        found = await read(source, want, hours)
    except ProviderError as error:
        assert KEY not in str(error)
        return
    values = [*found.observed, *(found.forecast.slots if found.forecast else ())]
    assert values
    for item in values:
        assert item.signal == LIFECYCLE and 0.0 < item.g_per_kwh <= 5000.0
    assert [v.observed_at for v in found.observed] == sorted(v.observed_at for v in found.observed)


@asynccontextmanager
async def wired(
    fake: FakeElectricityMaps, version: str = "v3", key: str = KEY, **more: Any
) -> AsyncIterator[ElectricityMaps]:
    async with serving(fake) as url, open_session() as session:
        http = HttpClient(
            lambda: session,
            f"{url}/{version}",
            provider="electricity_maps",
            clock=fake.world,
            limits=HttpLimits(timeout_s=2.0, max_bytes=1 << 20),
        )
        more.setdefault("factors", Factors.LIFECYCLE)
        places = more.pop("places", {"DE": "DE"})
        yield ElectricityMaps(http, places, key=Secret(key), **more)


def grid(**more: Any) -> FakeElectricityMaps:
    world = World(T0 + 30 * HOUR + 600.0, zones={"DE": GridZone("DE"), "FR": GridZone("FR")})
    return FakeElectricityMaps(world, ["DE", "FR"], keys={KEY: None}, **more)


@pytest.mark.parametrize(("version", "traced"), [("v3", None), ("v4", True)])
@pytest.mark.parametrize("factors", [Factors.LIFECYCLE, Factors.DIRECT])
async def test_the_fake_is_read_as_its_world_is(
    version: str, traced: bool | None, factors: Factors
) -> None:
    fake = grid()
    world = fake.world
    now, slot = world.now(), T0 + 30 * HOUR
    async with wired(fake, version, factors=factors, flow_traced=traced) as source:
        (latest,) = (await read(source, now=now)).observed
        assert latest.g_per_kwh == world.published("DE", slot, now, HOUR, factors)
        assert (latest.kind, latest.observed_at) == (Kind.ESTIMATED, slot + HOUR)
        day = (await read(source, Want.HISTORY, 24, now)).observed
        assert [v.observed_at for v in day] == [slot + (i - 22) * HOUR for i in range(24)]
        assert [v.kind for v in day] == [Kind.MEASURED] * 22 + [Kind.ESTIMATED] * 2
        assert day[0].g_per_kwh == world.g_per_kwh("DE", slot - 23 * HOUR, HOUR, factors)
        past = (await read(source, Want.HISTORY, 216, now)).observed
        assert len(past) in (216, 217) and past[-24:] == day
        if factors is Factors.LIFECYCLE:
            found = (await read(source, Want.FORECAST, 72, now)).forecast
            assert found is not None and (found.start, len(found.slots)) == (slot, 73)
            assert found.slots[9].g_per_kwh == world.forecast("DE", slot + 9 * HOUR, slot)


async def test_an_estimate_is_revised_in_the_history_of_the_fake() -> None:
    fake = grid()
    async with wired(fake) as source:
        before = (await read(source, Want.HISTORY, 24, fake.world.now())).observed[-1]
        fake.world.advance(4 * HOUR)
        after = (await read(source, Want.HISTORY, 24, fake.world.now())).observed[-5]
    assert before.observed_at == after.observed_at
    assert (before.kind, after.kind) == (Kind.ESTIMATED, Kind.MEASURED)
    assert after.g_per_kwh == fake.world.g_per_kwh("DE", after.observed_at - HOUR)


@pytest.mark.parametrize(
    ("fault", "leaf", "told"),
    [
        (What.DEAD, ProviderUnavailableError, "connection failed"),
        (What.SERVER_ERROR, ProviderUnavailableError, "HTTP 500"),
        (What.TOO_MANY, ProviderBusyError, "called too often"),
        (What.TRUNCATED, ProviderAnswerError, "cut off"),
        (What.INVALID, ProviderAnswerError, "no valid JSON"),
        (What.HTML, ProviderAnswerError, "no valid JSON"),
        (What.EMPTY, ProviderAnswerError, "is empty"),
        (What.HUGE, ProviderAnswerError, "larger than"),
        (What.KEY_REVOKED, ProviderRefusedError, "the key is wrong"),
        (What.OUTSIDE_PLAN, ProviderRefusedError, "its plan does not include this"),
        (What.NULL, NoDataError, "null or missing"),
        (What.NO_DATA, NoDataError, "HTTP 404"),
        (What.WRONG_ZONE, ProviderAnswerError, "'FR', expected 'DE'"),
        (What.OTHER_FACTORS, ProviderAnswerError, "'direct' emission factors"),
        (What.NAIVE_TIME, ProviderAnswerError, "not in UTC"),
    ],
)
async def test_faults_of_the_fake(fault: What, leaf: type[ProviderError], told: str) -> None:
    fake = grid(faults=[Fault(fault)])
    async with wired(fake) as source:
        with pytest.raises(leaf, match=told) as caught:
            await read(source, now=fake.world.now())
    assert KEY not in str(caught.value)


async def test_a_frozen_fake_ages_and_a_short_forecast_is_as_long_as_it_is() -> None:
    fake = grid()
    started = fake.world.now()
    fake.faults = [
        Fault(What.FROZEN, endpoint="latest", start=started),
        Fault(What.SHORT, endpoint="forecast", hours=3),
    ]
    async with wired(fake) as source:
        fake.world.advance(3 * HOUR)
        now = fake.world.now()
        (found,) = (await read(source, now=now)).observed
        assert found.age_s(now) == pytest.approx(now - (T0 + 31 * HOUR))
        short = (await read(source, Want.FORECAST, 48, now)).forecast
        assert short is not None and len(short.slots) == 4


async def test_a_zone_that_the_provider_does_not_know_is_not_answered_with_our_own() -> None:
    fake = grid()
    async with wired(fake, places={"DE": "XX"}) as source:
        with pytest.raises(ProviderAnswerError, match="HTTP 400"):
            await read(source, now=fake.world.now())
