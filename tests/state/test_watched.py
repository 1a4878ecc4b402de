"""How a store fares, as its calls tell."""

from __future__ import annotations

import logging

import pytest

from router.errors import StateStoreError
from router.state.memory import MemoryStore
from router.state.watched import StoreHealth, WatchedStore
from tests.director import virtual_time


class Hands:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return 1e9 + self.time

    def monotonic(self) -> float:
        return self.time


class Moody(MemoryStore):
    """Fails when told to, and takes its time."""

    def __init__(self, clock: Hands) -> None:
        super().__init__()
        self._clock = clock
        self.cause = ""
        self.takes_s = 0.0
        self.asked = 0

    async def get(self, key: str, now: float) -> bytes | None:
        self._work()
        return await super().get(key, now)

    async def exchange(self, *arguments: object) -> dict[str, bytes]:
        self._work()
        return await super().exchange(*arguments)  # type: ignore[arg-type, return-value]

    def _work(self) -> None:
        self.asked += 1
        self._clock.time += self.takes_s
        if self.cause:
            raise StateStoreError(f"state store: {self.cause}", self.cause)


class Place:
    def __init__(self) -> None:
        self.clock = Hands()
        self.moody = Moody(self.clock)
        self.calls: list[tuple[str, str, float]] = []
        self.told: list[StoreHealth] = []
        self.store = WatchedStore(
            self.moody,
            self.clock,
            "me",
            lambda *call: self.calls.append(call),
            self.told.append,
        )

    async def ask(self, cause: str = "", after_s: float = 0.0) -> None:
        self.clock.time += after_s
        self.moody.cause = cause
        try:
            await self.store.get("a", 0.0)
        except StateStoreError as error:
            assert error.cause == cause


@pytest.fixture
def place() -> Place:
    return Place()


async def test_calls_are_told_with_their_outcome_and_their_time(place: Place) -> None:
    place.moody.takes_s = 0.25
    await place.ask()
    await place.ask("timeout")
    await place.store.put("a", b"1", 1.0, 0.0)
    assert place.calls == [("get", "", 0.25), ("get", "timeout", 0.25), ("put", "", 0.0)]


async def test_it_fails_once_it_has_failed_for_a_while(place: Place) -> None:
    await place.ask("timeout")
    await place.ask("timeout", 0.4)
    assert place.store.health().ok
    await place.ask("full", 0.2)
    assert place.store.fails()
    assert place.store.health() == (pytest.approx(0.6), "state store: full")
    place.clock.time += 10.0
    assert place.store.health().failing_s == pytest.approx(10.6)


async def test_what_fails_now_and_then_is_not_said_to_fail(place: Place) -> None:
    for _ in range(20):
        await place.ask("timeout", 3.0)
        await place.ask("", 2.5)
    assert place.store.health().ok


async def test_failures_far_apart_are_not_one(place: Place) -> None:
    """Where nobody asks in between, either."""
    for _ in range(20):
        await place.ask("timeout", 3.0)
    assert place.store.health().ok


async def test_writes_that_fail_beside_reads_that_do_not_are_a_failure(place: Place) -> None:
    for _ in range(20):
        await place.ask("full", 0.05)
        await place.ask("", 0.05)
    assert not place.store.health().ok


async def test_it_has_recovered_once_nothing_has_failed_for_a_while(place: Place) -> None:
    await place.ask("timeout")
    await place.ask("timeout", 1.0)
    await place.ask("", 1.0)
    assert not place.store.health().ok
    await place.ask("", 1.1)
    assert place.store.health().ok


async def test_each_change_is_logged_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        for _ in range(10):
            await place.ask("timeout", 0.3)
        for _ in range(10):
            await place.ask("", 0.5)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO", "WARNING", "INFO"]
    assert "state store: timeout" in caplog.text


async def test_an_unusable_argument_is_no_failure_of_the_store(place: Place) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        await place.store.put("a", b"", 0.0, 0.0)
    assert place.calls == []


def test_it_asks_by_itself_where_nobody_else_does(place: Place) -> None:
    async def rounds() -> None:
        for _ in range(3):
            await place.store.probe()
        assert place.moody.asked == 3
        await place.store.get("a", 0.0)
        await place.store.probe()
        assert place.moody.asked == 4

    virtual_time.run(rounds())
    assert place.told == [StoreHealth()] * 4


def test_it_asks_a_failing_store_whatever_others_get(place: Place) -> None:
    async def rounds() -> None:
        await place.ask("timeout")
        await place.ask("timeout", 1.0)
        await place.store.probe()
        place.moody.cause = ""
        await place.ask("", 3.0)
        assert place.store.health().ok

    virtual_time.run(rounds())
    assert not place.told[0].ok
