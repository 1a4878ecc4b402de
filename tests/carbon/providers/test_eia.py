"""EIA-930 by API v2, on answers of its recorded shape and against the fake over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.providers.eia import Eia
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
from router.model import Basis, Factors, Kind, Signal
from router.trust.secrets import Secret
from tests.carbon.http_support import StubHttp
from tests.fakes.eia import FakeEia
from tests.fakes.serving import Fault, What, serving
from tests.fakes.world import HOUR, GridZone, World

KEY = "eia-s3cret-5d1f0a7be2"
PLACES = {"US-CAL-CISO": "CISO", "US-TEX-ERCO": "ERCO"}
NOW = datetime.fromisoformat("2025-01-03T06:20Z").timestamp()
USUAL = {"NG": "6000", "NUC": 2000, "WND": "2000"}


def row(period: str, respondent: str, fuel: str, value: Any, **more: Any) -> dict[str, Any]:
    return {
        "period": period, "respondent": respondent, "fueltype": fuel, "value": value,
        "value-units": "megawatthours", **more,
    }  # fmt: skip


def period(end: float) -> str:
    return datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H")


def body(rows: Iterable[Any], **more: Any) -> dict[str, Any]:
    return {"response": {"total": "1", "data": list(rows), "frequency": "hourly", **more}}


def hours(count: int, respondent: str = "CISO", last: float = NOW, **mix: Any) -> list[Any]:
    """``count`` hours of which the last ended at or before ``last``."""
    end = last // HOUR * HOUR
    fuels = mix or USUAL
    return [
        row(period(end - back * HOUR), respondent, fuel, value)
        for back in range(count)
        for fuel, value in fuels.items()
    ]


def provider_of(*bodies: Any) -> tuple[Eia, StubHttp]:
    pages = iter(bodies)
    http = StubHttp(lambda asked: next(pages))
    return Eia(http, PLACES, key=Secret(KEY), factors=Factors.LIFECYCLE), http


async def read(*bodies: Any, want: Want = Want.LATEST, now: float = NOW) -> Reading:
    found = (await provider_of(*bodies)[0].fetch(["US-CAL-CISO"], want, now, 1))["US-CAL-CISO"]
    assert isinstance(found, Reading)
    return found


async def test_one_call_asks_for_several_respondents() -> None:
    provider, http = provider_of(body(hours(3) + hours(2, "ERCO", COL=100, WND=100)))
    as_provider: Provider = provider
    answers = await as_provider.fetch(list(PLACES), Want.LATEST, NOW, 1)
    (asked,) = http.asked
    assert asked.path == "/v2/electricity/rto/fuel-type-data/data/"
    assert asked.params["facets[respondent][0]"] == "CISO"
    assert asked.params["facets[respondent][1]"] == "ERCO"
    assert (asked.params["start"], asked.params["length"]) == ("2025-01-01T06", "5000")
    assert asked.params["api_key"] == KEY and asked.headers == {}
    ciso, erco = answers["US-CAL-CISO"], answers["US-TEX-ERCO"]
    assert isinstance(ciso, Reading) and isinstance(erco, Reading)
    assert len(ciso.observed) == 3 and len(erco.observed) == 2
    assert ciso.observed[-1].g_per_kwh == pytest.approx(0.6 * 490 + 0.2 * 12 + 0.2 * 11)
    assert erco.observed[-1].g_per_kwh == pytest.approx((820 + 11) / 2)
    assert ciso.forecast is None
    assert provider.zones_per_call > 1 and Want.FORECAST not in provider.wants


async def test_stamps_are_the_ends_of_hours_and_sums_of_assumed_factors() -> None:
    newest = (await read(body(hours(30)))).observed[-1]
    assert newest.observed_at == datetime.fromisoformat("2025-01-03T06:00Z").timestamp()
    assert newest.kind is Kind.ESTIMATED and newest.source == "eia (production-based)"
    assert newest.signal == Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    # A day's delay is usual here, and no staleness.
    assert newest.expires_at == newest.observed_at + 26 * HOUR


async def test_delay_and_freezing_show_as_age() -> None:
    late = NOW + 30 * HOUR
    newest = (await read(body(hours(30)), now=late)).observed[-1]
    assert newest.age_s(late) > 30 * HOUR and newest.expires_at < late


async def test_an_hour_to_come_is_not_observed() -> None:
    early = NOW - 3 * HOUR
    assert (await read(body(hours(30)), now=early)).observed[-1].observed_at <= early


async def test_storage_and_unknown_codes() -> None:
    plain = (await read(body(hours(3)))).observed[-1].g_per_kwh
    storage = {**USUAL, "BAT": "-900", "PS": 700, "OES": 1, "UES": None}
    assert (await read(body(hours(3, **storage)))).observed[-1].g_per_kwh == plain
    with pytest.raises(NoDataError, match="other or unknown"):
        await read(body(hours(3, **USUAL, ZZZ=2000)))
    hybrids = {"NG": 50, "SUN": 20, "SNB": 5, "WND": 20, "WNB": "5"}
    value = (await read(body(hours(3, **hybrids)))).observed[-1].g_per_kwh
    assert value == pytest.approx(0.5 * 490 + 0.25 * 41 + 0.25 * 11)


async def test_half_reported_hours_are_passed_over() -> None:
    end = NOW // HOUR * HOUR
    rows = [r for r in hours(30) if not (r["period"] == period(end) and r["fueltype"] == "NG")]
    assert (await read(body(rows))).observed[-1].observed_at == end - HOUR
    rows = [{**r, "value": None} if r["period"] == period(end) else r for r in hours(30)]
    assert (await read(body(rows))).observed[-1].observed_at == end - HOUR


async def test_pages_are_read_to_the_end() -> None:
    first = [row("2024-01-01T00", "CISO", f"X{i}", None) for i in range(5000)]
    provider, http = provider_of(body(first), body(hours(2)))
    found = (await provider.fetch(["US-CAL-CISO"], Want.HISTORY, NOW, 216))["US-CAL-CISO"]
    assert isinstance(found, Reading) and len(found.observed) == 2
    assert [asked.params["offset"] for asked in http.asked] == ["0", "5000"]
    assert http.asked[0].params["start"] == "2024-12-25T06"
    for_ever = StubHttp(lambda asked: body(first))
    eia = Eia(for_ever, PLACES, key=Secret(KEY), factors=Factors.LIFECYCLE)
    with pytest.raises(ProviderAnswerError, match="without an end"):
        await eia.fetch(["US-CAL-CISO"], Want.LATEST, NOW, 1)
    assert len(for_ever.asked) < 100


async def test_a_row_that_moved_to_the_next_page_counts_once() -> None:
    rows = hours(3)
    assert await read(body(rows + rows)) == await read(body(rows))
    again = [{**rows[0], "value": "9999"}]
    assert (await read(body(rows + again))).observed == (await read(body(rows))).observed[:-1]


@pytest.mark.parametrize(
    "change",
    [
        {"respondent": "PJM"}, {"respondent": None}, {"period": "2025-01-03"},
        {"period": "2025-01-03T25"}, {"period": "2025-01-03T06-08"}, {"period": 5},
        {"value": "x"}, {"value": True}, {"value": [1]}, {"value": "1e5"}, {"value": 1e300},
        {"value-units": "gigawatthours"}, {"fueltype": 3},
    ],
)  # fmt: skip
async def test_rows_of_another_shape_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderAnswerError):
        await read(body([{**row("2025-01-03T06", "CISO", "NG", "1"), **change}]))


@pytest.mark.parametrize(
    "answer",
    [None, [], {"error": "x"}, {"response": []}, {"response": {}}, {"response": {"data": [1]}},
     body(hours(2), frequency="local-hourly")],
)  # fmt: skip
async def test_answers_of_another_shape_are_refused(answer: Any) -> None:
    with pytest.raises(ProviderAnswerError):
        await read(answer)


async def test_a_zone_without_rows_does_not_cost_the_others_theirs() -> None:
    provider, _ = provider_of(body(hours(3)))
    answers = await provider.fetch([*PLACES, "FR"], Want.LATEST, NOW, 1)
    assert isinstance(answers["US-CAL-CISO"], Reading)
    assert isinstance(answers["US-TEX-ERCO"], NoDataError)
    assert isinstance(answers["FR"], NoDataError)
    with pytest.raises(NoDataError, match="no respondent"):
        await provider.fetch(["FR"], Want.LATEST, NOW, 1)


def test_factors_have_to_be_stated() -> None:
    with pytest.raises(ConfigError, match="lifecycle or direct"):
        Eia(StubHttp(lambda asked: None), PLACES, key=Secret(KEY), factors=Factors.NONE)


FIGURES = (
    st.none() | st.booleans() | st.integers() | st.floats()
    | st.sampled_from([KEY, "CISO", "2025-01-03T06", "NG", "WAT", "-5", "megawatthours"])
)  # fmt: skip
ROWS = st.dictionaries(
    st.sampled_from(["period", "respondent", "fueltype", "value", "value-units"]), FIGURES
) | st.builds(row, st.just("2025-01-03T06"), st.just("CISO"), st.just("NG"), FIGURES)


@given(st.lists(ROWS, max_size=4).map(body) | FIGURES | st.lists(FIGURES))
@settings(max_examples=150, deadline=None)
async def test_any_json_is_a_reading_or_an_error_without_the_key(answer: Any) -> None:
    try:
        found = await read(answer)
    except ProviderError as error:
        assert KEY not in str(error)
        return
    assert found.observed


@asynccontextmanager
async def wired(fake: FakeEia, places: dict[str, str] | None = None) -> AsyncIterator[Eia]:
    async with serving(fake) as url, open_session() as session:
        limits = HttpLimits(timeout_s=2.0, max_bytes=8 << 20)
        http = HttpClient(lambda: session, url, provider="eia", clock=fake.world, limits=limits)
        places = places or {"US-CAL-CISO": "CISO"}
        yield Eia(http, places, key=Secret(KEY), factors=Factors.LIFECYCLE)


def fake_of(*faults: Fault, now: float = NOW, keys: tuple[str, ...] = (KEY,)) -> FakeEia:
    zones = {"CISO": GridZone("CISO", lag_s=5 * HOUR, storage_mw=800.0), "ERCO": GridZone("ERCO")}
    world = World(now, zones=zones)
    return FakeEia(world, {"CISO": "CISO", "ERCO": "ERCO"}, keys=keys, faults=list(faults))


# An ordinary day, and the nights on which clocks change in California.
@pytest.mark.parametrize("begin", ["2025-01-03T06:20Z", "2025-03-09T13:20Z", "2025-11-02T13:20Z"])
async def test_the_fake_is_read_as_its_world_is(begin: str) -> None:
    fake = fake_of(now=datetime.fromisoformat(begin).timestamp())
    async with wired(fake) as provider:
        latest = await provider.fetch(["US-CAL-CISO"], Want.LATEST, fake.world.now(), 1)
        past = await provider.fetch(["US-CAL-CISO"], Want.HISTORY, fake.world.now(), 216)
    near, far = latest["US-CAL-CISO"], past["US-CAL-CISO"]
    assert isinstance(near, Reading) and isinstance(far, Reading)
    assert near.observed[-1].observed_at == fake.world.now() // HOUR * HOUR - 5 * HOUR
    assert len(far.observed) > 200 and far.observed[-1] == near.observed[-1]
    for value in far.observed:
        true = fake.world.g_per_kwh("CISO", value.observed_at - HOUR)
        # Both round: the world its intensity, the fake its megawatthours.
        assert value.g_per_kwh == pytest.approx(true, abs=0.6)
    assert fake.calls[-1].key == KEY


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(What.TOO_MANY, retry_after_s=60.0), ProviderBusyError),
        (Fault(What.KEY_REVOKED), ProviderRefusedError),
        (Fault(What.OUTSIDE_PLAN), ProviderRefusedError),
        (Fault(What.SERVER_ERROR), ProviderUnavailableError),
        (Fault(What.DEAD), ProviderUnavailableError),
        (Fault(What.TRUNCATED), ProviderAnswerError),
        (Fault(What.WRONG_ZONE), ProviderAnswerError),
        (Fault(What.NO_ROWS), NoDataError),
        (Fault(What.NULL), NoDataError),
    ],
)
async def test_faults_are_told_apart_without_the_key(
    fault: Fault, error: type[ProviderError]
) -> None:
    async with wired(fake_of(fault)) as provider:
        with pytest.raises(error) as caught:
            await provider.fetch(["US-CAL-CISO"], Want.LATEST, NOW, 1)
    assert KEY not in str(caught.value)
