"""Random faults against the director, its health, leases and retries, and the prober: in virtual
time, so that hours pass in seconds. ``RANDOM_FAULT_STEPS`` sets how many steps are taken in all
(an attempt or a probe each)."""

import asyncio
import math
import os

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.burden import NO_BURDENS
from router.model import RowOutcome
from tests.director.faulty_fleet import ANSWERING, FAULTS, GONE, SILENT, World, now
from tests.director.virtual_time import run

STEPS = int(os.environ.get("RANDOM_FAULT_STEPS", "30000"))
HOUR_S = 3600.0
SEEDS = st.integers(0, 2**32 - 1)


def examples(count):
    return settings(
        max_examples=count, deadline=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def nothing_left(world):
    """Every place was given back, and every figure is one."""
    for seat in world.board.seats.values():
        assert (seat.in_flight, len(seat.leases)) == (0, 0)
        assert seat.burdens == NO_BURDENS
        assert all(outlier.in_flight == 0 for outlier in seat.outliers.values())
    finals = sum(world.ended_as.values()) - world.ended_as[RowOutcome.MOVED]
    assert finals == sum(world.sent.values())
    assert world.ended_as[RowOutcome.MOVED] == sum(world.retries.values())
    live = world.board.live("llama", "")
    assert np.isfinite(np.delete(live, [k.PACE_CAP_MS, k.RELEASES_AT_S], axis=0)).all()
    assert math.isfinite(world.budget.balance)


async def a_day(world, minutes, **faults):
    """Two callers, one of whom now and then sends bad requests, while servers break."""
    until = 60.0 * minutes
    await world.live(
        world.caller("alice", 8.0, until),
        world.caller("bob", 8.0, until, bad_share=0.02),
        world.breaking(until - 60.0, **faults),
    )


taken = []


@examples(max(2, STEPS // 15_000))
@given(SEEDS)
def test_no_request_is_lost_while_others_could_serve_it_but_for_its_allowance(seed):
    """The allowance: three attempts, the retry budget, and its caller's trials.

    Of six servers two at most are broken at a time, in any way but one: what answers probes and no
    request is found out by time alone.
    """
    world = World(seed)
    run(a_day(world, minutes=12, modes=(*GONE, *SILENT, *ANSWERING)))
    taken.append(world.backend.steps)
    sent = sum(world.sent.values())
    unexplained = [lost for lost in world.lost if not lost[-1]]
    assert not unexplained, (len(unexplained), unexplained[:5])
    assert len(world.lost) <= 0.002 * sent
    assert world.backend.steps <= 1.35 * sent + 12 * 60 * 6 / 0.4
    nothing_left(world)


def test_so_many_steps_were_taken():
    assert sum(taken) >= 0.5 * STEPS


@examples(6)
@given(SEEDS, st.sampled_from((*GONE, *SILENT)))
def test_traffic_leaves_what_is_dead_or_frozen_within_two_seconds_and_nothing_is_lost(seed, mode):
    world = World(seed)

    async def story():
        await asyncio.sleep(5.0)
        for name in world.names[:2]:  # a whole region, the favourite one
            world.backend.become(name, mode)
        await asyncio.sleep(2.0)
        world.answered.clear()
        late = [len(world.board.seats[name].leases) for name in world.names[:2]]
        await asyncio.sleep(20.0)
        assert late == [0, 0]
        assert not any(world.answered[name] for name in world.names[:2])

    run(world.live(story(), world.caller("alice", 40.0, 30.0)))
    assert not world.lost
    nothing_left(world)


@examples(8)
@given(SEEDS, st.sampled_from(FAULTS))
def test_the_favourite_is_back_soon_after_it_is_well_again(seed, mode):
    world = World(seed, favourites=1)

    async def story():
        await asyncio.sleep(5.0)
        world.backend.become(world.names[0], mode)
        await asyncio.sleep(60.0)
        world.backend.become(world.names[0], "ok")
        # Ejections double: after a minute of failing trials the next is at most so far away.
        await asyncio.sleep(90.0)
        world.answered.clear()
        await asyncio.sleep(10.0)

    run(world.live(story(), world.caller("alice", 10.0, 165.0)))
    assert world.healthy()
    assert world.answered.most_common(1)[0][0] == world.names[0]


@examples(4)
@given(SEEDS)
def test_what_answers_probes_and_no_request_is_left_in_time(seed):
    world = World(seed)

    async def story():
        await asyncio.sleep(5.0)
        world.backend.become(world.names[0], "stuck")
        await asyncio.sleep(30.0)
        world.lost.clear()
        started = now()
        await asyncio.sleep(20.0)
        assert not [lost for lost in world.lost if lost[0] >= started]

    run(world.live(story(), world.caller("alice", 20.0, 60.0)))
    nothing_left(world)


@examples(3)
@given(SEEDS, st.sampled_from(("fault", "busy", "internal")))
def test_a_fleet_that_is_overloaded_as_a_whole_gets_no_more_than_a_fifth_on_top(seed, mode):
    world = World(seed)

    async def story():
        for name in world.names:
            world.backend.become(name, mode)
        await asyncio.sleep(120.0)

    before = world.backend.steps

    async def counted():
        await world.live(story(), world.caller("alice", 50.0, 120.0))

    run(counted())
    attempts = sum(world.sent.values()) + sum(world.retries.values())
    assert before == 0
    assert attempts <= 1.2 * sum(world.sent.values()) + 10 + 1


@examples(3)
@given(SEEDS)
def test_a_caller_of_nothing_but_bad_requests_harms_nobody(seed):
    world = World(seed)
    run(
        world.live(world.caller("mallory", 60.0, 60.0, bad_share=1.0), world.caller("a", 6.0, 60.0))
    )
    assert world.healthy()
    assert not world.lost
    assert set(world.answered) <= set(world.names[:2])
    assert sum(world.retries.values()) <= 0.1 * world.sent["mallory"] + 16 + 1


@examples(4)
@given(SEEDS, st.sampled_from(ANSWERING))
def test_all_broken_alike_is_told_and_ends_with_the_fault(seed, mode):
    world = World(seed)

    async def story():
        for name in world.names:
            world.backend.become(name, mode)
        await asyncio.sleep(30.0)
        for name in world.names:
            world.backend.become(name, "ok")
        await asyncio.sleep(20.0)
        world.lost.clear()
        started = now()
        await asyncio.sleep(10.0)
        assert not [lost for lost in world.lost if lost[0] >= started]

    run(world.live(story(), world.caller("alice", 20.0, 60.0)))
    nothing_left(world)
