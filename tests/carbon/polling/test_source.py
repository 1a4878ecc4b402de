from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.chain import CarbonChain
from router.carbon.polling.poller import PollTimes
from router.carbon.polling.source import PolledSource
from router.carbon.providers.provider import Reading, Want
from router.carbon.providers.rows import Dropped, Fault
from router.errors import (
    CallBudgetError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from router.model import Basis, Factors, Intensity, Kind, Signal
from tests.carbon.carried import Carried
from tests.carbon.stub_provider import HOUR, SIGNAL, StubProvider

T0 = 1_652_486_400.0
ZONES = tuple(f"Z{i:02d}" for i in range(50))
USUAL = PollTimes()


def polled(provider: StubProvider, times: PollTimes = USUAL, seed: int = 1) -> PolledSource:
    return PolledSource(provider, random.Random(seed), times)


async def refresh(source: PolledSource, zones: Sequence[str], now: float) -> None:
    await source.read(zones, now)
    await source.forecast(zones, now, 96)
    await source.history(zones, now, 216)


async def known_after_a_poll(
    source: PolledSource, zones: Sequence[str], now: float
) -> Mapping[str, Intensity]:
    """As a chain reads it: what a provider raises that it should not is the chain's to catch."""
    with contextlib.suppress(KeyError):
        await source.poll(Want.LATEST, zones, now, 1)
    return await source.known.read(zones, now)


async def run(source: PolledSource, zones: Sequence[str], since: float, hours: float) -> None:
    for minute in range(0, int(hours * 60), 5):
        await refresh(source, zones, since + minute * 60.0)


async def test_fifty_zones_refreshed_every_five_minutes_make_eighty_calls_an_hour() -> None:
    provider = StubProvider(ZONES, lag_s=1500.0)
    source = polled(provider)
    await run(source, ZONES, T0, 12)
    assert provider.count(Want.FORECAST) <= 50 * 5
    provider.calls.clear()
    await run(source, ZONES, T0 + 12 * HOUR, 24)
    # 24 values a zone and a few second tries; a forecast each 3 h; history each 6 h.
    assert 50 * 24 <= provider.count(Want.LATEST) <= 50 * 24 * 1.1
    assert 50 * 7 <= provider.count(Want.FORECAST) <= 50 * 9
    assert 50 * 3 <= provider.count(Want.HISTORY) <= 50 * 5
    assert len(provider.calls) / 24 <= 80


@pytest.mark.parametrize("lag_s", [0.0, 300.0, 1500.0, 3300.0, 7000.0, 25 * HOUR])
async def test_a_publication_is_found_soon_whatever_the_lag(lag_s: float) -> None:
    provider = StubProvider(("A",), lag_s=lag_s)
    source = polled(provider)
    ages = []
    for minute in range(60 * 48):
        now = T0 + 777.0 + minute * 60.0
        value = (await source.read(["A"], now))["A"]
        if minute > 60 * 24:
            ages.append(now - lag_s - value.observed_at)
    # Asked the moment it is published, it would be half an hour on average, an hour at most.
    assert max(ages) <= 1.2 * HOUR
    assert sum(ages) / len(ages) <= 0.65 * HOUR
    assert provider.count(Want.LATEST) <= 48 * 1.25


async def test_slots_that_contain_now_are_followed_too() -> None:
    provider = StubProvider(("A",), lag_s=-3000.0)
    source = polled(provider)
    for minute in range(0, 24 * 60, 5):
        now = T0 + minute * 60.0
        value = (await source.read(["A"], now))["A"]
    assert value.observed_at > now
    assert provider.count(Want.LATEST) <= 24 * 1.3


async def test_a_frozen_provider_shows_as_old_and_costs_little() -> None:
    provider = StubProvider(("A",))
    source = polled(provider)
    await run(source, ["A"], T0, 24)
    provider.frozen_at = T0 + 24 * HOUR
    before = provider.count(Want.LATEST)
    await run(source, ["A"], T0 + 24 * HOUR, 24)
    now = T0 + 48 * HOUR
    value = (await source.read(["A"], now))["A"]
    assert value.observed_at == T0 + 23 * HOUR
    assert (value.kind, value.age_s(now), value.expires_at <= now) == (
        Kind.MEASURED,
        25 * HOUR,
        True,
    )
    assert provider.count(Want.LATEST) - before <= 24 + 8
    provider.frozen_at = float("inf")
    await run(source, ["A"], now, 2)
    assert (await source.read(["A"], now + 2 * HOUR))["A"].age_s(now + 2 * HOUR) <= 2 * HOUR


FAULTS: dict[str, BaseException] = {
    "refused": ProviderRefusedError("stub: the key is not accepted"),
    "busy": ProviderBusyError("stub: too many calls", 900.0),
    "unavailable": ProviderUnavailableError("stub: connection refused"),
    "answer": ProviderAnswerError("stub: not JSON"),
    "no data": NoDataError("stub: nothing for A"),
    "budget": CallBudgetError("stub: 10 calls an hour", 1200.0),
    "cancels itself": asyncio.CancelledError(),
    "defect": KeyError("secret"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_a_failing_provider_leaves_the_last_value_with_its_age_and_says_why(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = StubProvider(("A", "B"))
    source = polled(provider)
    await run(source, ["A", "B"], T0, 2)
    good = (await source.read(["A"], T0 + 2 * HOUR))["A"]
    provider.fails = FAULTS[fault]
    with caplog.at_level(logging.CRITICAL):
        for hour in (4, 5, 30):
            now = T0 + hour * HOUR
            value = (await known_after_a_poll(source, ["A", "B"], now))["A"]
            assert value == good and value.kind is Kind.MEASURED
            assert value.age_s(now) == now - good.observed_at >= (hour - 3) * HOUR
    last = source.last_attempt("A", Want.LATEST)
    assert last is not None and last.code and "secret" not in last.why
    if isinstance(FAULTS[fault], ProviderError):
        said = str(FAULTS[fault]).removeprefix("stub: ")
        reason = FAULTS[fault].reason  # type: ignore[attr-defined]
        assert last == SourceAttempt("stub", False, said, reason)
    provider.fails = None
    now = T0 + 37 * HOUR
    assert (await source.read(["A", "B"], now))["A"].observed_at == now - HOUR
    assert source.last_attempt("A", Want.LATEST) is None


async def test_the_provider_is_left_alone_for_as_long_as_it_asked() -> None:
    for error in (ProviderBusyError("stub: wait", 4000.0), CallBudgetError("stub: spent", 4000.0)):
        provider = StubProvider(ZONES)
        source = polled(provider, PollTimes(concurrent=1))
        provider.fails = error
        for second in range(0, 3999, 60):
            await refresh(source, ZONES, T0 + second)
        assert len(provider.calls) == 1
        provider.fails = None
        await refresh(source, ZONES, T0 + 4001.0)
        assert provider.by_zone(Want.LATEST) == {zone: 2 if zone == "Z00" else 1 for zone in ZONES}


async def test_one_zone_outside_the_plan_rests_for_hours_and_no_other() -> None:
    provider = StubProvider(ZONES)
    provider.zone_errors["Z07"] = ProviderRefusedError("stub: Z07 is outside the plan")
    source = polled(provider)
    await run(source, ZONES, T0, 5)
    asked = provider.by_zone(Want.LATEST)
    assert asked["Z07"] == 1
    assert all(asked[zone] >= 5 for zone in ZONES if zone != "Z07")
    assert "Z07" not in await source.read(ZONES, T0 + 5 * HOUR)
    assert source.last_attempt("Z07", Want.LATEST) == SourceAttempt(
        "stub", False, "Z07 is outside the plan", "provider_refused"
    )


async def test_a_dead_provider_is_asked_ever_more_rarely() -> None:
    provider = StubProvider(ZONES)
    provider.fails = ProviderUnavailableError("stub: no route")
    source = polled(provider)
    for second in range(0, 6 * 3600, 30):
        await source.read(ZONES, T0 + second)
    assert len(provider.calls) <= 200
    provider.fails = None
    for second in range(0, 1800, 30):
        answer = await source.read(ZONES, T0 + 6 * HOUR + second)
    assert set(answer) == set(ZONES)


async def test_zones_share_calls_and_few_run_at_once() -> None:
    provider = StubProvider(ZONES, zones_per_call=8)
    source = polled(provider)
    await source.read(ZONES, T0)
    assert [len(zones) for _, _, zones in provider.calls] == [8] * 6 + [2]
    assert provider.most_at_once == 4
    provider.calls.clear()
    await run(source, ZONES, T0 + 300.0, 10)
    assert provider.count(Want.LATEST) <= 10 * 50 / 2


async def test_nothing_due_is_served_without_a_call_even_if_the_provider_hangs() -> None:
    provider = StubProvider(("A",))
    source = polled(provider)
    await refresh(source, ["A"], T0)
    provider.hangs = True
    calls = len(provider.calls)
    assert set(await source.read(["A"], T0 + 60.0)) == {"A"}
    assert len(provider.calls) == calls


async def test_of_a_hanging_provider_what_is_known_is_served_and_few_calls_are_cut() -> None:
    provider = StubProvider(ZONES)
    source = polled(provider)
    await source.read(ZONES, T0)
    provider.hangs = True
    provider.calls.clear()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.poll(Want.LATEST, ZONES, T0 + 2 * HOUR, 1))
        while provider.at_once < 4:
            await asyncio.sleep(0)
        task.cancel()
    values = await source.known.read(ZONES, T0 + 2 * HOUR)
    assert set(values) == set(ZONES)
    # The first four hang, then the source rests; nobody else is asked.
    await source.poll(Want.LATEST, ZONES, T0 + 2 * HOUR, 1)
    assert len(provider.calls) == 4
    hung = {zone for _, _, (zone,) in provider.calls}
    for zone in ZONES:
        last = source.last_attempt(zone, Want.LATEST)
        assert (last is not None) == (zone in hung)
    provider.hangs = False
    assert set(await source.read(ZONES, T0 + 3 * HOUR)) == set(ZONES)
    assert all(
        value.age_s(T0 + 3 * HOUR) == HOUR
        for value in (await source.read(ZONES, T0 + 3 * HOUR)).values()
    )


async def test_cut_short_it_counts_the_call_and_does_not_ask_again_at_once() -> None:
    provider = StubProvider(("A", "B"))
    provider.hangs = True
    source = polled(provider, PollTimes(concurrent=1))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.read(["A", "B"], T0))
        while not provider.calls:
            await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled() and provider.at_once == 0
    provider.hangs = False
    answer = await source.read(["A", "B"], T0 + 1.0)
    assert set(answer) == {"B"}
    assert source.last_attempt("A", Want.LATEST) == SourceAttempt(
        "stub", False, "the call was cut short", "provider_unavailable"
    )
    assert set(await source.read(["A", "B"], T0 + 120.0)) == {"A", "B"}


async def test_two_readers_at_once_do_not_ask_twice() -> None:
    provider = StubProvider(("A", "B"))
    source = polled(provider)
    await asyncio.gather(*(source.read(["A", "B"], T0) for _ in range(5)))
    assert provider.by_zone(Want.LATEST) == {"A": 1, "B": 1}


async def test_what_was_revised_comes_with_the_next_reading_of_the_past() -> None:
    provider = StubProvider(("A",))
    source = polled(provider)
    await run(source, ["A"], T0, 3)
    provider.values["A", T0] = 345.0
    await run(source, ["A"], T0 + 3 * HOUR, 7)
    past = (await source.history(["A"], T0 + 10 * HOUR, 24))["A"]
    assert {value.observed_at: value.g_per_kwh for value in past}[T0] == 345.0
    assert len(past) == len({value.observed_at for value in past}) == 23


async def test_a_gap_is_filled_from_history_before_its_time() -> None:
    provider = StubProvider(("A",))
    source = polled(provider)
    await refresh(source, ["A"], T0)
    await refresh(source, ["A"], T0 + 4 * HOUR)
    past = (await source.history(["A"], T0 + 4 * HOUR, 6))["A"]
    assert len(past) == 5


class Lying(StubProvider):
    """Answers with one given value."""

    lie: Intensity

    def value(self, zone: str, end: float, kind: Kind = Kind.MEASURED) -> Intensity:
        return self.lie


DIRECT = Signal(Basis.AVERAGE, Factors.DIRECT)
LIES = {
    "another signal": Intensity(5, 5, 5, DIRECT, Kind.MEASURED, "stub", T0, T0 + HOUR),
    "a forecast": Intensity(5, 5, 5, SIGNAL, Kind.FORECAST, "stub", T0, T0 + HOUR),
    "the future": Intensity(5, 5, 5, SIGNAL, Kind.MEASURED, "stub", T0 + 9 * HOUR, T0 + 99 * HOUR),
    "no time": Intensity(5, 5, 5, SIGNAL, Kind.MEASURED, "stub", float("nan"), T0 + HOUR),
}


@pytest.mark.parametrize("lie", sorted(LIES))
async def test_what_cannot_be_observed_is_an_answer_error(lie: str) -> None:
    provider = Lying(("A",))
    provider.lie = LIES[lie]
    source = polled(provider)
    assert await source.read(["A"], T0) == {}
    last = source.last_attempt("A", Want.LATEST)
    assert last is not None and last.code == "provider_answer"


async def test_a_zone_without_an_answer_is_no_data() -> None:
    class Silent(StubProvider):
        async def fetch(self, *_: object) -> dict[str, Reading]:  # type: ignore[override]
            return {}

    source = polled(Silent(("A",)))
    assert await source.read(["A"], T0) == {} == await source.forecast(["A"], T0, 24)
    assert source.last_attempt("A", Want.FORECAST) == SourceAttempt(
        "stub", False, "no answer for A", "provider_no_data"
    )


async def test_a_forecast_is_served_from_the_current_slot_until_its_end() -> None:
    provider = StubProvider(("A",))
    source = polled(provider)
    first = (await source.forecast(["A"], T0, 96))["A"]
    assert (first.start, len(first.slots)) == (T0, 24)
    provider.fails = ProviderUnavailableError("stub: gone")
    later = (await source.forecast(["A"], T0 + 20.5 * HOUR, 96))["A"]
    assert (later.start, len(later.slots)) == (T0 + 20 * HOUR, 4)
    assert later.slots[0].age_s(T0 + 20.5 * HOUR) == 20.5 * HOUR
    assert await source.forecast(["A"], T0 + 24 * HOUR, 96) == {}


async def test_only_what_the_operator_wants_is_asked() -> None:
    provider = StubProvider(("A",))
    ahead = PolledSource(provider, random.Random(1), wants=[Want.FORECAST])
    value = (await ahead.read(["A"], T0))["A"]
    assert value.kind is Kind.FORECAST
    assert await ahead.history(["A"], T0, 24) == {}
    assert {want for _, want, _ in provider.calls} == {Want.FORECAST}
    fetched: list[tuple[str, Want, str]] = []
    back = PolledSource(
        provider, random.Random(1), wants=[Want.LATEST], on_fetch=lambda *call: fetched.append(call)
    )
    await back.read(["A", "unknown"], T0)
    provider.fails = ProviderUnavailableError("stub: gone")
    await back.read(["A"], T0 + 2 * HOUR)
    assert fetched == [("stub", Want.LATEST, ""), ("stub", Want.LATEST, "provider_unavailable")]


class Polling(RuleBasedStateMachine):
    """Whatever fails, and however irregularly it is read."""

    @initialize(seed=st.integers(0, 99), per_call=st.integers(1, 4), lag_s=st.floats(0.0, 9000.0))
    def begin(self, seed: int, per_call: int, lag_s: float) -> None:
        self.now = T0
        self.zones = [f"Z{i}" for i in range(6)]
        self.provider = StubProvider(self.zones, lag_s=lag_s, zones_per_call=per_call)
        self.source = polled(self.provider, seed=seed)
        self.runner = asyncio.Runner()

    @rule(minutes=st.floats(0.1, 200.0))
    def read(self, minutes: float) -> None:
        self.now += minutes * 60.0
        due = {z: self.source.due_at(z, Want.LATEST) for z in self.zones}
        before = len(self.provider.calls)
        values = self.runner.run(self.source.read(self.zones, self.now))
        for now, _, zones in self.provider.calls[before:]:
            assert now == self.now
            assert any(due[zone] <= self.now for zone in zones)
        asked = [z for _, _, zones in self.provider.calls[before:] for z in zones]
        assert len(asked) == len(set(asked))
        for value in values.values():
            assert (
                value.kind is Kind.MEASURED and value.observed_at + self.provider.lag_s <= self.now
            )
        # Never hammered: asked at once again, the same grid zones cost no call.
        before = len(self.provider.calls)
        self.runner.run(self.source.read(asked, self.now))
        assert len(self.provider.calls) == before

    @rule(fault=st.sampled_from([*sorted(FAULTS.keys() - {"defect"}), "none"]))
    def turn(self, fault: str) -> None:
        self.provider.fails = FAULTS.get(fault)

    @rule()
    def recover(self) -> None:
        """Once it works again, every zone is asked within the longest rest."""
        self.provider.fails = None
        self.now += 24 * HOUR
        for _ in range(3):
            self.now += 2 * HOUR
            self.runner.run(self.source.read(self.zones, self.now))
        values = self.runner.run(self.source.read(self.zones, self.now))
        assert set(values) == set(self.zones)
        for value in values.values():
            assert self.now - self.provider.lag_s - value.observed_at <= 3 * HOUR
        assert all(self.source.last_attempt(zone, Want.LATEST) is None for zone in self.zones)

    @invariant()
    def due_is_a_time(self) -> None:
        for zone in self.zones:
            assert self.source.due_at(zone, Want.LATEST) <= self.now + 25 * HOUR

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.close()


TestPolling = Polling.TestCase
TestPolling.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


async def test_rows_that_an_answer_lost_are_counted_told_and_forgotten_with_the_next_whole_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[tuple[str, Dropped]] = []
    provider = StubProvider(("A", "B"))
    provider.dropped = (Dropped(Fault.OUT_OF_RANGE, 2, "row 5: v is -1"),)
    source = PolledSource(
        provider, random.Random(1), on_dropped=lambda name, rows: counted.append((name, rows))
    )
    found = await source.read(["A", "B"], T0)
    assert set(found) == {"A", "B"}
    assert counted == [("stub", provider.dropped[0])] * 2
    last = source.last_attempt("A", Want.LATEST)
    assert last == SourceAttempt("stub", True, "2 rows dropped: row 5: v is -1", "rows_dropped")
    assert [r.getMessage() for r in caplog.records] == [
        "carbon provider stub, latest of A: 2 rows dropped: row 5: v is -1"
    ]
    provider.dropped = ()
    await source.read(["A", "B"], T0 + 2 * HOUR)
    assert source.last_attempt("A", Want.LATEST) is None


async def test_whoever_comes_after_a_provider_that_does_not_return_is_called_too() -> None:
    hangs, good = StubProvider(["A", "B"], name="hangs"), StubProvider(["A", "B"], name="good")
    hangs.hangs = True
    quick = PollTimes(call_s=0.02)
    sources = [PolledSource(one, random.Random(1), quick) for one in (hangs, good)]
    chain = CarbonChain(sources, Carried())
    await chain.refresh(["A", "B"], 10 * HOUR + 900.0)
    assert good.count(Want.LATEST) == 2
    for zone in ("A", "B"):
        told = {attempt.source: attempt for attempt in chain.attempts[zone]}
        assert "no answer within 0.02 s" in told["hangs"].why and told["good"].ok


async def test_what_only_forecasts_is_called_once_and_tells_all_of_it_at_once() -> None:
    stub = StubProvider(["A"], wants=frozenset({Want.FORECAST}))
    chain = CarbonChain([PolledSource(stub, random.Random(1))], Carried())
    now = 10 * HOUR + 900.0
    await chain.refresh(["A"], now)
    assert [want for _, want, _ in stub.calls] == [Want.FORECAST]
    assert len(chain.view(["A"], now, 24)["A"].slots) == 24
    assert all(attempt.ok for attempt in chain.attempts["A"])


async def test_a_long_call_is_not_made_twice_at_a_time() -> None:
    stub = StubProvider(["A"])
    stub.hangs = True
    source = polled(stub, PollTimes(call_s=120.0))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.02), asyncio.TaskGroup() as refreshes:
            for now in (T0, T0 + 61.0):
                refreshes.create_task(source.poll(Want.LATEST, ["A"], now, 1))
    assert stub.count(Want.LATEST) == 1


async def test_a_clock_that_stepped_back_takes_along_what_was_planned() -> None:
    provider = StubProvider(("A",))
    source = polled(provider)
    await run(source, ["A"], T0, 6)
    provider.frozen_at = T0 + 7 * HOUR
    await run(source, ["A"], T0 + 4000 * HOUR, 2)
    provider.frozen_at = T0 + 48 * HOUR
    before = len(provider.calls)
    await run(source, ["A"], T0 + 7 * HOUR, 24)
    # As often as ever.
    assert 24 <= provider.count(Want.LATEST) <= 60
    assert len(provider.calls) - before <= 60
    value = (await source.read(["A"], T0 + 31 * HOUR))["A"]
    assert T0 + 31 * HOUR - value.observed_at <= 2 * HOUR
    assert source.due_at("A", Want.FORECAST) <= T0 + 35 * HOUR


async def test_readers_that_overtake_each_other_move_no_plan() -> None:
    provider = StubProvider(("A",))
    source = polled(provider)
    await refresh(source, ["A"], T0)
    due = source.due_at("A", Want.LATEST)
    await refresh(source, ["A"], T0 - 90.0)
    assert source.due_at("A", Want.LATEST) == due
