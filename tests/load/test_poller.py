"""Every endpoint is polled on its own; a dead one grows old and never turns into a zero."""

from __future__ import annotations

import asyncio
import logging
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import DataError
from router.load.poller import JITTER, LoadPoller, ScrapeTimes, pause_s
from router.model import Endpoint, Load

TIMES = ScrapeTimes(interval_s=0.002, timeout_s=0.02)


class FakeClock:
    """The wall runs 1000 times as fast as the monotonic clock, as in a replay."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> float:
        return 1_000_000.0 + 1000.0 * self.elapsed_s

    def monotonic(self) -> float:
        return self.elapsed_s


def endpoint(name: str, url: str = "http://127.0.0.1:1/metrics") -> Endpoint:
    return Endpoint(name, "here", "127.0.0.1:1", "oip", (), 8, url, "vllm", False)


class FakeSource:
    """Answers by endpoint name: a Load, an exception, or never."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.answers: dict[str, Load | Exception | None] = {}
        self.reads: list[str] = []
        self.hanging = 0

    async def read(self, endpoint: Endpoint, now: float) -> Load:
        self.reads.append(endpoint.name)
        self.clock.elapsed_s += 1.0
        answer = self.answers[endpoint.name]
        if answer is None:
            self.hanging += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.hanging -= 1
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer._replace(observed_at=now)


class Published:
    """Collects what the poller publishes and stops after ``limit`` publications of a name."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Load | None, float]] = []
        self.failures: list[tuple[str, Exception]] = []
        self._changed = asyncio.Event()

    def on_load(self, name: str, load: Load | None, age_s: float) -> None:
        self.seen.append((name, load, age_s))
        self._changed.set()

    def on_failure(self, name: str, error: Exception) -> None:
        self.failures.append((name, error))

    def of(self, name: str) -> list[tuple[Load | None, float]]:
        return [(load, age) for seen, load, age in self.seen if seen == name]

    async def until(self, name: str, count: int) -> None:
        while len(self.of(name)) < count:
            self._changed.clear()
            await self._changed.wait()


def make(names: list[str]) -> tuple[LoadPoller, FakeSource, Published, FakeClock]:
    clock, published = FakeClock(), Published()
    source = FakeSource(clock)
    poller = LoadPoller(
        source,
        [endpoint(name) for name in names],
        published.on_load,
        clock,
        random.Random(7),
        TIMES,
        published.on_failure,
    )
    return poller, source, published, clock


async def run_until(poller: LoadPoller, published: Published, **counts: int) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(poller.run())
        for name, count in counts.items():
            await published.until(name, count)
        task.cancel()


async def test_publishes_each_reading_with_its_age() -> None:
    poller, source, published, clock = make(["a"])
    source.answers["a"] = Load(1.0, 2.0, 0.5, 0.0)
    assert math.isinf(poller.age_s("a"))
    await run_until(poller, published, a=3)
    load, age_s = published.of("a")[0]
    assert load is not None
    assert load[:3] == (1.0, 2.0, 0.5)
    assert age_s == 1.0
    clock.elapsed_s += 41.0
    assert poller.age_s("a") >= 41.0


async def test_one_dead_one_hanging_and_one_crashing_scrape_leave_the_others_alone() -> None:
    poller, source, published, _ = make(["good", "dead", "hanging", "crashing"])
    source.answers = {
        "good": Load(1.0, 0.0, math.nan, 0.0),
        "dead": DataError("HTTP 500"),
        "hanging": None,
        "crashing": KeyError("a bug"),
    }
    await run_until(poller, published, good=20, dead=3, hanging=2, crashing=3)
    assert all(load is not None for load, _ in published.of("good"))
    for name in ("dead", "hanging", "crashing"):
        assert all(reading == (None, math.inf) for reading in published.of(name))
    failed = {name: error for name, error in published.failures}
    assert set(failed) == {"dead", "hanging", "crashing"}
    assert isinstance(failed["hanging"], DataError)
    assert isinstance(failed["crashing"], KeyError)
    assert source.hanging == 0


async def test_a_server_that_stops_answering_keeps_its_last_load_at_a_growing_age() -> None:
    poller, source, published, _ = make(["a"])
    source.answers["a"] = Load(3.0, 4.0, 0.5, 0.0)
    await run_until(poller, published, a=1)
    source.answers["a"] = DataError("gone")
    before = len(published.of("a"))
    await run_until(poller, published, a=before + 3)
    later = published.of("a")[before:]
    assert all(load is not None and load[:2] == (3.0, 4.0) for load, _ in later)
    ages = [age for _, age in later]
    assert ages == sorted(ages)
    assert ages[-1] > ages[0] > 1.0


async def test_a_transition_is_logged_once_each_way(caplog: pytest.LogCaptureFixture) -> None:
    poller, source, published, _ = make(["a"])
    source.answers["a"] = DataError("HTTP 500")
    with caplog.at_level(logging.INFO, logger="router.load.poller"):
        await run_until(poller, published, a=5)
        source.answers["a"] = Load(0.0, 0.0, 0.0, 0.0)
        await run_until(poller, published, a=10)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_endpoints_without_a_metrics_url_are_not_polled() -> None:
    clock, published = FakeClock(), Published()
    source = FakeSource(clock)
    poller = LoadPoller(
        source, [endpoint("a", url="")], published.on_load, clock, random.Random(1), TIMES
    )
    async with asyncio.timeout(5):
        await poller.run()
    assert source.reads == []


async def test_cancelling_ends_every_scrape() -> None:
    poller, source, _, _ = make(["a", "b"])
    source.answers = {"a": None, "b": None}
    started = asyncio.Event()
    original = source.read

    async def read(endpoint: Endpoint, now: float) -> Load:
        if len(source.reads) == 1:
            started.set()
        return await original(endpoint, now)

    source.read = read  # type: ignore[method-assign]
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(poller.run())
        await started.wait()
        task.cancel()
    assert task.cancelled()
    assert source.hanging == 0


@given(st.floats(0.01, 3600), st.floats(0, 1e5), st.floats(0, 1, exclude_max=True))
def test_the_pause_keeps_the_cadence_and_never_becomes_a_busy_loop(
    interval_s: float, spent_s: float, draw: float
) -> None:
    pause = pause_s(interval_s, spent_s, draw)
    assert pause >= JITTER * interval_s
    cycle = pause + spent_s
    assert cycle >= (1 - JITTER) * interval_s * (1 - 1e-9)
    assert cycle <= max((1 + JITTER) * interval_s, spent_s + JITTER * interval_s) * (1 + 1e-9)
