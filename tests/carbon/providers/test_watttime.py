"""WattTime, on answers of its documented shape and against the fake over real sockets."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.providers.bands import MARGINAL_LEAST_HALF_WIDTH_G
from router.carbon.providers.budget import CallBudget, CallLimit
from router.carbon.providers.holes import is_stated
from router.carbon.providers.http import HttpClient, HttpLimits, open_session
from router.carbon.providers.provider import Provider, Reading, Want
from router.carbon.providers.watttime import G_PER_KWH_PER_LB_PER_MWH, Coordinates, WattTime
from router.errors import (
    CallBudgetError,
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from router.model import Basis, Factors, Intensity, Kind, Signal
from router.trust.secrets import Secret
from tests.carbon.http_support import Asked, StubHttp
from tests.examples import examples
from tests.fakes.serving import Fault, What, iso, serving
from tests.fakes.watttime import FakeWattTime
from tests.fakes.world import DAY, HOUR, GridZone, World

T0 = 1_657_843_200.0  # 2022-07-15T00:00Z
NOW = T0 + 900.0
MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)
ZONE, REGION = "US-CAL-CISO", "CAISO_NORTH"
PASSWORD = "wt-pa55word-7d31"
TOKEN = "t0ken-4bd1c2aa90"

META: dict[str, Any] = {
    "data_point_period_seconds": 300,
    "model": {"date": "2023-03-01", "type": "binned_regression"},
    "region": REGION,
    "signal_type": "co2_moer",
    "units": "lbs_co2_per_mwh",
    "warnings": [{"type": "EXAMPLE_WARNING", "message": "This is just an example"}],
}


def answer(values: list[Any], first: float = T0, **meta: Any) -> dict[str, Any]:
    rows = [
        {"point_time": iso(first + index * 300.0), "value": value}
        for index, value in enumerate(values)
    ]
    return {"data": rows, "meta": {**META, **meta}}


def source(body: Any, **more: Any) -> tuple[WattTime, StubHttp, StubHttp]:
    http = StubHttp(body if callable(body) else lambda _: copy.deepcopy(body))
    login = StubHttp(more.pop("login", lambda _: {"token": TOKEN}))
    places = more.pop("places", {ZONE: REGION})
    made = WattTime(http, login, places, user="me", password=Secret(PASSWORD), **more)
    return made, http, login


async def read(
    made: WattTime, want: Want = Want.LATEST, hours: int = 24, now: float = NOW
) -> Reading:
    found = (await made.fetch([ZONE], want, now, hours))[ZONE]
    assert isinstance(found, Reading)
    return found


async def test_the_latest_past_value_is_an_estimate_in_grams() -> None:
    made, http, login = source(answer([800, 900.5]))
    typed: Provider = made
    assert typed.signal == MARGINAL and typed.grid_zones == {ZONE}
    found = await read(made)
    g_per_kwh = 900.5 * 0.45359237
    half_g = g_per_kwh * 0.15 * 2.0
    assert G_PER_KWH_PER_LB_PER_MWH == 0.45359237
    assert found == Reading(
        (
            Intensity(
                g_per_kwh, g_per_kwh - half_g, g_per_kwh + half_g,
                MARGINAL, Kind.ESTIMATED, "watttime",
                observed_at=T0 + 600.0, expires_at=T0 + 600.0 + 2 * HOUR,
            ),
        ),
    )  # fmt: skip
    assert login.asked == [Asked("/login", {}, {}, ("me", PASSWORD))]
    assert http.asked == [
        Asked(
            "/v3/historical",
            {
                "region": REGION,
                "signal_type": "co2_moer",
                "start": iso(NOW - 6 * HOUR),
                "end": iso(NOW),
                "include_imputed_marker": "true",
            },
            {"Authorization": f"Bearer {TOKEN}"},
            None,
        )
    ]


async def test_a_rate_of_nothing_is_no_certainty() -> None:
    (found,) = (await read(source(answer([0]))[0])).observed
    assert (found.g_per_kwh, found.low_g_per_kwh) == (0.0, 0.0)
    assert found.high_g_per_kwh == MARGINAL_LEAST_HALF_WIDTH_G


async def test_imputed_values_are_twice_as_uncertain() -> None:
    body = answer([800, 800, 800])
    for row, imputed in zip(body["data"], (False, True, None), strict=True):
        row["imputed_data_used"] = imputed
    found = (await read(source(body)[0], Want.HISTORY)).observed
    widths = [value.high_g_per_kwh - value.g_per_kwh for value in found]
    assert widths[1] == pytest.approx(2 * widths[0]) and widths[2] == widths[0]
    assert {value.kind for value in found} == {Kind.ESTIMATED}


async def test_history_in_order_without_blanks_and_in_ranges_of_thirty_days() -> None:
    body = answer([1, None, 3])
    body["data"].reverse()
    found = (await read(source(body)[0], Want.HISTORY, 24)).observed
    assert [v.g_per_kwh for v in found] == [0.45359237, 3 * 0.45359237]
    assert [v.observed_at for v in found] == [T0 + 300.0, T0 + 900.0]
    made, http, _ = source(answer([1]))
    await read(made, Want.HISTORY, 31 * 24)
    assert [asked.params["start"] for asked in http.asked] == [
        iso(NOW - 31 * DAY),
        iso(NOW - DAY),
    ]


async def test_the_forecast_starts_with_now_and_is_a_forecast_from_its_first_point() -> None:
    made, http, _ = source(answer([870, 860, 850], generated_at=iso(T0 - 60.0)))
    found = (await read(made, Want.FORECAST, 96, T0 + 30.0)).forecast
    assert found is not None
    assert (found.grid_zone, found.start, found.step_s) == (ZONE, T0, 300.0)
    assert [s.g_per_kwh for s in found.slots] == [
        pytest.approx(v * 0.45359237) for v in (870, 860, 850)
    ]
    assert {s.kind for s in found.slots} == {Kind.FORECAST}
    assert {s.observed_at for s in found.slots} == {T0 - 60.0}
    assert http.asked[0].path == "/v3/forecast"
    assert http.asked[0].params["horizon_hours"] == "72"


async def test_a_forecast_has_holes_and_ages_when_its_issue_is_not_said() -> None:
    gap = answer([870, 860, None, 850, 840, 830])
    found = (await read(source(gap)[0], Want.FORECAST, now=T0 + 30.0)).forecast
    assert found is not None and found.start == T0
    assert [is_stated(slot) for slot in found.slots] == [True, True, False, True, True, True]
    long = answer([870] * 100)
    found = (await read(source(long)[0], Want.FORECAST, now=T0 + 5 * HOUR)).forecast
    assert found is not None and found.slots[0].age_s(T0 + 5 * HOUR) == 5 * HOUR
    with pytest.raises(ProviderAnswerError, match="ended before now"):
        await read(source(answer([870, 860]))[0], Want.FORECAST, now=T0 + 600.0)


@pytest.mark.parametrize("want", list(Want))
@pytest.mark.parametrize(
    ("body", "leaf", "told"),
    [
        (answer([37.1], units="percentile"), ProviderAnswerError, "not a rate of emissions"),
        (answer([870], units=None), ProviderAnswerError, "units are 'None'"),
        (answer([870], units=PASSWORD), ProviderAnswerError, r"units are \*\*\*"),
        (answer([870], region="CAISO_SOUTH"), ProviderAnswerError, "'CAISO_SOUTH', asked for"),
        (answer([870], region=None), ProviderAnswerError, "for region"),
        (answer([870], signal_type="co2_aoer"), ProviderAnswerError, "another signal"),
        (answer([870], data_point_period_seconds=0), ProviderAnswerError, "period_seconds is 0"),
        (answer([870], data_point_period_seconds="5"), ProviderAnswerError, "not a number"),
        (answer([-5]), ProviderAnswerError, "value is no number between"),
        (answer([99_999]), ProviderAnswerError, "no plant's lb/MWh"),
        (answer(["870"]), ProviderAnswerError, "str, not a number"),
        (answer([None]), NoDataError, "grid zone US-CAL-CISO"),
        (answer([]), NoDataError, "grid zone US-CAL-CISO"),
        ({"data": [], "meta": None}, ProviderAnswerError, "meta is null"),
        ({"meta": META}, ProviderAnswerError, "data is null, not a list"),
        ({"data": [{"point_time": "2022-07-15T00:00:00", "value": 1}], "meta": META},
         ProviderAnswerError, "not in UTC"),
        ([], ProviderAnswerError, "list, not an object"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_what_was_asked_for(
    body: Any, leaf: type[ProviderError], told: str, want: Want
) -> None:
    with pytest.raises(leaf, match=told) as caught:
        await read(source(body)[0], want)
    assert type(caught.value) is leaf
    assert PASSWORD not in str(caught.value)


async def test_values_of_a_time_to_come_are_no_observations() -> None:
    found = (await read(source(answer([1, 2, 3, 4, 5], first=NOW - 300.0))[0])).observed
    assert found[0].g_per_kwh == pytest.approx(3 * 0.45359237)
    with pytest.raises(NoDataError):
        await read(source(answer([1], first=NOW + HOUR))[0])


async def test_the_signal_index_is_never_called() -> None:
    made, http, _ = source(answer([870, 860]))
    for want in Want:
        await read(made, want, now=T0 + 400.0)
    assert {asked.path for asked in http.asked} == {"/v3/historical", "/v3/forecast"}


async def test_a_token_serves_until_shortly_before_it_ends() -> None:
    tokens = iter(["one-token", "two-token"])
    made, http, login = source(
        lambda asked: (
            answer([870], first=T0 + 30 * 60.0) if asked.path == "/v3/forecast" else answer([870])
        ),
        login=lambda _: {"token": next(tokens)},
    )
    for minute in (0, 10, 26):
        await read(made, now=NOW + minute * 60.0)
    assert len(login.asked) == 1
    await read(made, now=NOW + 27 * 60.0)
    assert len(login.asked) == 2
    sent = [asked.headers["Authorization"] for asked in http.asked]
    assert sent == ["Bearer one-token"] * 3 + ["Bearer two-token"]


async def test_a_token_refused_early_is_renewed_once() -> None:
    alive = {"one": False, "two": True}
    tokens = iter(alive)

    def body(asked: Asked) -> Any:
        token = asked.headers["Authorization"].removeprefix("Bearer ")
        return answer([870]) if alive[token] else ProviderRefusedError("HTTP 401", 401)

    made, http, login = source(body, login=lambda _: {"token": next(tokens)})
    assert (await read(made)).observed
    assert (len(login.asked), len(http.asked)) == (2, 2)


async def test_a_second_refusal_is_meant_and_403_is_the_plan() -> None:
    made, http, login = source(lambda _: ProviderRefusedError("HTTP 401", 401))
    with pytest.raises(ProviderRefusedError):
        await read(made)
    assert (len(login.asked), len(http.asked)) == (2, 2)
    made, http, login = source(lambda _: ProviderRefusedError("HTTP 403"))
    with pytest.raises(ProviderRefusedError):
        await read(made)
    assert (len(login.asked), len(http.asked)) == (1, 1)


@pytest.mark.parametrize("user", ["", "a:b", "a\nb"])
def test_a_user_that_basic_cannot_carry(user: str) -> None:
    with pytest.raises(ConfigError, match="user"):
        WattTime(StubHttp(lambda _: 0), StubHttp(lambda _: 0), {}, user=user, password=Secret("p"))


async def test_a_point_is_looked_up_once_a_month() -> None:
    def body(asked: Asked) -> Any:
        if asked.path == "/v3/region-from-loc":
            return {"region": REGION, "signal_type": "co2_moer"}
        when = next(times)
        return answer([870], first=when - 600.0, region=asked.params["region"])

    made, http, _ = source(body, places={ZONE: Coordinates(42.372, -72.519)})
    seen = [NOW, NOW + HOUR, NOW + 31 * DAY]
    times = iter(seen)
    for now in seen:
        await read(made, now=now)
    looked = [asked for asked in http.asked if asked.path == "/v3/region-from-loc"]
    assert [asked.params for asked in looked] == [
        {"latitude": "42.372000", "longitude": "-72.519000", "signal_type": "co2_moer"}
    ] * 2
    unknown, _, _ = source({"region": ""}, places={ZONE: Coordinates(0.0, 0.0)})
    with pytest.raises(ProviderAnswerError, match="which region"):
        await read(unknown)


async def test_an_unknown_zone_is_not_asked_for() -> None:
    made, http, login = source(answer([870]))
    with pytest.raises(NoDataError, match="grid zone DE"):
        await made.fetch(["DE"], Want.LATEST, NOW, 1)
    assert http.asked == [] and login.asked == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([REGION, PASSWORD, TOKEN, "lbs_co2_per_mwh", iso(T0), "", "x" * 200]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["data", "meta", "point_time", "value", *META]), inner, max_size=6
    ),
    max_leaves=12,
)  # fmt: skip
MUTATED = st.builds(
    lambda key, new, row: {
        "data": [{"point_time": iso(T0), "value": 870}, row],
        "meta": {**META, key: new},
    },
    st.sampled_from(["generated_at", *META]),
    JSON,
    st.fixed_dictionaries(
        {"point_time": JSON | st.just(iso(T0 + 300.0)), "value": JSON},
        optional={"imputed_data_used": JSON},
    ),
)


@given(body=JSON | MUTATED, token=JSON, want=st.sampled_from(list(Want)), hours=st.integers(0, 99))
@settings(deadline=None, max_examples=examples(75))
async def test_any_json_is_a_provider_error_or_valid_values(
    body: Any, token: Any, want: Want, hours: int
) -> None:
    made, _, _ = source(body, login=lambda _: {"token": token} if token else {"token": TOKEN})
    try:
        found = await read(made, want, hours)
    except ProviderError as error:
        assert PASSWORD not in str(error)
        return
    values = [*found.observed, *(found.forecast.slots if found.forecast else ())]
    assert values
    for item in values:
        assert item.signal == MARGINAL and 0.0 <= item.g_per_kwh <= 5000.0


@asynccontextmanager
async def wired(fake: FakeWattTime, **more: Any) -> AsyncIterator[WattTime]:
    async with serving(fake) as url, open_session() as session:
        limits = HttpLimits(timeout_s=2.0, max_bytes=1 << 20)
        http, login = (
            HttpClient(
                lambda: session, url, provider=name, clock=fake.world, limits=limits,
                budget=CallBudget(CallLimit(calls, 300.0)),
            )
            for name, calls in (("watttime", 3000), ("watttime login", 100))
        )  # fmt: skip
        places = more.pop("places", {ZONE: REGION})
        yield WattTime(http, login, places, user="me", password=Secret(PASSWORD))


def grid(**more: Any) -> FakeWattTime:
    zones = {REGION: GridZone(REGION), "CAISO_SOUTH": GridZone("CAISO_SOUTH")}
    world = World(T0 + 30 * HOUR + 70.0, zones=zones)
    return FakeWattTime(world, list(zones), users={"me": PASSWORD}, **more)


async def test_the_fake_is_read_as_its_world_is() -> None:
    fake = grid()
    world, now, slot = fake.world, fake.world.now(), T0 + 30 * HOUR
    async with wired(fake) as made:
        (latest,) = (await read(made, now=now)).observed
        assert latest.observed_at == slot
        rate = world.moer_lbs_per_mwh(REGION, slot - 300.0)
        assert latest.g_per_kwh == pytest.approx(rate * 0.45359237)
        past = (await read(made, Want.HISTORY, 24, now)).observed
        assert len(past) == 288 - 1 and past[-1] == latest
        ahead = (await read(made, Want.FORECAST, 72, now)).forecast
        assert ahead is not None and (ahead.start, len(ahead.slots)) == (slot, 864)
        rate = world.moer_lbs_per_mwh(REGION, slot)
        assert ahead.slots[0].g_per_kwh == pytest.approx(rate * 0.45359237)
    assert [call.endpoint for call in fake.calls].count("login") == 1


async def test_the_token_of_the_fake_ends_and_is_renewed() -> None:
    fake = grid()
    async with wired(fake) as made:
        for _ in range(4):
            await read(made, now=fake.world.now())
            fake.world.advance(20 * 60.0)
        await read(made, now=fake.world.now())
        assert len(fake.tokens) == 3
        fake.tokens.clear()
        await read(made, now=fake.world.now())
    assert [call.endpoint for call in fake.calls if call.status == 401] == ["historical"]


async def test_a_point_in_the_fake() -> None:
    fake = grid(places={REGION: (38.0, -121.0)})
    async with wired(fake, places={ZONE: Coordinates(38.5, -121.5)}) as made:
        assert (await read(made, now=fake.world.now())).observed
    async with wired(fake, places={ZONE: Coordinates(0.0, 0.0)}) as made:
        with pytest.raises(NoDataError, match="HTTP 404"):
            await read(made, now=fake.world.now())


@pytest.mark.parametrize("want", [Want.LATEST, Want.FORECAST])
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
        (What.KEY_REVOKED, ProviderRefusedError, "watttime login /login: HTTP 401"),
        (What.OUTSIDE_PLAN, ProviderRefusedError, "its plan does not include this"),
        (What.NULL, NoDataError, "grid zone US-CAL-CISO"),
        (What.NO_DATA, NoDataError, "HTTP 404"),
        (What.NO_ROWS, NoDataError, "grid zone US-CAL-CISO"),
        (What.WRONG_ZONE, ProviderAnswerError, "'CAISO_SOUTH', asked for 'CAISO_NORTH'"),
        (What.OTHER_UNIT, ProviderAnswerError, "units are 'percentile'"),
        (What.NAIVE_TIME, ProviderAnswerError, "not in UTC"),
    ],
)
async def test_faults_of_the_fake(
    fault: What, leaf: type[ProviderError], told: str, want: Want
) -> None:
    everywhere = "" if fault is What.KEY_REVOKED else "historical"
    faults = [Fault(fault, endpoint=e) for e in {everywhere, everywhere and "forecast"}]
    fake = grid(faults=faults)
    async with wired(fake) as made:
        with pytest.raises(leaf, match=told) as caught:
            await read(made, want, now=fake.world.now())
    assert PASSWORD not in str(caught.value) and "token-0" not in str(caught.value)


async def test_logins_have_a_limit_of_their_own() -> None:
    fake = grid(faults=[Fault(What.SERVER_ERROR, endpoint="login")])
    async with wired(fake) as made:
        for _ in range(100):
            with pytest.raises(ProviderUnavailableError):
                await read(made, now=fake.world.now())
        with pytest.raises(CallBudgetError, match="100 in 300 s"):
            await read(made, now=fake.world.now())
    assert len(fake.calls) == 100
