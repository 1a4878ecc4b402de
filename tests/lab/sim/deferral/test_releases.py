import dataclasses

import numpy as np
import pytest

from router.lab.sim.deferral.releases import releases
from router.units import HOUR_S
from tests.core.deferral.made_up import NOW, job, outlook, work

END = NOW + 6 * HOUR_S


def seeing(grid, **room):
    """The grid as it is, from the hour on that it is."""
    grid = np.array(grid)

    def at(now):
        hour = int((now - NOW) // HOUR_S)
        seen = outlook(grid[:, hour:], **room)
        return dataclasses.replace(seen, start=NOW + hour * HOUR_S)

    return at


def arriving(*hours, deadline=5.0, run_s=60.0):
    return work(*(job(at + deadline, run_s=run_s, arrived_at=NOW + at * HOUR_S) for at in hours))


def test_jobs_wait_for_the_greenest_hour_and_then_take_turns():
    jobs = arriving(0.0, 0.5, 1.7, run_s=120.0)
    at = releases(jobs, seeing([[300.0, 300.0, 100.0, 300.0, 300.0, 300.0]], awake=1.0), END)
    assert ((at - NOW) / HOUR_S).tolist() == pytest.approx(
        [2.0, 2.0 + 120 / 3600, 2.0 + 240 / 3600]
    )


def test_who_cannot_wait_for_the_next_look_goes_on_arrival():
    jobs = arriving(0.0, 0.6, deadline=0.1)
    at = releases(jobs, seeing([[300.0] + [100.0] * 5]), END)
    assert at.tolist() == jobs.arrived_at.tolist()


def test_without_room_jobs_go_when_they_must_and_nobody_is_forgotten():
    jobs = arriving(0.0, 1.2, 5.9)
    at = releases(jobs, seeing([[100.0] * 6], awake=0.0), END)
    assert (at >= jobs.arrived_at).all()
    assert (at <= jobs.deadline).all()
    assert (at[:2] >= jobs.deadline[:2] - 0.5 * HOUR_S).all()
    assert len(releases(arriving(), seeing([[100.0] * 6]), END)) == 0


def test_at_news_what_has_not_begun_waits_for_another_plan():
    jobs = arriving(*[0.0] * 6, run_s=300.0)
    before, after = (seeing([[100.0] + [300.0] * 5], awake=places) for places in (1.0, 0.0))
    news = NOW + 500.0
    at = releases(jobs, lambda now: (before if now < news else after)(now), END, news=[news])
    assert sorted(at - NOW)[:3] == pytest.approx([0.0, 300.0, 5 * HOUR_S - 630.0 - 720.0], abs=900)
    assert (np.sort(at)[2:] >= jobs.deadline[0] - 3600.0).all()
    assert (at + 300.0 <= jobs.deadline).all()


def test_many_without_time_to_wait_come_by_turns_within_what_they_have_left():
    jobs = arriving(*[0.0] * 40, deadline=0.2, run_s=60.0)
    at = releases(jobs, seeing([[100.0] * 6], awake=10.0), END) - NOW
    assert at[:11].tolist() == pytest.approx([6.0 * turn for turn in range(11)])
    crowded = releases(jobs, seeing([[100.0] * 6], awake=1.0), END) - NOW
    assert crowded.max() == pytest.approx(0.2 * HOUR_S - 150.0)
