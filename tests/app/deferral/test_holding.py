"""Requests that are held open begin when the planner says so, and never later than they may."""

import asyncio
import contextlib

import pytest

from router.app.deferral.holding import HeldRequests
from router.errors import CarbonBudgetError, ShedError
from router.model import Request
from tests.app.deferral.test_planning import served_model
from tests.app.support import NOW, Place, configured
from tests.identity.support import WallHands


@pytest.fixture
async def place(tmp_path):
    made = Place(configured(tmp_path))
    await made.open()
    yield made


class Held:
    def __init__(self, place, most=2, most_wait_s=3000.0):
        self.place = place
        self.clock = WallHands(NOW)
        self.requests = HeldRequests(lambda: place.director, 0.5, most, most_wait_s, self.clock)

    def request(self, **changes):
        model = served_model(self.place)
        return Request(model, origin="client", **changes)


@contextlib.asynccontextmanager
async def holding(place, **options):
    made = Held(place, **options)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.requests.run())
        yield made
        task.cancel()


async def test_who_gains_nothing_by_waiting_begins_at_once(place):
    async with holding(place) as held:
        told = await held.requests.hold(held.request(), 600.0)
        assert told.was_held and told.tier == "flex"
        assert told.run_at_once.region and told.run_at_once.waited_s == told.waited_s
        # Of half a minute there is nothing to plan.
        told = await held.requests.hold(held.request(), 20.0)
        assert told.was_held and told.waited_s == 0.0
        assert (await held.requests.hold(held.request()._replace(model="none"), 600.0)).tier == (
            "default"
        )


async def test_who_waits_for_a_greener_minute_begins_when_it_comes(place, monkeypatch):
    async with holding(place) as held, asyncio.TaskGroup() as group:
        released = asyncio.Event()
        monkeypatch.setattr(
            held.requests._planner, "allot",
            lambda kinds, most, now: [(kind, 1) for kind in kinds] if released.is_set() else [],
        )  # fmt: skip
        waiting = [group.create_task(held.requests.hold(held.request(), 600.0)) for _ in "ab"]
        await asyncio.sleep(0)
        # There is room for no more: it begins.
        assert not (await held.requests.hold(held.request(), 600.0)).was_held
        waiting.pop().cancel()
        await asyncio.sleep(0)
        again = group.create_task(held.requests.hold(held.request(), 600.0))
        released.set()
        assert (await again).was_held and (await waiting[0]).was_held


async def test_nobody_waits_longer_than_it_may(place, monkeypatch):
    async with holding(place, most_wait_s=0.05) as held:
        monkeypatch.setattr("router.app.deferral.holding._RULES", Hopeful())
        monkeypatch.setattr(held.requests._planner, "allot", lambda kinds, most, now: [])
        assert (await held.requests.hold(held.request(), 600.0)).was_held


class Hopeful:
    def latest_start(self, deadline, run_s):
        return deadline


@pytest.mark.parametrize("waits", [True, False])
async def test_a_budget_that_begins_anew_in_time_is_waited_for(place, monkeypatch, waits):
    error = CarbonBudgetError("nothing left", 0.05, waits=waits)

    def decide(request):
        raise error

    monkeypatch.setattr(place.director, "decide", decide)
    async with holding(place) as held:
        told = await held.requests.hold(held.request(), 600.0)
        assert told.was_held is waits
        error.retry_after_s = 700.0
        assert not (await held.requests.hold(held.request(), 600.0)).was_held


@pytest.fixture
def full(place, monkeypatch):
    def decide(request):
        raise ShedError("all are full", 1.0)

    monkeypatch.setattr(place.director, "decide", decide)


@pytest.mark.usefixtures("full")
async def test_who_finds_no_place_waits_for_one(place, monkeypatch):
    room = []
    monkeypatch.setattr(
        "router.app.deferral.planning.shared_out",
        lambda kinds, found, most: [(kind, 1) for kind in kinds] if room else [],
    )
    async with holding(place) as held, asyncio.TaskGroup() as group:
        waiting = group.create_task(held.requests.hold(held.request(), 600.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        room.append("there is some now")
        told = await waiting
        assert told.was_held and told.run_at_once is None
        # It has no time to wait at all.
        assert (await held.requests.hold(held.request(), 20.0)).waited_s == 0.0


@pytest.mark.usefixtures("full")
async def test_nobody_is_held_by_who_is_about_to_end(place, monkeypatch):
    monkeypatch.setattr("router.app.deferral.planning.shared_out", lambda kinds, found, most: [])
    async with holding(place) as held, asyncio.TaskGroup() as group:
        waiting = group.create_task(held.requests.hold(held.request(), 600.0))
        await asyncio.sleep(0)
        held.requests.stop()
        assert (await waiting).was_held
        assert not (await held.requests.hold(held.request(), 600.0)).was_held
