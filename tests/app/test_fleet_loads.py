"""Exchanges of processes that share a store, on one in memory, and what is told of them."""

import asyncio
import math
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from router.app.fleet_loads import ROOM, FleetLoads, GatewayPlaces, share_loads
from router.config.settings import StateSettings
from router.core.board import Board
from router.core.layout import Layout
from router.core.lease import Lease
from router.errors import StateStoreError
from router.model import UNBURDENED
from router.peers.exchange_pace import LEAST_TTL_S
from router.peers.gateway_rows import Defect, decode
from router.peers.gateways import GatewayLoads, PlaceStanding
from router.state.memory import MemoryStore
from router.telemetry import fleet_loads as telemetry
from router.telemetry.fleet_loads import FleetLoadMetrics
from tests.factories import endpoint, fleet, health_settings

# A configuration that names no Redis.
ALONE = SimpleNamespace(settings=SimpleNamespace(state=StateSettings()))


class Clock:
    def __init__(self):
        self.at = 100.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.at


class Broken:
    """A store that fails while ``broken``."""

    def __init__(self):
        self.store, self.broken = MemoryStore(), False

    async def exchange(self, *given):
        if self.broken:
            raise StateStoreError("gone")
        return await self.store.exchange(*given)

    async def leave(self, *given):
        if self.broken:
            raise StateStoreError("gone")
        await self.store.leave(*given)


class Half:
    def random(self):
        return 0.5


class Place:
    def __init__(self, store, clock, name):
        board = Board(Layout(fleet(endpoint("a", max_in_flight=4))), health_settings(), 0.0)
        self.runtime = SimpleNamespace(
            clock=clock, board=board, notes=[], gateways=None, config=ALONE
        )
        self.registry = CollectorRegistry()
        metrics = FleetLoadMetrics(self.registry)
        self.loads = share_loads(store, name, name, self.runtime, Half(), metrics)
        self.dispatcher = SimpleNamespace(places=None)
        self.loads.join(self.dispatcher)

    def value(self, name, **labels):
        return self.registry.get_sample_value(f"carbon_router_{name}", labels)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store():
    return Broken()


async def rounds(clock, *places, seconds=2.0):
    end = clock.at + seconds
    while clock.at < end:
        clock.at += 0.1
        for place in places:
            await place.loads._exchange()


@pytest.fixture
async def two(store, clock):
    made = Place(store, clock, "one"), Place(store, clock, "two")
    await rounds(clock, *made)
    return made


async def test_processes_find_each_other_and_share_places(two):
    for place in two:
        assert place.loads.gateways.standing is PlaceStanding.SHARED
        assert place.loads.gateways.members == 2
        assert place.runtime.gateways is place.loads.gateways
        assert place.loads.notes() == ()


async def test_a_request_of_one_is_seen_by_the_other(two, clock):
    one, two_ = two
    assert one.dispatcher.places.claim("a", 4)
    Lease(one.runtime.board.seats["a"], UNBURDENED)
    await rounds(clock, *two, seconds=0.3)
    assert two_.runtime.board.seats["a"].peers == 1


async def test_without_the_store_it_says_so_and_shares_again_by_itself(two, store, clock):
    store.broken = True
    await rounds(clock, *two)
    (note,) = two[0].runtime.notes[0]()
    assert note.reason == "gateways_unseen"
    assert not note.blocking
    assert "1/2" in note.detail
    store.broken = False
    await rounds(clock, *two)
    assert two[0].loads.notes() == ()


async def test_of_rows_that_are_large_the_next_lives_longer_and_comes_later(two, store, clock):
    pace = await two[0].loads._exchange()
    assert pace.ttl_s == LEAST_TTL_S
    await store.exchange(ROOM, "x", bytes(2**23), 60.0, clock.now())
    pace = await two[0].loads._exchange()
    assert (pace.gap_s, pace.ttl_s) == (0.25, pytest.approx(8.0, rel=0.01))
    two[0].loads.gateways.ttl_s = pace.ttl_s
    pace = await two[0].loads._exchange()
    assert pace.gap_s == pytest.approx(2.0, rel=0.01)
    # Others may count on it for as long.
    message = two[0].loads.gateways.message(clock.at)
    assert decode(message.row).head.ttl_ms == pytest.approx(8000, rel=0.01)


async def test_a_store_that_comes_back_empty_makes_nobody_think_itself_alone(two, store, clock):
    store.broken = True
    await rounds(clock, *two)
    store.broken = False
    await store.leave(ROOM, two[1].loads._members[-1])
    await rounds(clock, two[0], seconds=20.0)
    assert two[0].loads.gateways.members == 1
    assert two[0].loads.gateways.seen.count == 2


async def test_who_leaves_takes_its_row_along(two, store, clock):
    one, other = two
    await one.loads.leave()
    await rounds(clock, other, seconds=0.1)
    assert other.loads.gateways.members == 1
    # What is divided among all goes by more for a while: it may be back.
    assert other.loads.gateways.seen.count == 2
    await rounds(clock, other, seconds=31.0)
    assert other.loads.gateways.seen.count == 1
    store.broken = True
    await other.loads.leave()


async def test_it_stands_once_places_are_shared(store, clock):
    place = Place(store, clock, "one")
    await place.loads.stand(0.0)
    assert not place.loads._stands.is_set()
    await rounds(clock, place)
    await place.loads.stand(math.inf)


async def test_who_joins_stands_once_the_others_have_left_it_a_place(two, store, clock):
    """Two that were there before claim every place."""
    assert sum(place.loads.gateways.claimed for place in two) == 4
    late = Place(store, clock, "late")
    await rounds(clock, late, seconds=0.5)
    assert late.loads.gateways.standing is PlaceStanding.SHARED
    assert late.loads.gateways.claimed == 0
    assert not late.loads._stands.is_set()
    await rounds(clock, *two, late, seconds=0.5)
    await late.loads.stand(math.inf)
    assert late.loads.gateways.claimed == 1


async def test_who_joins_where_no_place_is_left_stands_all_the_same(two, store, clock):
    for place in two:
        (seat,) = place.runtime.board.seats.values()
        for _ in range(2):
            Lease(seat, UNBURDENED)
    await rounds(clock, *two, seconds=0.5)
    late = Place(store, clock, "late")
    await rounds(clock, *two, late, seconds=0.5)
    await late.loads.stand(math.inf)
    assert late.loads.gateways.claimed == 0


async def test_a_round_is_over_at_once_where_a_request_wants_more(two):
    one, _ = two
    one.loads._soon.set()
    await one.loads.run()
    assert one.value("gateway_processes") == 2.0
    assert one.value("place_sharing", standing="shared") == 1.0
    assert one.value("place_sharing", standing="alone") == 0.0
    assert one.value("claimed_places") == one.loads.gateways.claimed > 0


async def test_rows_that_cannot_be_used_are_counted(two, store, clock):
    await store.exchange(ROOM, "x", b"garbage", LEAST_TTL_S, clock.now())
    await two[0].loads._exchange()
    assert two[0].value("gateway_rows_ignored_total", defect="length") == 1.0
    (note,) = two[0].loads.notes()
    assert (note.reason, note.blocking) == ("gateway_rows_ignored", False)
    assert "1 for length" in note.detail
    await store.leave(ROOM, "x")
    await two[0].loads._exchange()
    assert not two[0].loads.notes()


async def test_what_others_hold_for_out_is_probed_before_its_turn(two, clock):
    one, other = two
    seat, theirs = one.runtime.board.seats["a"], other.runtime.board.seats["a"]
    seat.health.probe_begins(clock.at - 10.0)
    seat.health.probe_ends(clock.at - 10.0, "unknown", 0.5, 0.0)
    theirs.health.refuse(clock.at)
    theirs.publish_load()
    await rounds(clock, other, one, seconds=0.1)
    assert seat.health.is_there
    assert seat.health.probe_due(clock.at)


def test_without_a_store_there_is_nothing_to_share():
    assert share_loads(None, "one", "one", None, Half(), None) is None


def test_workers_and_gateways_both_have_a_say():
    class Workers:
        def __init__(self):
            self.asked = []

        def refresh(self, now, at_once=False):
            self.asked.append((now, at_once))

        def claim(self, name, cap):
            self.asked.append((name, cap))
            return False

    workers = Workers()
    places = GatewayPlaces(GatewayLoads("one", "one", LEAST_TTL_S), workers)
    places.refresh(1.0, at_once=True)
    # An endpoint that no gateway knows is the workers' affair alone.
    assert not places.claim("b", 7)
    assert workers.asked == [(1.0, True), ("b", 7)]


def test_every_standing_and_defect_has_its_name_in_the_metrics():
    assert set(telemetry.STANDINGS) == set(PlaceStanding)
    assert set(telemetry.DEFECTS) == set(Defect)
    assert isinstance(FleetLoads, type)


async def test_a_store_that_hangs_is_known_to_fail_before_claims_lapse(clock):
    """Whatever the store allows itself: who has no claims and no word of the store has no place."""
    store = Hanging()
    place = Place(store, clock, "one")
    for _ in range(5):
        await place.loads.run()
        clock.at += LEAST_TTL_S / 2.0
    assert place.loads.gateways.standing is PlaceStanding.SHARED
    store.hangs = True
    clock.at += LEAST_TTL_S
    place.loads.gateways.ttl_s = 0.01
    await place.loads.run()
    assert place.loads.gateways.standing is PlaceStanding.ALONE


class Hanging(MemoryStore):
    """A store that has all the time in the world while ``hangs``."""

    hangs = False

    async def exchange(self, *given):
        if self.hangs:
            await asyncio.Event().wait()
        return await super().exchange(*given)
