import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.deferral.planning import ANYWHERE, DeferralRules, plan_deferral
from router.core.deferral.reasons import NOWHERE, WaitReason
from router.core.deferral.slots import SLOT_S
from router.units import HOUR_S
from tests.core.deferral.made_up import NOW, job, outlook, work

RULES = DeferralRules()


def reasons(plan, count):
    return [plan.explain(row).reason for row in range(count)]


def test_work_waits_for_the_greener_hour_and_goes_when_it_has_come():
    jobs = work(job(6), job(6))
    seen = outlook([[300.0, 200.0, 100.0, 200.0, 300.0, 300.0]])
    plan = plan_deferral(jobs, seen, NOW)
    assert len(plan.rows) == 0
    assert reasons(plan, 2) == [WaitReason.WAITS_GREENER] * 2
    why = plan.explain(0)
    assert why.planned_at == NOW + 2 * HOUR_S
    assert why.grams_planned == pytest.approx(why.grams_now / 3.0)
    assert why.latest_start == NOW + 6 * HOUR_S - 150.0
    assert plan.look_again_at == NOW + SLOT_S
    then = plan_deferral(jobs, seen, NOW + 2 * HOUR_S)
    assert then.rows.tolist() == [0, 1]
    assert then.region.tolist() == [0, 0]
    assert not then.urgent.any()
    assert then.places.tolist() == [[10]]
    assert reasons(then, 2) == [WaitReason.RELEASED_GREENEST] * 2


def test_equal_hours_are_not_waited_for():
    assert plan_deferral(work(job(6)), outlook([[100.0] * 6]), NOW).rows.tolist() == [0]


def test_it_goes_where_it_may_and_is_cleanest():
    seen = outlook([[100.0] * 6, [50.0] * 6])
    jobs = work(job(6), job(6, regions=("r0",)), job(6, regions=("elsewhere",)))
    plan = plan_deferral(jobs, seen, NOW)
    assert dict(zip(plan.rows.tolist(), plan.region.tolist(), strict=True)) == {0: 1, 1: 0}
    assert plan.explain(2).reason is WaitReason.NO_ROOM
    assert np.isnan(plan.explain(2).grams_now)


def test_awake_replicas_are_filled_before_others_are_woken():
    jobs = work(*(job(3, run_s=SLOT_S) for _ in range(30)))
    seen = outlook([[100.0] * 3, [90.0] * 3], awake=2.0, asleep=10.0, least=20.0, ratio=1.5)
    plan = plan_deferral(jobs, seen, NOW)
    # Three hours hold all of them on what is awake; nothing is worth waking.
    assert plan.places.tolist() == [[2, 2]]
    dear = plan_deferral(jobs, dataclasses.replace(seen, woken_ratio=np.full((1, 2), 1.0)), NOW)
    assert dear.places.sum() > 4


def test_a_job_without_time_left_is_released_whatever_there_is_of_room():
    seen = outlook([[100.0] * 3], awake=0.0)
    plan = plan_deferral(work(job(0.1), job(2.5), job(-1)), seen, NOW)
    assert plan.rows.tolist() == [0]
    assert plan.urgent.tolist() == [True]
    assert plan.region.tolist() == [ANYWHERE]
    assert plan.places.tolist() == [[0]]
    assert reasons(plan, 3) == [
        WaitReason.RELEASED_URGENT, WaitReason.NO_ROOM, WaitReason.EXPIRED,
    ]  # fmt: skip


def test_a_model_that_nobody_serves_waits_until_it_is_urgent():
    jobs = work(job(2, model="gone"), job(0.1, model="gone"))
    plan = plan_deferral(jobs, outlook([[1.0] * 3]), NOW)
    assert plan.rows.tolist() == [1]
    assert plan.explain(0).reason is WaitReason.NO_ROOM


def test_so_much_is_done_early_that_the_loss_of_a_region_is_survived():
    # Cleanest at the end: with two regions, half of what they can do then has to be enough.
    hours = [300.0, 300.0, 300.0, 100.0]
    jobs = work(*(job(4, run_s=100.0) for _ in range(600)))
    seen = outlook([hours, hours], awake=10.0)
    plan = plan_deferral(jobs, seen, NOW, DeferralRules(attempts=0.0, margin_s=0.0))
    last = plan.planned.slot >= 12
    assert last.sum() * 100.0 == pytest.approx(10 * HOUR_S, rel=0.05)
    # Where all can be done in time whatever is lost, nothing has to be early.
    few = plan_deferral(work(*(job(4) for _ in range(9))), seen, NOW)
    assert (few.planned.slot >= 12).all()


def test_less_room_than_work_is_used_from_the_first_moment_on():
    jobs = work(*(job(1.1, run_s=100.0) for _ in range(1000)))
    plan = plan_deferral(jobs, outlook([[300.0, 100.0]], awake=10.0), NOW)
    assert len(plan.rows) == 90
    assert plan.places.tolist() == [[10]]
    assert {plan.explain(row).reason for row in range(1000)} == {
        WaitReason.RELEASED_GREENEST, WaitReason.WAITS_GREENER, WaitReason.WAITS_ROOM,
        WaitReason.NO_ROOM,
    }  # fmt: skip


PRICES = st.lists(st.integers(1, 9).map(lambda g: 50.0 * g), min_size=5, max_size=5)
JOBS = st.lists(
    st.builds(
        job,
        st.floats(-0.5, 6.0),
        run_s=st.floats(1.0, 900.0),
        regions=st.sampled_from([(), ("r0",), ("r0", "r1")]),
    ),
    max_size=20,
)
OUTLOOKS = st.builds(
    outlook,
    st.lists(PRICES, min_size=1, max_size=3),
    awake=st.floats(0.0, 4.0),
    asleep=st.floats(0.0, 3.0),
    least=st.floats(0.0, 4.0),
    ratio=st.floats(1.0, 2.0),
)
MOMENTS = st.floats(0.0, 5.0 * HOUR_S - 1.0).map(lambda later: NOW + later)


@settings(max_examples=40)
@given(JOBS, OUTLOOKS, MOMENTS)
def test_nothing_waits_past_its_slack_and_nothing_late_is_sent(jobs, seen, now):
    jobs = work(*jobs)
    plan = plan_deferral(jobs, seen, now)
    released = set(plan.rows.tolist())
    assert now < plan.look_again_at <= seen.end
    for row in range(len(jobs)):
        latest = RULES.latest_start(jobs.deadline[row], jobs.run_s[row])
        if jobs.deadline[row] <= now:
            assert row not in released
        elif latest < plan.look_again_at:
            assert row in released
        if plan.planned.slot[row] != NOWHERE:
            # Planned within its slack, or as soon as there is room.
            assert plan.explain(row).planned_at <= max(latest, seen.end)
    keys = [plan.explain(row).latest_start for row in plan.rows.tolist()]
    assert keys == sorted(keys)


@settings(max_examples=40)
@given(JOBS, OUTLOOKS, MOMENTS)
def test_no_region_is_given_more_than_its_room(jobs, seen, now):
    jobs = work(*jobs)
    plan = plan_deferral(jobs, seen, now)
    room = np.floor(seen.awake_places[0, :, 0]) + np.floor(seen.asleep_places[0, :, 0])
    assert (plan.places[0] <= room).all()
    for region in range(len(seen.regions)):
        mine = plan.rows[plan.region == region]
        sets = jobs.region_set[mine]
        # Of every set of regions the last job begins within the room, and may end beyond it.
        last = [np.flatnonzero(sets == one)[-1] for one in np.unique(sets)]
        begun = np.delete(jobs.run_s[mine], last).sum()
        assert begun <= room[region] * (plan.look_again_at - now) + 1e-3
        for row in mine.tolist():
            allowed = jobs.region_sets[jobs.region_set[row]]
            assert not allowed or seen.regions[region] in allowed


@settings(max_examples=40)
@given(JOBS, OUTLOOKS, MOMENTS)
def test_the_same_question_has_the_same_answer(jobs, seen, now):
    one, two = (plan_deferral(work(*jobs), seen, now) for _ in range(2))
    assert one.rows.tolist() == two.rows.tolist()
    assert one.region.tolist() == two.region.tolist()
    assert np.array_equal(one.planned.g_per_kwh, two.planned.g_per_kwh, equal_nan=True)


@settings(max_examples=40)
@given(
    st.lists(st.floats(0.5, 5.0), min_size=1, max_size=12),
    st.data(),
    OUTLOOKS.filter(lambda seen: (seen.awake_places >= 1.0).all()),
)
def test_in_a_frozen_forecast_a_later_deadline_never_costs_more(hours, data, seen):
    which = data.draw(st.integers(0, len(hours) - 1))
    later = [*hours]
    later[which] += data.draw(st.floats(0.0, 3.0))
    rules = DeferralRules(attempts=0.0, margin_s=0.0)

    def grams(due):
        plan = plan_deferral(work(*(job(one, run_s=100.0) for one in due)), seen, NOW, rules)
        first = seen.mean_g_per_kwh[:, 0].min()
        return np.where(plan.planned.urgent, first, plan.planned.g_per_kwh).sum()

    assert grams(later) <= grams(hours) + 1e-6
