"""What is kept of a provider's answers: the latest word on each slot, bounded, with its age."""

from __future__ import annotations

from dataclasses import replace

from router.carbon.chain.revisions import KEEP_S
from router.carbon.polling.cache import AnswerCache
from router.model import Forecast, Intensity, Kind
from tests.carbon.stub_provider import HOUR, SIGNAL

T0 = 1_652_486_400.0


def value(end: float, g: float = 100.0, kind: Kind = Kind.MEASURED) -> Intensity:
    return Intensity(g, g, g, SIGNAL, kind, "stub", end, end + 2 * HOUR)


def issued(at: float, slots: int = 4, g: float = 200.0) -> Forecast:
    return Forecast("A", T0, HOUR, (replace(value(at, g), kind=Kind.FORECAST),) * slots)


async def test_the_latest_word_on_a_slot_counts_and_is_news_once() -> None:
    cache = AnswerCache(observes=True)
    assert cache.take("A", value(T0), T0)
    assert not cache.take("A", value(T0), T0 + 1.0)
    assert cache.take("A", value(T0, 90.0), T0 + HOUR)
    assert cache.take("A", value(T0 - HOUR), T0 + HOUR)
    assert cache.newest("A") == value(T0, 90.0)
    assert await cache.read(["A", "B"], T0 + 99 * HOUR) == {"A": value(T0, 90.0)}
    past = await cache.history(["A", "B"], T0 + HOUR, 24)
    assert past == {"A": (value(T0 - HOUR), value(T0, 90.0))}
    assert await cache.history(["A"], T0 + 99 * HOUR, 24) == {}


def test_what_is_older_than_ten_days_is_forgotten() -> None:
    cache = AnswerCache(observes=True)
    assert not cache.take("A", value(T0 - KEEP_S), T0)
    for hours in range(24 * 12):
        cache.take("A", value(T0 + hours * HOUR), T0 + hours * HOUR)
    assert len(cache.since("A", 0.0)) == 240


async def test_an_older_issue_does_not_replace_a_newer_one() -> None:
    cache = AnswerCache(observes=False)
    assert cache.take_forecast("A", issued(T0))
    assert not cache.take_forecast("A", issued(T0))
    assert not cache.take_forecast("A", issued(T0 - HOUR, g=1.0))
    assert cache.take_forecast("A", issued(T0, g=210.0))
    now = T0 + 1.5 * HOUR
    ahead = (await cache.forecast(["A", "B"], now, 2))["A"]
    assert (ahead.start, len(ahead.slots)) == (T0 + HOUR, 3)
    assert (await cache.read(["A"], now))["A"].g_per_kwh == 210.0
    assert await cache.forecast(["A"], T0 + 4 * HOUR, 2) == {} == await cache.read(["A"], T0 + 5e4)


def test_a_forecast_that_was_issued_after_now_gives_way() -> None:
    cache = AnswerCache(observes=True)
    assert cache.take_forecast("A", issued(T0 + 9 * HOUR), T0 + 9 * HOUR)
    assert not cache.take_forecast("A", issued(T0 + HOUR), T0 + 9 * HOUR)
    assert cache.take_forecast("A", issued(T0 + HOUR), T0 + HOUR)
