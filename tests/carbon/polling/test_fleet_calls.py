"""Limits on calls, over all gateways: whatever happens to them and to the store."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.carbon.polling.election import BEAT_S, LEASE_S, Part, PollerElection
from router.carbon.polling.fleet_calls import FleetCalls
from router.carbon.providers.budget import CallLimit
from tests.carbon.polling.gateways import OwnClock, World, WorldStore
from tests.examples import examples

HOUR = 3600.0
LIMIT = CallLimit(60, HOUR)


class Caller:
    def __init__(
        self,
        store: WorldStore,
        world: World,
        holder: str,
        limits: list[CallLimit],
        skew_s: float = 0.0,
    ) -> None:
        clock = OwnClock(world, skew_s)
        self.world = world
        self.clock = clock
        self.election = PollerElection(
            store, "carbon/x", holder, clock, random.Random(holder), timeout_s=1.0
        )
        self.allowance = FleetCalls(limits, store, "carbon/x/calls/0", self.election, clock)
        self.made: list[float] = []

    async def beat(self) -> None:
        await self.election.beat(())
        if self.election.settles_s > 0.0:
            await self.allowance.look()

    async def call(self) -> float:
        wait_s = await self.allowance.spend(self.clock.monotonic())
        if wait_s <= 0.0:
            self.made.append(self.world.now)
        return wait_s


def most_in_a_window(made: list[float], per_s: float) -> int:
    made = sorted(made)
    return max((sum(at <= one < at + per_s for one in made) for at in made), default=0)


async def pass_by(world: World, seconds: float, *callers: Caller, every_s: float = BEAT_S) -> None:
    end = world.now + seconds
    while world.now < end:
        world.now = min(world.now + every_s, end)
        for caller in callers:
            await caller.beat()


async def test_what_was_called_survives_whoever_called() -> None:
    world = World()
    store = WorldStore(world)
    first, second = (Caller(store, world, name, [LIMIT]) for name in ("first", "second"))
    await pass_by(world, 5.0, first, second)
    for _ in range(60):
        assert await first.call() == 0.0
    await pass_by(world, LEASE_S + BEAT_S, second)
    assert second.election.part is Part.LEADS
    wait_s = await second.call()
    assert 3000.0 < wait_s <= HOUR * 13 / 12 + 1.0
    assert second.made == []
    await pass_by(world, wait_s, second)
    assert await second.call() == 0.0
    assert most_in_a_window(first.made + second.made, HOUR) <= 60


async def test_a_follower_may_not_call_at_all() -> None:
    world = World()
    store = WorldStore(world)
    first, second = (Caller(store, world, name, [LIMIT]) for name in ("first", "second"))
    await pass_by(world, 5.0, first, second)
    assert await second.call() == BEAT_S
    assert await first.call() == 0.0


async def test_every_limit_holds_and_a_refusal_counts_in_none() -> None:
    world = World()
    store = WorldStore(world)
    one = Caller(store, world, "one", [CallLimit(100, HOUR), CallLimit(3, 60.0)])
    await pass_by(world, BEAT_S, one)
    for _ in range(3):
        assert await one.call() == 0.0
    for _ in range(20):
        assert 0.0 < await one.call() <= 70.0
    total = 0
    for number in range(int(world.now // 300) - 12, int(world.now // 300) + 2):
        total += await store.add(f"carbon/x/calls/0/3600/{number}", 0, HOUR, world.now)
    assert total == 3


@pytest.mark.parametrize("gateways", [2, 3, 7, 100])
async def test_without_the_store_each_calls_its_part_of_what_was_left(gateways: int) -> None:
    world = World()
    store = WorldStore(world)
    fleet = [Caller(store, world, f"g{i}", [LIMIT]) for i in range(gateways)]
    await pass_by(world, 10.0, *fleet)
    for _ in range(20):
        assert await fleet[0].call() == 0.0
    # Followers look at times.
    for _ in range(2):
        for caller in fleet:
            await caller.allowance.look()
    store.error = ConnectionError()
    await pass_by(world, 200.0, *fleet)
    for caller in fleet:
        assert caller.election.part is Part.ALONE
        while await caller.call() == 0.0:
            pass
    made = [at for caller in fleet for at in caller.made]
    assert len(made) == 60
    # Later on as well, and never more than the limit in any hour.
    for _ in range(200):
        world.now += 60.0
        for caller in fleet:
            await caller.call()
    made = [at for caller in fleet for at in caller.made]
    assert most_in_a_window(made, HOUR) <= 60
    assert len(made) >= 60 * 3


async def test_what_was_called_alone_is_handed_in() -> None:
    world = World()
    store = WorldStore(world)
    fleet = [Caller(store, world, f"g{i}", [LIMIT]) for i in range(3)]
    await pass_by(world, 10.0, *fleet)
    store.error = ConnectionError()
    await pass_by(world, 200.0, *fleet)
    for caller in fleet:
        while await caller.call() == 0.0:
            pass
    store.error = None
    await pass_by(world, 10.0, *fleet)
    for caller in fleet:
        assert await caller.call() > 0.0
    assert sum(len(caller.made) for caller in fleet) == 60


async def test_who_finds_the_store_first_waits_for_what_the_others_called() -> None:
    world = World()
    store = WorldStore(world)
    fleet = [Caller(store, world, f"g{i}", [LIMIT]) for i in range(3)]
    await pass_by(world, 10.0, *fleet)
    store.error = ConnectionError()
    await pass_by(world, 200.0, *fleet)
    for caller in fleet:
        while await caller.call() == 0.0:
            pass
    store.error = None
    for _ in range(4):
        world.now += BEAT_S
        for caller in fleet:
            await caller.beat()
            assert await caller.call() > 0.0
    assert sum(len(caller.made) for caller in fleet) == 60


async def test_a_store_that_forgot_is_told_by_the_one_who_leads() -> None:
    world = World()
    store = WorldStore(world)
    first, second = (Caller(store, world, name, [LIMIT]) for name in ("first", "second"))
    await pass_by(world, 5.0, first, second)
    for _ in range(60):
        assert await first.call() == 0.0
    store.flush()
    await pass_by(world, 5.0, first, second)
    assert await first.call() > 0.0
    await pass_by(world, LEASE_S + BEAT_S, second)
    assert await second.call() > 0.0


@pytest.mark.parametrize("skew_s", [-299.0, -5.0, 5.0, 299.0])
async def test_clocks_may_differ_by_a_slice(skew_s: float) -> None:
    world = World()
    store = WorldStore(world)
    first = Caller(store, world, "first", [LIMIT])
    second = Caller(store, world, "second", [LIMIT], skew_s)
    for _ in range(4):
        await pass_by(world, LEASE_S + 2 * BEAT_S, first)
        for _ in range(40):
            await first.call()
        await pass_by(world, 1200.0, first)
        await pass_by(world, LEASE_S + 2 * BEAT_S, second)
        for _ in range(40):
            await second.call()
        await pass_by(world, 900.0, second)
    assert most_in_a_window(first.made + second.made, HOUR) <= 60
    assert second.made


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["call", "die", "come", "lose", "back", "wait", "flush"]),
        st.integers(0, 3),
        st.floats(0.5, 400.0),
    ),
    max_size=60,
)


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(EVENTS)
async def test_the_limit_holds_whatever_happens(events: list[tuple[str, int, float]]) -> None:
    """Gateways die, come and take over, the store is lost and found, and loses all it held once a
    leader knows it."""
    world = World()
    store = WorldStore(world)
    limit = CallLimit(12, 600.0)
    fleet = [Caller(store, world, f"g{i}", [limit]) for i in range(4)]
    alive = set(fleet)
    gone: list[float] = []
    await pass_by(world, 5.0, *fleet)
    for caller in fleet:
        await caller.allowance.look()
    for what, who, seconds in events:
        caller = fleet[who]
        match what:
            case "call":
                for one in alive:
                    for _ in range(who + 1):
                        await one.call()
                # What a follower knows is a few seconds old when the store is lost.
                for one in alive:
                    if not one.election.store_fails:
                        await one.allowance.look()
            case "die" if len(alive) > 1:
                alive.discard(caller)
            case "come" if caller not in alive and store.error is None:
                gone += caller.made
                fleet[who] = Caller(store, world, f"g{who}+{len(gone)}", [limit])
                alive.add(fleet[who])
                await pass_by(world, 5.0, *alive)
            case "lose":
                store.error = ConnectionError()
            case "back":
                store.error = None
            case "flush" if store.error is None and all(c in alive for c in fleet):
                store.flush()
        await pass_by(world, seconds, *alive, every_s=5.0)
        for one in alive:
            if not one.election.store_fails:
                await one.allowance.look()
    made = gone + [at for caller in fleet for at in caller.made]
    assert most_in_a_window(made, 600.0) <= 12
