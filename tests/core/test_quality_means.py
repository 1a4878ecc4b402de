"""The mean of what a tenant is served with, over any window, is kept by what comes next."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import quality_means
from router.core.quality_means import PARTS, QualityMeans
from router.model import Alias, QualityFloors, Variant
from tests.examples import examples

HOUR = 3600.0
CHAT = Alias(
    "chat", (Variant("small", 0.4), Variant("middle", 0.6), Variant("large", 0.8)), "test",
    QualityFloors(0.0, 0.6), {"free": QualityFloors()},
)  # fmt: skip


def ask(means, now, planned=0.4, tenant="acme", alias=CHAT):
    """One request is served with the least that it may be."""
    floor = means.floor(alias, tenant, now, 1, lambda _: planned)
    quality = alias.variants[alias.rank(floor)].quality
    means.count(alias, tenant, quality, now)
    return quality


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.4, 0.8)), min_size=1, max_size=60))
def test_the_mean_since_the_start_never_falls_below_the_floor(asked):
    means, now, served = QualityMeans(), 0.0, []
    for wait_h, planned in asked:
        now += wait_h * HOUR / 10.0
        served.append(ask(means, now, planned))
        assert sum(served) / len(served) >= 0.6 - 1e-6
    assert means.mean(CHAT, "acme", now) == pytest.approx(sum(served) / len(served))


def test_what_was_above_the_mean_is_there_to_be_spent():
    means = QualityMeans()
    clean = [ask(means, 0.0, planned=0.8) for _ in range(10)]
    dirty = [ask(means, 2 * HOUR, planned=0.4) for _ in range(11)]
    assert clean == [0.8] * 10
    assert dirty == [0.4] * 10 + [0.6]


def test_a_plan_between_two_variants_takes_both():
    means = QualityMeans()
    found = [ask(means, 0.0, planned=0.7) for _ in range(10)]
    assert sum(found) / 10 == pytest.approx(0.7, abs=0.02)


def test_what_leaves_the_window_is_neither_spent_nor_owed():
    means = QualityMeans()
    for _ in range(10):
        ask(means, 0.0, planned=0.8)
    assert ask(means, (PARTS - 1) * HOUR) == 0.4
    assert means.mean(CHAT, "acme", (PARTS + 30) * HOUR) is None
    assert ask(means, (PARTS + 30) * HOUR) == 0.6


def test_one_that_was_not_served_does_not_count():
    means = QualityMeans()
    means.take_back(means.count(CHAT, "acme", 0.8, 0.0))
    assert means.mean(CHAT, "acme", HOUR) is None
    assert ask(means, HOUR) == 0.6


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_counts_are_those_of_a_list_of_what_was_served_in_any_order(data):
    """The twin keeps every request, and adds up those whose part of the window is not over."""
    means, now, kept = QualityMeans(), 0.0, []
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(("count", "take back", "wait", "wait long"))):
            case "count":
                quality = data.draw(st.sampled_from([0.4, 0.6, 0.8]))
                kept.append((means.count(CHAT, "acme", quality, now), now, quality))
            case "take back" if kept:
                means.take_back(kept.pop(data.draw(st.integers(0, len(kept) - 1)))[0])
            case "wait":
                now += data.draw(st.floats(0.0, 2 * HOUR))
            case "wait long":
                now += data.draw(st.floats(20 * HOUR, 50 * HOUR))
        in_window = [one for _, at, one in kept if at // HOUR > now // HOUR - PARTS]
        mean = means.mean(CHAT, "acme", now)
        assert (mean is None) == (not in_window)
        if in_window:
            assert mean == pytest.approx(sum(in_window) / len(in_window))


def test_one_that_is_taken_back_late_takes_nothing_off_others():
    means = QualityMeans()
    late = means.count(CHAT, "acme", 0.4, 0.0)
    now = (PARTS + 1) * HOUR
    means.count(CHAT, "acme", 0.8, now)
    means.take_back(late)
    assert means.mean(CHAT, "acme", now) == 0.8


def test_a_window_of_another_length_begins_anew_and_goes_on():
    means, now = QualityMeans(), 500_000 * HOUR
    short = replace(CHAT, window_s=HOUR)
    late = means.count(short, "acme", 0.8, now)
    assert ask(means, now, planned=0.8) == 0.8
    means.take_back(late)
    assert means.mean(CHAT, "acme", now) == 0.8
    assert means.mean(CHAT, "acme", now + 25 * HOUR) is None


def test_floors_that_begin_while_a_request_runs_count_from_the_next_on():
    means = QualityMeans()
    assert means.count(CHAT, "free", 0.4, 0.0) is None


def test_the_plan_is_asked_once_a_part_and_version_for_what_is_left():
    means, asked = QualityMeans(), []

    def plan(mean):
        asked.append(round(mean, 6))
        return 0.8

    for version in (1, 1, 2):
        means.floor(CHAT, "acme", 0.0, version, plan)
        means.count(CHAT, "acme", 0.8, 0.0)
    means.floor(CHAT, "acme", HOUR, 2, plan)
    assert asked == [0.6, 0.4, 0.4]


def test_tenants_without_a_mean_are_not_counted_and_of_others_so_many(monkeypatch):
    means = QualityMeans()
    assert ask(means, 0.0, tenant="free") == 0.4
    assert not means._windows
    monkeypatch.setattr(quality_means, "MOST_TENANTS", 3)
    for number in range(5):
        ask(means, 0.0, tenant=f"t{number}")
    assert [tenant for _, tenant in means._windows] == ["t2", "t3", "t4"]


def test_a_clock_that_goes_back_stays_in_the_later_part():
    means = QualityMeans()
    ask(means, 5 * HOUR, planned=0.8)
    assert ask(means, HOUR, alias=replace(CHAT)) == 0.8
    assert means.mean(CHAT, "acme", 5 * HOUR) == 0.8
