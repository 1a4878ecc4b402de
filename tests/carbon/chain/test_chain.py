from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.chain import NOWCAST_MAX_AGE_S, CarbonChain, SourceOrder
from router.carbon.chain.combine import EVIDENCE, Combiner
from router.carbon.forecast import Nowcast
from router.carbon.polling.source import PolledSource
from router.carbon.providers.holes import bridged
from router.carbon.providers.provider import Reading, Want
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import StaticSource
from router.carbon.tables.table import TraceTable
from router.carbon.tables.trace import TraceForecastSource, TraceSource
from router.errors import (
    DataError,
    MixedBasisError,
    ProviderError,
    ProviderRefusedError,
    TraceError,
)
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from tests.carbon.carried import Carried
from tests.carbon.stub_provider import StubProvider

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
DIRECT = Signal(Basis.AVERAGE, Factors.DIRECT)
HOUR = 3600.0
NOW = datetime(2022, 5, 14, 12, 20, tzinfo=UTC).timestamp()
START = NOW - 20 * 60.0
ZONE = "US-CAL-CISO"
OTHER = "US-TEX-ERCO"


def a_value(
    g_per_kwh: float = 123.0,
    kind: Kind = Kind.MEASURED,
    observed_at: float = START,
    signal: Signal = SIGNAL,
    source: str = "fake",
) -> Intensity:
    expires_at = observed_at + 2 * HOUR
    return Intensity(g_per_kwh, g_per_kwh, g_per_kwh, signal, kind, source, observed_at, expires_at)


@pytest.fixture(autouse=True)
def defects(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """A defect is logged and passed over, so it would hide: what is logged must be expected."""
    expected: list[str] = []
    yield expected
    logged = [r for phase in ("setup", "call") for r in caplog.get_records(phase)]
    seen = {str(r.exc_info[1]) if r.exc_info else r.getMessage() for r in logged}
    assert seen <= set(expected)


class Fake:
    """Answers every zone with ``value``; raises what ``error`` is; hangs on request."""

    def __init__(
        self,
        value: Intensity | None = None,
        *,
        name: str = "fake",
        error: BaseException | None = None,
        hangs: bool = False,
    ) -> None:
        self.name, self.signal = name, SIGNAL
        self.value, self.error, self.hangs = value, error, hangs
        self.asked: list[tuple[str, ...]] = []
        self.cancelled = 0

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        self.asked.append(tuple(grid_zones))
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        if self.error is not None:
            raise self.error
        return {} if self.value is None else dict.fromkeys(grid_zones, self.value)


def grid(hours: int = 240, ahead: int = 0, blank: Sequence[int] = ()) -> TraceTable:
    """Two zones; rows end ``ahead`` hours after START; ``blank``: rows counted from the last."""
    index = np.arange(-hours, 0.0)
    values = np.column_stack([index + 500.0, index + 900.0])
    for row in blank:
        values[-row] = np.nan
    return TraceTable("grid.csv", (ZONE, OTHER), START + (ahead - hours) * HOUR, HOUR, values)


def trace(**options: object) -> TraceSource:
    return TraceSource(grid(**options), signal=SIGNAL, kind=Kind.MEASURED)  # type: ignore[arg-type]


def static() -> StaticSource:
    return StaticSource.load(SIGNAL, {}, as_of=START)


def chain(
    *sources: object,
    annual: StaticSource | None = None,
    forecaster: Carried | None = None,
    **options: object,
) -> CarbonChain:
    told = forecaster or Carried()
    options.setdefault("timeout_s", 0.02)
    return CarbonChain(sources, told, annual, **options)  # type: ignore[arg-type]


async def refreshed(
    *sources: object, annual: StaticSource | None = None, forecaster: Carried | None = None
) -> CarbonChain:
    built = chain(*sources, annual=annual, forecaster=forecaster)
    await built.refresh([ZONE, OTHER], NOW)
    return built


def kinds(forecast: Forecast) -> list[Kind]:
    return [slot.kind for slot in forecast.slots]


def test_sources_of_one_chain_share_one_signal() -> None:
    direct = TraceSource(grid(), signal=DIRECT, kind=Kind.MEASURED)
    with pytest.raises(MixedBasisError, match=r"trace:grid\.csv is average/direct"):
        chain(Climatology.load(), direct)
    with pytest.raises(MixedBasisError, match="annual means"):
        chain(direct, annual=static())
    with pytest.raises(DataError, match="at least one source"):
        chain()
    assert chain(direct).signal == DIRECT


async def test_a_fresh_observation_becomes_a_nowcast_with_its_age() -> None:
    view = (await refreshed(trace(), Climatology.load())).view([ZONE, OTHER], NOW, 24)
    assert list(view) == [ZONE, OTHER]
    forecast = view[ZONE]
    assert (forecast.start, forecast.step_s, len(forecast.slots)) == (START, HOUR, 24)
    assert set(kinds(forecast)) == {Kind.FORECAST}
    assert forecast.slots[0].source == "nowcast(trace:grid.csv)"
    assert forecast.slots[0].age_s(NOW) == NOW - START
    assert forecast.slots[0].expires_at > NOW


async def test_history_fills_the_forecaster_at_the_first_refresh() -> None:
    at_once, hourly = Carried(), Carried()
    await refreshed(trace(), forecaster=at_once)
    steady = chain(trace(), forecaster=hourly)
    for hours in range(-20, 1):
        await steady.refresh([ZONE, OTHER], NOW + hours * HOUR)
    for zone in (ZONE, OTHER):
        assert len(at_once.told[zone]) == 216
        assert at_once.by_slot(zone).items() <= hourly.by_slot(zone).items()
        assert len(hourly.told[zone]) == len(hourly.by_slot(zone)) == 236


async def test_a_steady_chain_asks_for_history_only_now_and_then() -> None:
    class Counting(TraceSource):
        asked = 0

        async def history(
            self, grid_zones: Sequence[str], now: float, hours: int
        ) -> Mapping[str, Sequence[Intensity]]:
            self.asked += 1
            return await super().history(grid_zones, now, hours)

    source = Counting(grid(), signal=SIGNAL, kind=Kind.MEASURED)
    built = chain(source)
    for minutes in range(-600, 1, 20):
        await built.refresh([ZONE, OTHER], NOW + minutes * 60.0)
        assert [attempt.ok for attempt in built.attempts[ZONE]] == [True]
    # Once to fill up, then every third hour for what was revised.
    assert source.asked == 1 + 3
    assert built.view([ZONE], NOW, 1)[ZONE].slots[0].observed_at == START


async def test_a_gap_between_refreshes_is_filled() -> None:
    told = Carried()
    gappy = chain(trace(), forecaster=told)
    for hours in (-230, -100, -99, -30, 0):
        await gappy.refresh([ZONE], NOW + hours * HOUR)
    slots = [value.observed_at for value in told.told[ZONE]]
    assert slots == [START - hours * HOUR for hours in range(239, -1, -1)]


async def test_a_published_forecast_comes_first_where_it_reaches() -> None:
    published = TraceForecastSource(grid(ahead=6), signal=SIGNAL)
    built = await refreshed(published, trace(), Climatology.load())
    slots = built.view([ZONE], NOW, 24)[ZONE].slots
    assert [slot.source for slot in slots[:6]] == ["trace:grid.csv"] * 6
    assert {slot.source for slot in slots[6:]} == {"nowcast(trace:grid.csv)"}
    assert [slot.g_per_kwh for slot in slots[:6]] == [494.0, 495.0, 496.0, 497.0, 498.0, 499.0]


async def test_an_observed_value_whose_slot_contains_now_is_used_as_it_is() -> None:
    current = a_value(kind=Kind.ESTIMATED, observed_at=START + HOUR)
    slots = (await refreshed(Fake(current))).view([ZONE], NOW, 3)[ZONE].slots
    assert slots[0] is current
    assert [slot.kind for slot in slots[1:]] == [Kind.FORECAST] * 2
    assert (await refreshed(Fake(current))).view([ZONE], NOW - 9 * HOUR, 3) == {}


async def test_a_forecast_reading_serves_its_hour_only() -> None:
    built = await refreshed(Fake(a_value(kind=Kind.FORECAST)), Climatology.load())
    assert kinds(built.view([ZONE], NOW, 2)[ZONE]) == [Kind.FORECAST, Kind.CLIMATOLOGY]
    assert kinds(built.view([ZONE], NOW + HOUR, 1)[ZONE]) == [Kind.CLIMATOLOGY]


async def test_an_observation_fades_into_climatology_then_nothing_is_left() -> None:
    built = await refreshed(trace(), Climatology.load(), annual=static())
    bare = await refreshed(trace())
    before = built.view([ZONE], NOW, 1)[ZONE].slots[0]
    widths = [before.high_g_per_kwh / before.g_per_kwh]
    for hours in (6, 24, 48, 95):
        slot = built.view([ZONE], NOW + hours * HOUR, 1)[ZONE].slots[0]
        assert slot.kind is Kind.FORECAST and slot.observed_at == START
        widths.append(slot.high_g_per_kwh / slot.g_per_kwh)
        assert slot.expires_at < NOW + hours * HOUR
    assert widths == sorted(widths) and widths[0] < widths[-1]
    usual = built.view([ZONE], NOW + 96 * HOUR, 2)[ZONE]
    assert kinds(usual) == [Kind.CLIMATOLOGY] * 2
    # What is usual is not known better for the observation's being too old.
    assert usual.slots[0].high_g_per_kwh / usual.slots[0].g_per_kwh >= widths[-1]
    assert bare.view([ZONE], NOW + 96 * HOUR, 2) == {}


async def test_climatology_before_annual_mean_whatever_the_order() -> None:
    built = await refreshed(static(), Climatology.load(), annual=static())
    view = built.view([ZONE, "SG", "nowhere"], NOW, 5)
    assert set(kinds(view[ZONE])) == {Kind.CLIMATOLOGY}
    assert set(kinds(view["SG"])) == {Kind.ANNUAL_MEAN}
    assert "nowhere" not in view
    mean = built.annual_mean("SG")
    assert mean is not None and mean.g_per_kwh == 497.1
    assert built.annual_mean("nowhere") is None
    assert chain(Climatology.load()).annual_mean("SG") is None


async def test_annual_means_among_the_sources_serve_too() -> None:
    built = chain(static())
    await built.refresh(["SG"], NOW)
    assert kinds(built.view(["SG"], NOW, 3)["SG"]) == [Kind.ANNUAL_MEAN] * 3


async def test_the_next_source_is_asked_only_for_what_is_still_open() -> None:
    second = Fake(a_value())
    table = grid()
    table.g_per_kwh[:, 1] = np.nan
    first = TraceSource(table, signal=SIGNAL, kind=Kind.MEASURED)
    built = await refreshed(first, second)
    assert second.asked == [(OTHER,)]
    assert built.attempts[ZONE] == (SourceAttempt("trace:grid.csv", True, "", "", 1200.0),)
    assert built.attempts[OTHER] == (
        SourceAttempt("trace:grid.csv", False, "no value for this grid zone", "provider_no_data"),
        SourceAttempt("fake", True, "", "", 1200.0),
    )


async def test_a_stale_answer_lets_the_next_source_speak() -> None:
    old = Fake(a_value(400.0, observed_at=NOW - 9 * HOUR), name="old")
    built = await refreshed(old, Fake(a_value(200.0)))
    assert [(attempt.source, attempt.why) for attempt in built.attempts[ZONE]] == [
        ("old", "stale"),
        ("fake", ""),
    ]
    assert built.view([ZONE], NOW, 1)[ZONE].slots[0].source == "nowcast(fake)"


async def test_an_older_observation_does_not_replace_a_newer_one() -> None:
    current = a_value(200.0, kind=Kind.ESTIMATED, observed_at=START + HOUR)
    lively = Fake(current, name="lively")
    lagging = Fake(a_value(400.0, observed_at=START - HOUR))
    built = await refreshed(lively, lagging)
    before = built.view([ZONE], NOW, 24)
    lively.error = OSError("gone")
    await built.refresh([ZONE], NOW + 60.0)
    assert lagging.asked == [(ZONE,)]
    assert built.view([ZONE], NOW, 24) == before
    assert before[ZONE].slots[0] is current


async def test_a_history_is_held_to_the_same_rules_as_a_reading() -> None:
    class WithHistory(Fake):
        async def history(
            self, grid_zones: Sequence[str], now: float, hours: int
        ) -> Mapping[str, Sequence[Intensity]]:
            past = [
                a_value(0.0, observed_at=START - 3 * HOUR),
                a_value(999.0, observed_at=START - 2 * HOUR, signal=DIRECT),
            ]
            return dict.fromkeys(grid_zones, past)

    clean = await refreshed(Fake(a_value(300.0)))
    dirty = await refreshed(WithHistory(a_value(300.0)))
    assert dirty.view([ZONE], NOW, 24) == clean.view([ZONE], NOW, 24)


FAILURES = {
    "data": (Fake(error=TraceError("grid.csv: gone")), "TraceError: grid.csv: gone"),
    "os": (
        Fake(error=ConnectionResetError("reset by peer")),
        "ConnectionResetError: reset by peer",
    ),
    "timeout": (Fake(error=TimeoutError()), "no answer within 0.02 s"),
    "hangs": (Fake(hangs=True), "no answer within 0.02 s"),
    "cancels itself": (Fake(error=asyncio.CancelledError()), "cancelled itself"),
    "defect": (Fake(error=KeyError("secret")), "internal error: KeyError"),
    "wrong signal": (Fake(a_value(signal=DIRECT)), "answered in average/direct"),
    "zero": (Fake(a_value(0.0)), "taken for a missing value"),
    "silent": (Fake(), "no value for this grid zone"),
}


@pytest.mark.parametrize("failure", sorted(FAILURES))
@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_failing_source_is_noted_and_passed_over(
    failure: str, position: int, defects: list[str]
) -> None:
    defects.append("'secret'")
    broken, why = FAILURES[failure]
    # Stale, so that every later source is asked too.
    first = Fake(a_value(321.0, observed_at=NOW - 5 * HOUR), name="first")
    sources: list[object] = [first, Climatology.load()]
    sources.insert(position, broken)
    built = await refreshed(*sources, annual=static())
    for zone in (ZONE, OTHER):
        attempts = {attempt.source: attempt for attempt in built.attempts[zone]}
        assert not attempts["fake"].ok and why in attempts["fake"].why
        assert "secret" not in attempts["fake"].why
        assert attempts["climatology"].ok and "first" in attempts
    slot = built.view([ZONE], NOW, 1)[ZONE].slots[0]
    assert slot.source == "nowcast(fake)" and slot.observed_at == NOW - 5 * HOUR
    assert broken.cancelled == len(broken.asked) * broken.hangs


class Deaf(Carried):
    """Cannot be told of one grid zone."""

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        if grid_zone == ZONE:
            raise ArithmeticError("deaf")
        super().observe(grid_zone, intensity)


async def test_a_defect_of_what_learns_from_a_source_silences_nobody_else(
    defects: list[str],
) -> None:
    defects.append("deaf")
    heard = Fake(a_value(321.0), name="heard")
    built = await refreshed(heard, Climatology.load(), forecaster=Deaf())
    told = {attempt.source: attempt for attempt in built.attempts[ZONE]}
    assert told["climatology"].ok
    assert [a.why for a in built.attempts[ZONE]].count("internal error: ArithmeticError") == 1
    assert built.view([ZONE], NOW, 1)[ZONE].slots[0].kind is Kind.CLIMATOLOGY
    # The next refresh asks as if nothing had been.
    await built.refresh([ZONE, OTHER], NOW + HOUR)
    assert len(heard.asked) == 2


@pytest.mark.parametrize("failure", sorted(FAILURES))
async def test_the_last_good_value_outlives_its_source(failure: str, defects: list[str]) -> None:
    defects.append("'secret'")
    source = Fake(a_value(321.0))
    built = await refreshed(source, Climatology.load())
    before = built.view([ZONE], NOW, 24)
    broken, why = FAILURES[failure]
    source.value, source.error, source.hangs = broken.value, broken.error, broken.hangs
    await built.refresh([ZONE, OTHER], NOW)
    assert why in built.attempts[ZONE][0].why
    assert built.view([ZONE], NOW, 24) == before


@pytest.mark.parametrize("failure", sorted(FAILURES))
async def test_all_dead_is_climatology_with_its_interval_then_the_annual_mean(
    failure: str, defects: list[str]
) -> None:
    defects.append("'secret'")
    broken, _ = FAILURES[failure]
    built = chain(broken, Climatology.load(), annual=static())
    await built.refresh([ZONE, "SG"], NOW)
    view = built.view([ZONE, "SG", "nowhere"], NOW, 24)
    assert kinds(view[ZONE]) == [Kind.CLIMATOLOGY] * 24
    assert kinds(view["SG"]) == [Kind.ANNUAL_MEAN] * 24
    assert list(view) == [ZONE, "SG"]
    for forecast in view.values():
        assert all(s.low_g_per_kwh < s.g_per_kwh < s.high_g_per_kwh for s in forecast.slots)


async def test_without_any_refresh_the_embedded_tables_still_answer() -> None:
    view = chain(trace(), Climatology.load(), annual=static()).view([ZONE, "SG"], NOW, 2)
    assert kinds(view[ZONE]) == [Kind.CLIMATOLOGY] * 2
    assert kinds(view["SG"]) == [Kind.ANNUAL_MEAN] * 2


async def test_a_publisher_that_dies_leaves_its_last_forecast() -> None:
    published = TraceForecastSource(grid(ahead=12), signal=SIGNAL)
    built = await refreshed(published, Climatology.load())
    before = built.view([ZONE], NOW, 12)

    async def dead(*_: object) -> Mapping[str, Forecast]:
        raise OSError("gone")

    published.forecast = dead  # type: ignore[method-assign, assignment]
    await built.refresh([ZONE], NOW + HOUR)
    assert any(attempt.why == "OSError: gone" for attempt in built.attempts[ZONE])
    assert built.view([ZONE], NOW, 12) == before
    later = built.view([ZONE], NOW + 11 * HOUR, 2)[ZONE]
    assert kinds(later) == [Kind.FORECAST, Kind.CLIMATOLOGY]


async def test_cancelling_a_refresh_cancels_the_source_and_is_not_swallowed() -> None:
    source = Fake(hangs=True)
    built = CarbonChain([source], Carried(), timeout_s=60.0)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(built.refresh([ZONE], NOW))
        while not source.asked:
            await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled() and source.cancelled == 1


async def test_the_view_is_pure() -> None:
    built = await refreshed(trace(), Climatology.load())
    first = built.view([ZONE], NOW, 24)
    built.view([OTHER, "nowhere"], NOW + 99 * HOUR, 96)
    built.view([ZONE], NOW - 99 * HOUR, 96)
    assert built.view([ZONE], NOW, 24) == first
    assert built.view([ZONE], NOW, 0) == {} == built.view([], NOW, 24)


async def test_the_future_of_a_trace_cannot_be_seen() -> None:
    honest, poisoned = grid(ahead=48), grid(ahead=48)
    poisoned.g_per_kwh[-48:] = 4999.0
    views = []
    for table in (honest, poisoned):
        source = TraceSource(table, signal=SIGNAL, kind=Kind.MEASURED)
        views.append((await refreshed(source, Climatology.load())).view([ZONE], NOW, 96))
    assert views[0] == views[1]


@given(
    blank=st.sets(st.integers(1, 60), max_size=60),
    lag_h=st.integers(0, 30),
    later_h=st.integers(0, 80),
    with_climatology=st.booleans(),
)
@settings(max_examples=60, deadline=None)
async def test_a_missing_value_is_never_a_zero(
    blank: set[int], lag_h: int, later_h: int, with_climatology: bool
) -> None:
    source = TraceSource(
        grid(blank=sorted(blank)), signal=SIGNAL, kind=Kind.MEASURED, lag_s=lag_h * HOUR
    )
    built = chain(source, *([Climatology.load()] if with_climatology else []))
    now = NOW + later_h * HOUR
    await built.refresh([ZONE], now)
    view = built.view([ZONE], now, 30)
    values = source._table.g_per_kwh[:, 0]
    last = max(i for i, v in enumerate(values) if not math.isnan(v) and i < 240 + later_h - lag_h)
    age_h = (now - START) / HOUR + 239 - last
    if age_h > 96 and not with_climatology:
        assert view == {}
        return
    slots = view[ZONE].slots
    assert len(slots) == 30
    for slot in slots:
        assert slot.g_per_kwh > 50.0
        if slot.kind is Kind.FORECAST:
            assert slot.observed_at == START - (239 - last) * HOUR
    assert (slots[0].kind is Kind.FORECAST) == (age_h <= 96)


class Feed(Fake):
    """Observed values by slot, which may be revised; also a published forecast on request."""

    def __init__(self, name: str = "feed", publishes: float | None = None) -> None:
        super().__init__(name=name)
        self.past: dict[float, Intensity] = {}
        self.publishes = publishes

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        past = [end for end in self.past if end <= now]
        return dict.fromkeys(grid_zones, self.past[max(past)]) if past else {}

    async def history(
        self, grid_zones: Sequence[str], now: float, hours: int
    ) -> Mapping[str, Sequence[Intensity]]:
        past = [v for end, v in sorted(self.past.items()) if now - hours * HOUR < end <= now]
        return dict.fromkeys(grid_zones, past)

    async def forecast(
        self, grid_zones: Sequence[str], now: float, horizon_h: int
    ) -> Mapping[str, Forecast]:
        if self.publishes is None:
            return {}
        start = math.floor(now / HOUR) * HOUR
        slot = Intensity(
            self.publishes, 1.0, 999.0, SIGNAL, Kind.FORECAST, self.name, start, start + 30 * HOUR
        )
        return {zone: Forecast(zone, start, HOUR, (slot,) * 24) for zone in grid_zones}


async def test_a_late_revision_reaches_the_books_and_the_forecaster() -> None:
    told, feed = Carried(), Feed()
    built = chain(feed, forecaster=told)
    for hours in range(-10, 1):
        end = START + hours * HOUR
        feed.past[end] = a_value(300.0, Kind.ESTIMATED, end, source="feed")
        await built.refresh([ZONE], end + 60.0)
    old = START - 9 * HOUR
    before = built.settled(ZONE, old - HOUR, old)
    assert before is not None and (before.g_per_kwh, before.kind) == (300.0, Kind.ESTIMATED)
    feed.past[old] = a_value(270.0, Kind.MEASURED, old, source="feed")
    for hours in range(1, 4):
        await built.refresh([ZONE], START + hours * HOUR)
    after = built.settled(ZONE, old - HOUR, old)
    assert after is not None
    assert (after.g_per_kwh, after.first_g_per_kwh, after.kind) == (270.0, 300.0, Kind.MEASURED)
    assert after.revised_at > START
    assert told.by_slot(ZONE)[old] == 270.0
    assert built.settled(ZONE, START, START + HOUR) is None


async def test_each_zone_asks_in_its_own_order_for_each_role() -> None:
    north, south = Feed("north", publishes=100.0), Feed("south", publishes=200.0)
    north.past[START] = a_value(10.0, source="north")
    south.past[START] = a_value(20.0, source="south")
    orders = {OTHER: SourceOrder(("south",), ("south", "north")), "Z": SourceOrder(("north",), ())}
    built = chain(north, south, orders=orders)
    await built.refresh([ZONE, OTHER, "Z"], NOW)
    names = {
        zone: [attempt.source for attempt in attempts] for zone, attempts in built.attempts.items()
    }
    assert names == {
        ZONE: ["north", "north forecast"],
        OTHER: ["south", "south forecast"],
        "Z": ["north"],
    }
    view = built.view([ZONE, OTHER, "Z"], NOW, 1)
    assert [view[zone].slots[0].source for zone in (ZONE, OTHER, "Z")] == [
        "north",
        "south",
        "nowcast(north)",
    ]
    with pytest.raises(DataError, match="'west'; its chain has north, south"):
        chain(north, south, orders={"Z": SourceOrder(("west",), ())})


async def test_a_hanging_source_holds_up_only_those_who_wait_for_it() -> None:
    hanging, good = Fake(name="hanging", hangs=True), Feed("good")
    good.past[START] = a_value(10.0, source="good")
    patient = chain(hanging, good, orders={OTHER: SourceOrder(("good",), ("good",))})
    patient._timeout_s = 60.0
    async with asyncio.TaskGroup() as group:
        task = group.create_task(patient.refresh([ZONE, OTHER], NOW))
        while not patient.view([OTHER], NOW, 1):
            await asyncio.sleep(0)
        assert not task.done() and ZONE not in patient.view([ZONE], NOW, 1)
        task.cancel()


async def test_the_provenance_tells_who_serves_which_hours() -> None:
    published = TraceForecastSource(grid(ahead=6), signal=SIGNAL)
    built = await refreshed(published, trace(), Climatology.load())
    told = built.provenance(ZONE, NOW, 24)
    assert told.grid_zone == ZONE and told.attempts == built.attempts[ZONE]
    assert sum(part.hours for part in told.served) == 24
    last = told.served[-1]
    assert last == (START + 6 * HOUR, 18, "nowcast(trace:grid.csv)", Kind.FORECAST, 1200.0, False)
    stale = built.provenance(ZONE, NOW + 10 * HOUR, 2).served
    assert [(part.hours, part.stale) for part in stale] == [(2, True)]
    assert built.provenance("nowhere", NOW).served == ()


async def test_an_outage_goes_over_to_what_is_usual_once_by_age_and_never_narrower() -> None:
    usual = Climatology.load()
    built = chain(trace(), usual, forecaster=Carried(growth=0.12))
    limit_h = NOWCAST_MAX_AGE_S / HOUR
    await built.refresh([ZONE], NOW)
    widths, served = [], []
    for hours in range(0, 120):
        (slot,) = built.view([ZONE], NOW + hours * HOUR, 1)[ZONE].slots
        served.append(slot.kind)
        widths.append((slot.high_g_per_kwh - slot.low_g_per_kwh) / slot.g_per_kwh)
    carried = served.count(Kind.FORECAST)
    assert carried == limit_h
    assert served == [Kind.FORECAST] * carried + [Kind.CLIMATOLOGY] * (120 - carried)
    assert widths[:carried] == sorted(widths[:carried])
    # As wide as the last nowcast, though climatology by itself would be surer.
    (normal,) = usual.slots(ZONE, NOW, 1)
    assert (normal.high_g_per_kwh - normal.low_g_per_kwh) / normal.g_per_kwh < widths[carried - 1]
    assert min(widths[carried:]) >= widths[carried - 1] - 1e-9


async def test_a_published_forecast_is_weighed_against_the_own_one_that_did_better() -> None:
    feed = Feed(publishes=500.0)
    built = chain(feed, combiner=Combiner())
    for hours in range(EVIDENCE + 4):
        end = START + hours * HOUR
        feed.past[end] = a_value(200.0, observed_at=end, source="feed")
        await built.refresh([ZONE], end + 60.0)
        slot = built.view([ZONE], end + 60.0, 1)[ZONE].slots[0]
        assert slot.source == ("feed" if hours < EVIDENCE else "feed+own (0.0/1.0)")
    assert slot.g_per_kwh == pytest.approx(200.0)
    # The provider's own number again once ours is made of stale observations.
    later = START + (EVIDENCE + 6.5) * HOUR
    assert built.view([ZONE], later, 1)[ZONE].slots[0].source == "feed"


@pytest.mark.parametrize("seed", range(3))
async def test_the_interval_of_an_ageing_observation_never_shrinks(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0.0, 15.0, (240, 2))
    day = 300.0 + 80.0 * np.sin(np.arange(240.0) / 24.0 * 2.0 * math.pi)
    table = TraceTable(
        "grid.csv", (ZONE, OTHER), START - 240 * HOUR, HOUR, np.maximum(day[:, None] + noise, 20.0)
    )
    source = TraceSource(table, signal=SIGNAL, kind=Kind.MEASURED)
    built = CarbonChain([source], Nowcast())
    await built.refresh([ZONE], NOW)
    below, above = [], []
    for hours in range(48):
        now = NOW - 20 * 60.0 + hours * HOUR
        slot = built.view([ZONE], now, 1)[ZONE].slots[0]
        assert (slot.kind, slot.age_s(now)) == (Kind.FORECAST, hours * HOUR)
        below.append(slot.low_g_per_kwh / slot.g_per_kwh)
        above.append(slot.high_g_per_kwh / slot.g_per_kwh)
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(below))
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(above))
    assert above[-1] > above[0]


class Holed(TraceForecastSource):
    """Publishes the hours of ``grid`` with a hole at the third."""

    async def forecast(
        self, grid_zones: Sequence[str], now: float, horizon_h: int
    ) -> Mapping[str, Forecast]:
        whole = await super().forecast(grid_zones, now, horizon_h)
        return {
            zone: replace(f, slots=bridged([*f.slots[:2], None, *f.slots[3:]]))
            if len(f.slots) > 3
            else f
            for zone, f in whole.items()
        }


async def test_a_hole_in_a_published_forecast_is_filled_and_the_rest_of_it_counts() -> None:
    built = await refreshed(Holed(grid(ahead=6), signal=SIGNAL), trace(), Climatology.load())
    slots = built.view([ZONE], NOW, 8)[ZONE].slots
    own, theirs = "nowcast(trace:grid.csv)", "trace:grid.csv"
    assert [slot.source for slot in slots] == [theirs, theirs, own, *[theirs] * 3, own, own]
    assert [slots[place].g_per_kwh for place in (0, 1, 3)] == [494.0, 495.0, 497.0]


@pytest.mark.parametrize("known_before", [False, True])
async def test_without_a_newest_hour_the_hours_before_it_are_carried_forward(
    known_before: bool,
) -> None:
    provider = StubProvider((ZONE, OTHER), wants=frozenset({Want.LATEST, Want.HISTORY}))
    source = PolledSource(provider, random.Random(1))
    built = chain(source, annual=static(), timeout_s=60.0)
    if known_before:
        await built.refresh([ZONE], NOW - 5 * HOUR)
    provider.null_latest = True
    await built.refresh([ZONE], NOW)
    slots = built.view([ZONE], NOW, 24)[ZONE].slots
    assert {slot.source for slot in slots} == {"nowcast(stub)"}
    assert provider.count(Want.HISTORY) == 1 + known_before
    await built.refresh([ZONE], NOW + 60.0)
    assert provider.count(Want.HISTORY) == 1 + known_before


async def test_a_source_that_refuses_is_not_asked_for_its_history_either() -> None:
    provider = StubProvider((ZONE,))
    provider.fails = ProviderRefusedError("stub: the key is wrong")
    source = PolledSource(provider, random.Random(1))
    built = chain(source, annual=static(), timeout_s=60.0)
    await built.refresh([ZONE], NOW)
    assert provider.count(Want.HISTORY) == 0


async def test_a_provider_of_forecasts_alone_is_called_for_all_the_hours_ahead() -> None:
    source = PolledSource(StubProvider((ZONE,)), random.Random(1), wants=[Want.FORECAST])
    built = chain(source, timeout_s=60.0)
    await built.refresh([ZONE], NOW)
    assert [attempt.ok for attempt in built.attempts[ZONE]] == [True, True]
    assert len(built.view([ZONE], NOW, 24)[ZONE].slots) == 24


class Uneven(StubProvider):
    """Answers for ZONE; at OTHER it hangs, or raises what ``defect`` is."""

    defect: Exception | None = None

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        if OTHER not in grid_zones:
            return await super().fetch(grid_zones, want, now, hours)
        if self.defect is not None:
            raise self.defect
        await asyncio.Event().wait()
        return {}


async def test_what_a_provider_answered_counts_though_another_call_of_it_hangs() -> None:
    provider = Uneven((ZONE, OTHER), wants=frozenset({Want.LATEST, Want.HISTORY}))
    built = chain(PolledSource(provider, random.Random(1)), annual=static(), timeout_s=0.25)
    await built.refresh([ZONE, OTHER], NOW)
    assert built.attempts[ZONE][0] == SourceAttempt("stub", True, "", "", 1200.0)
    cut = SourceAttempt("stub", False, "the call was cut short", "provider_unavailable")
    assert built.attempts[OTHER][0] == cut
    assert built.view([ZONE], NOW, 1)[ZONE].slots[0].source == "nowcast(stub)"


async def test_a_defect_of_a_provider_costs_the_zone_that_it_was_called_for_and_is_logged_once(
    defects: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    defects.append("'secret'")
    provider = Uneven((ZONE, OTHER), wants=frozenset({Want.LATEST}))
    provider.defect = KeyError("secret")
    built = chain(PolledSource(provider, random.Random(1)), Fake(a_value()), timeout_s=60.0)
    await built.refresh([ZONE, OTHER], NOW)
    assert built.attempts[ZONE][0] == SourceAttempt("stub", True, "", "", 1200.0)
    assert built.attempts[OTHER][:2] == (
        SourceAttempt("stub", False, "internal error: KeyError", "provider_unavailable"),
        SourceAttempt("fake", True, "", "", 1200.0),
    )
    await built.refresh([ZONE, OTHER], NOW + 30.0)
    # It rests, and still says why it knows no better.
    assert built.attempts[OTHER][0].why == "internal error: KeyError"
    (record,) = caplog.records
    assert record.getMessage() == "carbon source stub failed in a way it should not"
    assert record.exc_info is not None


async def test_once_a_refresh_is_over_nobody_is_called_and_what_is_known_counts() -> None:
    provider, first = StubProvider((ZONE,)), Fake(name="first")
    built = chain(first, PolledSource(provider, random.Random(1)), static(), annual=static())
    built._timeout_s = 60.0
    await built.refresh([ZONE], NOW)
    assert provider.count(Want.LATEST) == 1
    first.hangs, built._timeout_s = True, 0.02
    await built.refresh([ZONE], NOW + HOUR)
    assert provider.count(Want.LATEST) == 1
    hung, known, *_ = built.attempts[ZONE]
    assert hung == SourceAttempt("first", False, "no answer within 0.02 s", "provider_unavailable")
    assert known == SourceAttempt("stub", True, "", "", 4800.0)
    built._timeout_s, first.hangs = 60.0, False
    await built.refresh([ZONE], NOW + HOUR + 1.0)
    assert provider.count(Want.LATEST) == 2


async def test_a_clock_that_was_ahead_leaves_no_zone_on_what_is_usual() -> None:
    """It read hours of a table that had not come; those of now count as soon as it is right."""
    source = trace(hours=400, ahead=100)
    annual = static()
    built = CarbonChain([source], Nowcast(), annual, combiner=Combiner())
    for ahead_h in (0, 5, 60, 0, 1):
        now = NOW + ahead_h * HOUR
        await built.refresh([ZONE], now)
        slot = built.view([ZONE], now, 1)[ZONE].slots[0]
        # That of an hour that has begun may be kept.
        assert slot.source in ("nowcast(trace:grid.csv)", "trace:grid.csv")
        assert slot.observed_at <= now + HOUR
    newest = built.revisions.newest(ZONE)
    assert newest is not None and newest.observed_at <= now


async def test_a_clock_that_was_ahead_leaves_a_provider_uncalled_no_longer() -> None:
    """It knows nothing of the time to come, so nothing else is wrong but when it is called."""
    provider = StubProvider([ZONE])
    built = CarbonChain([PolledSource(provider, random.Random(1))], Nowcast(), static())
    kinds_met = []
    for ahead_h in (0, 400 * 24, 1, 2, 3, 120):
        now = NOW + ahead_h * HOUR
        # What it publishes by its own clock.
        provider.frozen_at = min(now, NOW + 130 * HOUR)
        if ahead_h > 1000:
            provider.frozen_at = NOW + HOUR
        for minute in range(0, 60, 10):
            await built.refresh([ZONE], now + minute * 60.0)
        kinds_met.append(kinds(built.view([ZONE], now + HOUR, 1)[ZONE])[0])
    assert kinds_met == [Kind.FORECAST, Kind.ANNUAL_MEAN, *4 * [Kind.FORECAST]]
    known = built.revisions.newest(ZONE)
    assert known is not None and now - known.observed_at < 3 * HOUR


async def test_a_small_step_of_the_clock_forgets_nothing() -> None:
    told = Carried()
    built = chain(trace(), forecaster=told)
    await built.refresh([ZONE], NOW)
    before = list(told.told[ZONE])
    await built.refresh([ZONE], NOW - 300.0)
    assert told.told[ZONE][: len(before)] == before
