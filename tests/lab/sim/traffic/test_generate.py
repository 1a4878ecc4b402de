import math
from dataclasses import replace

import numpy as np
import pytest

from router.lab.sim.traffic.columns import COLUMNS, joined
from router.lab.sim.traffic.generate import (
    Generated,
    Origin,
    Recipe,
    RequestKind,
    _rising,
    rechunk,
)
from router.lab.sim.traffic.tables import (
    FLAT,
    OUTPUT,
    constant_lengths,
    lengths_named,
    lengths_of_log_normal,
    shape_named,
)
from router.model import Budget

START = 1_652_659_200.0  # Monday, 2022-05-16T00:00Z
ANYONE = (("", 1.0),)


def kind(model="m", share=1.0, **changes):
    values = {
        "input_tokens": constant_lengths(100), "output_tokens": lengths_of_log_normal(50, 120),
        "budget": Budget(), "tenants": ANYONE, "residency": frozenset(), "deadline_s": math.inf,
    }  # fmt: skip
    return RequestKind(model, share, **{**values, **changes})


def recipe(**changes):
    values = {
        "origins": (Origin("x", 2.0, 0.0, FLAT.hours, FLAT.days),), "kinds": (kind(),),
        "burst_cv": 0.0, "window_s": 60.0, "start": START, "duration_s": 7200.0, "seed": 5,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def whole(the_recipe, chunk_rows=10_000):
    return joined(list(Generated(the_recipe, chunk_rows).chunks()))


def same(one, other):
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in COLUMNS)


def test_the_same_seed_gives_the_same_bytes_in_chunks_of_any_size():
    kinds = (kind(), kind("n", 0.5, tenants=(("a", 1.0), ("b", 3.0))))
    origins = tuple(Origin(n, 10.0, h, shape_named("wiki").hours, FLAT.days) for n, h in
                    (("x", -8.0), ("y", 2.0)))  # fmt: skip
    one = recipe(kinds=kinds, origins=origins, burst_cv=0.3)
    assert same(whole(one, 1000), whole(one, 77_777))
    assert not same(whole(one), whole(replace(one, seed=6)))
    sizes = [len(chunk) for chunk in Generated(one, 1000).chunks()]
    assert set(sizes[:-1]) == {1000} and 0 < sizes[-1] <= 1000 < sum(sizes)


def test_arrivals_are_poisson_in_order_and_inside():
    traffic = whole(recipe(duration_s=86_400.0))
    assert len(traffic) == pytest.approx(172_800, abs=4 * math.sqrt(172_800))
    assert (np.diff(traffic.arrival_s) >= 0.0).all()
    assert traffic.arrival_s[0] >= 0.0 and traffic.arrival_s[-1] < 86_400.0
    counts = np.bincount((traffic.arrival_s // 60).astype(int))
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)


def test_bursts_add_the_spread_that_was_asked_for():
    traffic = whole(recipe(duration_s=10 * 86_400.0, burst_cv=0.5))
    counts = np.bincount((traffic.arrival_s // 60).astype(int))
    spread = math.sqrt(counts.var() - counts.mean()) / counts.mean()
    assert spread == pytest.approx(0.5, abs=0.03)
    assert counts.mean() == pytest.approx(120.0, rel=0.03)


def test_day_and_week_are_local():
    hours = tuple(24.0 if hour == 9 else 0.0 for hour in range(24))
    days = (7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    origin = Origin("x", 0.5, -8.0, hours, days)
    traffic = whole(recipe(origins=(origin,), duration_s=14 * 86_400.0))
    local_h = (traffic.arrival_s - 8 * 3600.0) / 3600.0
    # Around half past nine, hour centres being met there; on the two Mondays.
    assert (local_h % 24).min() >= 8.5 and (local_h % 24).max() <= 10.5
    assert set((local_h // 24).astype(int).tolist()) == {0, 7}
    assert len(traffic) == pytest.approx(0.5 * 14 * 86_400, rel=0.02)


def test_a_window_that_is_cut_short_has_its_share():
    traffic = whole(recipe(duration_s=90.0, origins=(Origin("x", 500.0, 0, *_flat()),)))
    assert len(traffic) == pytest.approx(45_000, rel=0.03)
    assert (traffic.arrival_s >= 60.0).sum() == pytest.approx(15_000, rel=0.05)


def _flat():
    return FLAT.hours, FLAT.days


def test_kinds_carry_what_they_say():
    kinds = (
        kind("m", 3.0, budget=Budget(ttft_ms=200.0), tenants=(("a", 1.0), ("b", 1.0))),
        kind("n", 1.0, residency=frozenset({"eu"}), deadline_s=600.0,
             output_tokens=constant_lengths(7)),
    )  # fmt: skip
    one = recipe(kinds=kinds)
    names, traffic = Generated(one).names, whole(one)
    first = traffic.model == names.models.index("m")
    assert first.mean() == pytest.approx(0.75, abs=0.02)
    assert set(traffic.ttft_budget_ms[first]) == {200.0}
    assert set(traffic.ttft_budget_ms[~first]) == {math.inf}
    assert {names.tenants[t] for t in traffic.tenant[first]} == {"a", "b"}
    assert {names.tenants[t] for t in traffic.tenant[~first]} == {""}
    assert {names.residencies[r] for r in traffic.residency[~first]} == {frozenset({"eu"})}
    assert (traffic.deadline_s - traffic.arrival_s)[~first] == pytest.approx(600.0)
    assert set(traffic.output_tokens[~first]) == {7}
    assert traffic.output_tokens[first].mean() == pytest.approx(50.0, rel=0.05)
    assert np.quantile(traffic.output_tokens[first], 0.95) == pytest.approx(120.0, rel=0.05)


def test_tokens_do_not_depend_on_each_other_or_on_the_origin():
    lengths = lengths_named("azure-2023-conv", OUTPUT)
    one = recipe(
        kinds=(kind(input_tokens=lengths, output_tokens=lengths),), duration_s=36_000.0,
        origins=(Origin("x", 1.0, 0, *_flat()), Origin("y", 1.0, 0, *_flat())),
    )  # fmt: skip
    traffic = whole(one)
    assert abs(np.corrcoef(traffic.input_tokens, traffic.output_tokens)[0, 1]) < 0.02
    assert traffic.origin.mean() == pytest.approx(0.5, abs=0.02)


def test_rechunk_cuts_and_joins():
    parts = [whole(recipe(seed=seed, duration_s=60.0)) for seed in range(5)]
    total = sum(map(len, parts))
    sizes = [len(chunk) for chunk in rechunk(parts, 100)]
    assert sizes == [100] * (total // 100) + ([total % 100] if total % 100 else [])
    assert same(joined(parts), joined(list(rechunk(parts, 100))))
    assert list(rechunk([], 100)) == []


def test_times_that_are_equal_stay_in_order() -> None:
    rng = np.random.default_rng(3)
    for values in (rng.random(500), np.floor(40.0 * rng.random(500)), np.empty(0)):
        assert np.array_equal(_rising(values), np.argsort(values, kind="stable"))
