from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.polling.election import BEAT_S, LEASE_S, Part, PollerElection
from tests.carbon.polling.gateways import OwnClock, World, WorldStore


def member(
    store: WorldStore, world: World, holder: str, patience_s: float = 180.0
) -> PollerElection:
    return PollerElection(
        store, "carbon/x", holder, OwnClock(world), random.Random(holder), patience_s=patience_s
    )


async def all_beat(world: World, seconds: float, *members: PollerElection) -> None:
    for _ in range(round(seconds / BEAT_S)):
        world.now += BEAT_S
        for one in members:
            await one.beat(())


async def test_a_lease_is_taken_over_within_its_time_and_a_beat() -> None:
    world = World()
    store = WorldStore(world)
    first, second = member(store, world, "first"), member(store, world, "second")
    await all_beat(world, 60.0, first, second)
    assert (first.part, second.part) == (Part.LEADS, Part.FOLLOWS)
    token = first.token
    await all_beat(world, LEASE_S + BEAT_S, second)
    assert (first.part, second.part) == (Part.FOLLOWS, Part.LEADS)
    assert second.token > token
    assert LEASE_S + 2 * BEAT_S < 10.0


async def test_three_lost_beats_lose_no_lease() -> None:
    world = World()
    store = WorldStore(world)
    first, second = member(store, world, "first"), member(store, world, "second")
    await all_beat(world, 5.0, first, second)
    token = first.token
    store.error = ConnectionError()
    await all_beat(world, 3 * BEAT_S, first, second)
    store.error = None
    assert first.part is Part.LEADS
    await all_beat(world, BEAT_S, first, second)
    assert (first.part, first.token) == (Part.LEADS, token)


async def test_part_is_of_this_moment() -> None:
    world = World()
    one = member(WorldStore(world), world, "one")
    assert one.part is Part.FOLLOWS
    assert await one.beat(())
    world.now += LEASE_S - 1e-3
    assert one.part is Part.LEADS
    world.now += 1e-3
    assert one.part is Part.FOLLOWS


async def test_two_callers_of_a_beat_are_one_beat() -> None:
    world = World()
    store = WorldStore(world)
    one = member(store, world, "one")
    assert await one.beat(())
    calls = store.calls
    assert not await one.beat(())
    assert store.calls == calls


async def test_everybody_knows_who_is_there_and_what_is_wanted() -> None:
    world = World()
    store = WorldStore(world)
    members = [member(store, world, f"g{i}") for i in range(5)]
    for _ in range(2):
        world.now += BEAT_S
        for i, one in enumerate(members):
            await one.beat([f"zone {i}", "common"])
    assert all(one.gateways == 5 for one in members)
    assert all(one.wanted == {"common", *(f"zone {i}" for i in range(5))} for one in members)
    # What a dead one wanted is forgotten soon, that it was there a while later.
    alive = members[:2]
    await all_beat(world, 30.0, *alive)
    assert [one.gateways for one in alive] == [5, 5]
    assert alive[0].wanted == frozenset()
    await all_beat(world, 60.0, *alive)
    assert [one.gateways for one in alive] == [2, 2]


async def test_a_store_that_forgot_everything_makes_nobody_think_that_it_is_alone() -> None:
    world = World()
    store = WorldStore(world)
    members = [member(store, world, f"g{i}") for i in range(4)]
    await all_beat(world, 10.0, *members)
    store.flush()
    world.now += BEAT_S
    await members[0].beat(())
    store.error = ConnectionError()
    await all_beat(world, 600.0, *members)
    assert sum(one.share(101) for one in members) == 101


async def test_who_left_is_no_candidate_any_more() -> None:
    world = World()
    store = WorldStore(world)
    one = member(store, world, "one")
    await one.beat(())
    await one.leave()
    await all_beat(world, 10.0, one)
    assert one.part is Part.FOLLOWS
    assert await store.exchange("carbon/x", "other", b"", 1.0, world.now) == {"other": b""}


async def test_troubles_have_their_own_ends() -> None:
    world = World()
    one = member(WorldStore(world), world, "one", patience_s=100.0)
    one.be_left("silence", "nobody speaks")
    one.fail(TimeoutError())
    assert one.store_fails
    world.now += 100.0
    assert one.part is Part.ALONE
    one.recover("store")
    assert (one.trouble, one.part) == ("nobody speaks", Part.ALONE)
    one.recover("silence")
    assert (one.trouble, one.part) == ("", Part.FOLLOWS)


@given(st.integers(1, 40), st.integers(-3, 500))
def test_shares_are_equal_and_add_up(gateways: int, calls: int) -> None:
    world = World()
    store = WorldStore(world)
    names = [f"g{i}" for i in range(gateways)]
    members = [member(store, world, name) for name in names]
    for one in members:
        one._take(dict.fromkeys(names, b""), 0.0)
    shares = [one.share(calls) for one in members]
    assert sum(shares) == max(calls, 0)
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    "row", [b"", b"\xff", b"x" * 100_000, b'{"v":2,"what":"zones","names":[1]}']
)
async def test_a_row_that_is_none_still_counts_as_somebody(row: bytes) -> None:
    world = World()
    store = WorldStore(world)
    one = member(store, world, "one")
    await store.exchange("carbon/x", "stranger", row, 100.0, world.now)
    await one.beat(["A"])
    assert one.wanted == {"A"}
    assert one.gateways == 2
