from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.loading import shipped_policies
from router.lab.sim.scenario.assemble import BASELINES
from router.lab.study.causes import (
    ChainOrder,
    Levers,
    PolicyChain,
    PolicyFamily,
    PolicyVariant,
    SavingCause,
    chain,
    chains_of,
    interval,
    intervals,
    shares,
    variants,
)
from router.model import Policy, Spread
from tests.factories import shipped_policy

PACKING, WHERE, WHEN = SavingCause.PACKING, SavingCause.WHERE, SavingCause.WHEN
FIRST, LAST = ChainOrder
SHIPPED = [shipped_policy(name) for name in sorted(shipped_policies())]


def led(asked: Policy, baseline: str, order: ChainOrder, *, kept_on: bool = False) -> PolicyChain:
    family = PolicyFamily(asked, shipped_policy("latency-first"), SHIPPED)
    start = PolicyVariant(shipped_policy(baseline), not kept_on)
    return chain(family, start, Levers(True), order)


def steps(found: PolicyChain) -> list[tuple[SavingCause, str]]:
    return [(step.cause, step.after.policy.name) for step in found.steps]


def test_one_thing_changes_at_a_time_from_the_nearest_region_on() -> None:
    asked = shipped_policy("carbon-first")
    assert steps(led(asked, "latency-first", FIRST)) == [
        (PACKING, "latency-first-packed"), (WHERE, "static-greenest-packed"),
        (WHEN, "carbon-first"),
    ]  # fmt: skip
    assert steps(led(asked, "latency-first", LAST)) == [
        (WHERE, "static-greenest"), (WHEN, "carbon-first-spread"), (PACKING, "carbon-first"),
    ]  # fmt: skip


@pytest.mark.parametrize("order", ChainOrder)
@pytest.mark.parametrize(
    ("baseline", "cause"),
    [("static-greenest-packed", WHEN), ("carbon-first-spread", PACKING)],
)
def test_against_its_neighbour_a_policy_saves_by_one_cause(
    baseline: str, cause: SavingCause, order: ChainOrder
) -> None:
    found = led(shipped_policy("carbon-first"), baseline, order)
    assert steps(found) == [(cause, "carbon-first")]


@pytest.mark.parametrize("order", ChainOrder)
def test_what_goes_by_load_is_first_exchanged_for_the_nearest_region(order: ChainOrder) -> None:
    found = led(shipped_policy("carbon-first"), "round-robin", order)
    assert steps(found)[0] == (WHERE, "latency-first")
    assert steps(found)[1:] == steps(led(shipped_policy("carbon-first"), "latency-first", order))


def test_scale_down_comes_last_and_first() -> None:
    asked = shipped_policy("carbon-first")
    last = led(asked, "latency-first", FIRST, kept_on=True)
    assert [step.after.releases for step in last.steps] == [False, False, False, True]
    assert steps(last)[-1] == (SavingCause.SCALE_DOWN, "carbon-first")
    first = led(asked, "latency-first", LAST, kept_on=True)
    assert steps(first)[0] == (SavingCause.SCALE_DOWN, "latency-first")
    assert all(step.after.releases for step in first.steps)


def test_which_model_comes_after_and_before_all_else_but_scale_down() -> None:
    family = PolicyFamily(shipped_policy("carbon-first"), shipped_policy("latency-first"), SHIPPED)
    start = PolicyVariant(shipped_policy("latency-first"), False)
    which, down = SavingCause.WHICH_MODEL, SavingCause.SCALE_DOWN
    found = {order: chain(family, start, Levers(True, True), order) for order in ChainOrder}
    assert [step.cause for step in found[FIRST].steps] == [PACKING, WHERE, WHEN, which, down]
    assert [step.cause for step in found[LAST].steps] == [down, which, WHERE, WHEN, PACKING]
    assert found[LAST].steps[1].after.policy.name == "latency-first"


def test_waiting_comes_after_the_hours_and_before_them() -> None:
    family = PolicyFamily(shipped_policy("carbon-first"), shipped_policy("latency-first"), SHIPPED)
    start = PolicyVariant(shipped_policy("latency-first"), False)
    which, waits = SavingCause.WHICH_MODEL, SavingCause.WAITING
    levers = Levers(False, True, True)
    found = {order: chain(family, start, levers, order) for order in ChainOrder}
    assert [step.cause for step in found[FIRST].steps] == [PACKING, WHERE, WHEN, waits, which]
    assert [step.cause for step in found[LAST].steps] == [which, waits, WHERE, WHEN, PACKING]
    assert all(step.after.waits for step in found[LAST].steps[1:])


def test_alone_and_together_is_against_the_policy_itself() -> None:
    asked = shipped_policy("carbon-first")
    baselines = [shipped_policy(name) for name in BASELINES]
    found = chains_of([asked], baselines, Levers(False, True, True))
    # No baseline waits.
    assert not any(one.baseline.waits for one in found)
    mine = [one for one in found if one.baseline == PolicyVariant(asked, False)]
    which, waits = SavingCause.WHICH_MODEL, SavingCause.WAITING
    assert [[step.cause for step in one.steps] for one in mine] == [[waits, which], [which, waits]]
    down = SavingCause.SCALE_DOWN
    scaled = chains_of([asked], baselines, Levers(True, False, True))
    bare = [one for one in scaled if one.baseline == PolicyVariant(asked, False)]
    assert [[step.cause for step in one.steps] for one in bare] == [[waits, down], [down, waits]]
    awake = [one for one in scaled if one.baseline == PolicyVariant(asked, True)]
    assert [[step.cause for step in one.steps] for one in awake] == [[waits], [waits]]
    plain = chains_of([asked], baselines, Levers(False))
    assert asked not in {one.baseline.policy for one in plain}


def test_a_policy_of_ones_own_is_split_by_variants_of_itself() -> None:
    own = replace(shipped_policy("balanced"), name="own")
    assert steps(led(own, "latency-first", FIRST)) == [
        (PACKING, "latency-first, packed"), (WHERE, "own, annual means"), (WHEN, "own"),
    ]  # fmt: skip
    assert steps(led(own, "latency-first", LAST)) == [
        (WHERE, "own, spread, annual means"), (WHEN, "own, spread"), (PACKING, "own"),
    ]  # fmt: skip
    assert steps(led(own, "static-greenest", FIRST)) == [
        (PACKING, "static-greenest, packed as own"), (WHERE, "own, annual means"), (WHEN, "own"),
    ]  # fmt: skip


def test_what_a_policy_does_not_do_has_no_step() -> None:
    hourless = shipped_policy("static-greenest")
    assert steps(led(hourless, "latency-first", FIRST)) == [(WHERE, "static-greenest")]
    blind = shipped_policy("least-loaded")
    assert steps(led(blind, "latency-first", LAST)) == [(WHERE, "least-loaded")]
    assert steps(led(hourless, "static-greenest", FIRST)) == []


def test_a_limit_on_carbon_follows_the_hours_too() -> None:
    limited = replace(shipped_policy("latency-first"), name="limited", max_g_per_kwh=300.0)
    assert steps(led(limited, "latency-first", FIRST)) == [
        (WHERE, "limited, annual means"), (WHEN, "limited"),
    ]  # fmt: skip


@given(
    st.sampled_from(SHIPPED), st.sampled_from(BASELINES), st.sampled_from(ChainOrder),
    st.booleans(), st.randoms(use_true_random=False),
)  # fmt: skip
def test_causes_add_up_to_the_whole_saving(
    asked: Policy, baseline: str, order: ChainOrder, kept_on: bool, random: object
) -> None:
    found = led(asked, baseline, order, kept_on=kept_on)
    assert [step.before for step in found.steps][1:] == [step.after for step in found.steps][:-1]
    grams = {one: random.uniform(1.0, 50.0) for one in variants([found])}  # type: ignore[attr-defined]
    by_cause = shares(found, grams.__getitem__)
    saved = 1.0 - grams[found.asked] / grams[found.baseline] if found.steps else 0.0
    assert math.fsum(by_cause.values()) == pytest.approx(saved, abs=1e-12)
    assert by_cause[SavingCause.WHICH_MODEL] == 0.0


def test_nothing_is_a_share_of_no_grams() -> None:
    found = led(shipped_policy("carbon-first"), "latency-first", FIRST)
    for nothing in (0.0, math.nan):
        assert all(math.isnan(one) for one in shares(found, lambda _, g=nothing: g).values())


def test_a_name_of_the_known_is_kept_only_for_the_same_values() -> None:
    other = replace(shipped_policy("static-greenest-packed"), near_tie=0.5)
    family = PolicyFamily(shipped_policy("carbon-first"), shipped_policy("latency-first"), [other])
    assert family.at(1, packed=True).name == "carbon-first, annual means"
    assert family.at(1, packed=False).spread is Spread.SPREAD


def test_an_interval_is_of_the_mean_over_seeds() -> None:
    found = interval([1.0, 2.0, 3.0])
    # Student's t, two degrees of freedom: 2.920 * 1 / sqrt(3).
    assert (found.mean, found.high - found.mean) == (2.0, pytest.approx(1.6859, abs=1e-3))
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert math.isnan(interval([2.0]).low) and interval([2.0]).mean == 2.0
    assert math.isnan(interval([2.0, math.nan]).mean)


def test_means_by_cause_add_up_as_each_seed_does() -> None:
    found = led(shipped_policy("carbon-first"), "latency-first", LAST)
    tables = [
        dict(zip(variants([found]), values, strict=True))
        for values in ((8.0, 2.0, 4.0, 3.0), (9.0, 2.0, 5.0, 4.0))
    ]
    by_cause = intervals(found, [table.__getitem__ for table in tables])
    total = sum(1.0 - t[found.asked] / t[found.baseline] for t in tables) / 2.0
    assert sum(one.mean for one in by_cause.values()) == pytest.approx(total, abs=1e-12)
    assert by_cause[WHERE].low < by_cause[WHERE].mean < by_cause[WHERE].high
