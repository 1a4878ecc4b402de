import asyncio

import pytest

from router.director import waiting
from router.director.waiting import Waiting
from router.errors import NothingFeasibleError, ShedError
from tests.director.virtual_time import run


class Fleet:
    """Full until ``free_at``; notes when it was asked."""

    def __init__(self, free_at=float("inf"), error=ShedError):
        self.free_at, self.error = free_at, error
        self.asked_at = []

    def decide(self):
        now = asyncio.get_running_loop().time()
        self.asked_at.append(now)
        if now < self.free_at:
            raise self.error("full")
        return now


class Alone:
    """A claim of the only tenant there is."""

    def may_wait(self, waiting, most, now):
        return waiting < most

    def wait(self, now):
        self.waits = True

    def stop_waiting(self, now):
        self.waits = False


def for_room(room, one, at_most_s, claim=None):
    return room.for_room(one.decide, at_most_s, claim or Alone(), lambda: 0.0)


def test_a_place_that_is_free_is_had_at_once():
    one = Fleet(free_at=0.0)
    assert run(for_room(Waiting(), one, 0.25)) == 0.0
    assert one.asked_at == [0.0]


def test_a_place_that_comes_free_in_time_is_had_soon():
    assert 0.1 <= run(for_room(Waiting(), Fleet(free_at=0.1), 0.25)) <= 0.15


def test_a_fleet_that_stays_full_is_left_in_time():
    one = Fleet()
    with pytest.raises(ShedError):
        run(for_room(Waiting(), one, 0.25))
    assert one.asked_at[-1] <= 0.25
    assert len(one.asked_at) < 10


@pytest.mark.parametrize("at_most_s", [0.0, -1.0])
def test_who_may_not_wait_is_asked_once(at_most_s):
    one = Fleet()
    with pytest.raises(ShedError):
        run(for_room(Waiting(), one, at_most_s))
    assert one.asked_at == [0.0]


def test_only_the_want_of_a_place_is_waited_for():
    one = Fleet(error=NothingFeasibleError)
    with pytest.raises(NothingFeasibleError):
        run(for_room(Waiting(), one, 0.25))
    assert one.asked_at == [0.0]


def test_so_many_may_wait_and_the_rest_is_shed_at_once(monkeypatch):
    monkeypatch.setattr(waiting, "_MOST_WAITING", 3)

    async def crowd():
        room, fleet = Waiting(), Fleet(free_at=0.1)
        asked = [asyncio.ensure_future(for_room(room, fleet, 0.25)) for _ in range(5)]
        await asyncio.sleep(0.005)
        done = [one.done() for one in asked]
        results = await asyncio.gather(*asked, return_exceptions=True)
        return done, [type(one) for one in results]

    done, kinds = run(crowd())
    assert done == [False] * 3 + [True] * 2
    assert kinds == [float] * 3 + [ShedError] * 2


def test_one_that_leaves_while_it_waits_makes_room():
    async def leave():
        room = Waiting()
        one = asyncio.ensure_future(for_room(room, Fleet(), 0.25))
        await asyncio.sleep(0.005)
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        return room._waiting

    assert run(leave()) == 0


def test_who_waits_is_counted_while_it_does():
    async def wait():
        claim, room = Alone(), Waiting()
        one = asyncio.ensure_future(for_room(room, Fleet(free_at=0.02), 0.25, claim))
        await asyncio.sleep(0.005)
        during = claim.waits
        await one
        return during, claim.waits

    assert run(wait()) == (True, False)


def test_a_tenant_that_has_its_share_of_the_line_is_shed_at_once():
    claim, one = Alone(), Fleet(free_at=0.1)
    claim.may_wait = lambda waiting, most, now: False
    with pytest.raises(ShedError):
        run(for_room(Waiting(), one, 0.25, claim))
    assert one.asked_at == [0.0]
