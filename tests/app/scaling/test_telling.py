"""Who tells hints, when, and what they say."""

import json

import pytest
from prometheus_client import CollectorRegistry

from router.app.leases import SoleLease
from router.app.scaling.looks import PEAK_S, Scaling
from router.app.scaling.telling import HintRounds, scaling_lease
from router.core.deferral.needs import PlaceNeed, WaitingNeeds
from router.core.usual_load import MOST_SITES, SLOTS, UsualSlot
from router.core.wake_times import WakeTimes
from router.errors import HintNotTakenError
from router.state.memory import MemoryStore
from router.state.usual_load import UsualLoadStore
from router.state.wake_times import WakeTimeStore
from router.telemetry.scaling import ScalingMetrics
from tests.director.support import Room
from tests.factories import HOUR, NOW, endpoint, fleet

EVERY_S = 60.0


class Taker:
    name = "webhook"

    def __init__(self):
        self.told = []
        self.trouble = ""

    async def tell(self, body):
        self.told.append(json.loads(body))
        if self.trouble:
            raise HintNotTakenError(self.trouble)


class Place:
    """A gateway over two replicas in each of two regions; ``near`` is cleaner."""

    def __init__(self, room=None, store=None, identity="gw", kept=None, lease=None):
        if room is None:
            servers = [endpoint(f"{place}{n}", place) for place in ("near", "far") for n in "01"]
            rtt_ms = {"home": {"near": 10.0, "far": 30.0}}
            room = Room({}, fleet(*servers, rtt_ms=rtt_ms))
        self.room = room
        self.waiting = WaitingNeeds()
        self.wakes = WakeTimes(120.0)

        def view():
            return room.dispatcher.view

        self.scaling = Scaling(view, room.clock, self.wakes, lambda: self.waiting)
        self.taker = Taker()
        self.registry = CollectorRegistry()
        self.lease = lease or scaling_lease(store, identity, room.clock)
        self.rounds = HintRounds(
            self.scaling, [self.taker], EVERY_S, view, WakeTimeStore(kept, store),
            UsualLoadStore(kept, store), self.lease,
            identity, room.clock, ScalingMetrics(self.registry),
        )  # fmt: skip

    async def look(self, seconds=0.0):
        for _ in range(int(seconds / 5.0)):
            self.scaling.look()
            self.room.clock.advance(5.0)
        self.scaling.look()
        await self.rounds.look()
        return self.taker.told[-1] if self.taker.told else None

    def count(self, outcome):
        labels = {"told": "webhook", "outcome": outcome}
        return self.registry.get_sample_value("carbon_router_scaling_hints_total", labels)


def regions(hints):
    return {one["region"]: one for one in hints["regions"]}


def wanted(hints):
    return [one["name"] for one in hints["endpoints"] if one["wanted"]]


async def test_who_has_just_begun_lets_nobody_go_and_later_all_but_one():
    place = Place()
    first = await place.look()
    assert wanted(first) == ["near0", "near1", "far0", "far1"]
    assert (first["format"], first["gateway"], first["term"]) == (1, "gw", 0)
    assert first["at"].endswith("Z")
    later = await place.look(PEAK_S)
    assert wanted(later) == ["near0"]
    near = regions(later)["near"]
    assert (near["ready"], near["wanted"], near["wake_s"], near["wake_measured"]) == (2, 1, 120, 0)
    assert len(near["hours"]) == 24 and near["hours"][0]["wanted"] == 1
    value = place.registry.get_sample_value
    labels = {"model": "llama", "region": "far"}
    assert value("carbon_router_scaling_replicas", {**labels, "state": "wanted"}) == 0.0
    assert value("carbon_router_scaling_wake_seconds", {**labels, "kind": "assumed"}) == 120.0


async def test_what_changes_is_told_at_once_and_what_does_not_now_and_then():
    place = Place()
    await place.look(PEAK_S)
    assert len(place.taker.told) == 1
    await place.look(30.0)
    assert len(place.taker.told) == 1
    await place.look(30.0)
    assert len(place.taker.told) == 2
    place.room.seat("near0").in_flight = 64
    assert wanted(await place.look(5.0)) == ["near0", "near1"]
    assert place.count("taken") == 3.0


async def test_who_stays_awake_is_who_serves_and_was_wanted_before():
    place = Place()
    await place.look(PEAK_S)
    place.room.out("near0")
    assert wanted(await place.look(5.0)) == ["near1"]
    place.room.seat("near0").health.readmit(place.room.clock.monotonic())
    await place.look(EVERY_S)
    assert wanted(place.taker.told[-1]) == ["near1"]


async def test_what_is_not_taken_is_told_again_and_readiness_says_so():
    place = Place()
    place.taker.trouble = "HTTP 503"
    await place.look(PEAK_S)
    (note,) = place.rounds.notes()
    assert note.reason == "scaling_hints_failing" and "HTTP 503" in note.detail
    assert not note.blocking
    await place.look(30.0)
    assert len(place.taker.told) == 2 and place.count("failed") == 2.0
    place.taker.trouble = ""
    await place.look(30.0)
    assert not place.rounds.notes() and place.count("taken") == 1.0


async def test_of_several_gateways_one_tells_and_another_when_it_has_gone():
    store = MemoryStore()
    first = Place(store=store, identity="first")
    second = Place(first.room, store, "second")
    for _ in range(4):
        await first.look(5.0)
        second.scaling.look()
        await second.rounds.look()
    assert first.taker.told and not second.taker.told
    await first.rounds.close()
    first.room.clock.advance(10.0)
    hints = await second.look()
    assert hints["gateway"] == "second" and hints["term"] > first.taker.told[-1]["term"]


async def test_a_worker_that_does_not_speak_looks_and_tells_nothing():
    place = Place()
    place.rounds._lease = None
    assert await place.look(PEAK_S) is None
    assert not place.rounds.notes()
    await place.rounds.close()


async def test_how_long_replicas_take_is_measured_kept_and_taken_up(tmp_path):
    kept = tmp_path / "learned.json"
    place = Place(kept=kept)
    await place.look(PEAK_S)
    for name in ("near1", "far0", "far1"):
        place.room.out(name)
    await place.look(5.0)
    for _ in range(3):
        place.room.seat("near0").in_flight = 64
        await place.look(40.0)
        place.room.seat("near1").health.readmit(place.room.clock.monotonic())
        await place.look()
        place.room.seat("near0").in_flight = 0
        await place.look(PEAK_S)
        place.room.out("near1")
        await place.look(5.0)
    assert place.wakes.expected(("llama", "near")).measured == 3
    assert 35.0 <= place.wakes.expected(("llama", "near")).s <= 45.0
    again = Place(kept=kept)
    near = regions(await again.look())["near"]
    assert near["wake_measured"] == 3
    (tmp_path / "learned.json.wakes").write_bytes(b"{")
    broken = Place(kept=kept)
    assert regions(await broken.look())["near"]["wake_measured"] == 0


async def test_work_that_waits_is_asked_for_as_early_as_a_replica_takes():
    place = Place()
    for name in ("near1", "far0", "far1"):
        place.room.out(name)
    await place.look(PEAK_S)
    begins = NOW // HOUR * HOUR + HOUR
    # More than what one replica is kept free of, from the next hour on.
    needs = (PlaceNeed(begins, begins + 900.0, 70.0),)
    place.waiting = WaitingNeeds({("llama", "near"): needs}, {}, 0.5)
    await place.look(EVERY_S)
    near = regions(place.taker.told[-1])["near"]
    assert near["wanted"] == 1
    assert [one["wanted"] for one in near["hours"][:3]] == [1, 2, 1]
    left_s = begins - place.room.clock.now()
    await place.look(left_s - 130.0)
    assert regions(place.taker.told[-1])["near"]["wanted"] == 1
    hints = await place.look(15.0)
    assert regions(hints)["near"]["wanted"] == 2
    assert regions(hints)["near"]["waiting_places"] > 0.0


async def test_nothing_is_told_before_anybody_has_looked():
    place = Place(lease=SoleLease())
    await place.rounds.look()
    assert place.taker.told == []


def test_without_a_store_a_gateway_is_the_one():
    assert isinstance(scaling_lease(None, "gw", None), SoleLease)


@pytest.mark.parametrize("name", ["near", "far"])
async def test_replicas_that_are_released_may_be_reckoned_with_until_they_do_not_come(name):
    place = Place()
    await place.look(PEAK_S)
    assert place.scaling.asleep("llama", name) == 0
    place.room.out(f"{name}1")
    place.scaling.look()
    assert place.scaling.asleep("llama", name) == 1
    assert place.scaling.asleep("other", name) == 0
    now = place.room.clock.now()
    needs = (PlaceNeed(now, now + 7200.0, 200.0),)
    place.waiting = WaitingNeeds({("llama", name): needs}, {}, 1.0)
    place.room.out(f"{name}0")
    await place.look(650.0)
    assert place.scaling.asleep("llama", name) == 0


async def test_what_others_kept_of_sites_that_are_none_here_takes_no_room(tmp_path):
    """A document of as many sites as there may be, none of which this fleet has."""
    kept = tmp_path / "learned.json"
    strangers = [("gone", f"place{n}") for n in range(MOST_SITES)]
    usual = (UsualSlot(1e6, 7),) * SLOTS
    await UsualLoadStore(kept, None).write(
        {**dict.fromkeys(strangers, usual), ("llama", "near"): usual}, NOW
    )
    place = Place(kept=kept)
    await place.look()
    assert set(place.scaling.usual.taken()) == {("llama", "near")}
    # What runs here is learned for all that.
    await place.look(2 * HOUR)
    assert ("llama", "far") in place.scaling.usual.taken()
