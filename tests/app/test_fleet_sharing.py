"""What a process shares with others, and that without a store nothing of it is missed."""

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from router.app.fleet_sharing import FleetSharing
from router.core.board import Board
from router.core.layout import Layout
from router.errors import StateStoreError
from router.peers.members import SeenMembers
from router.state.memory import MemoryStore
from router.state.watched import WatchedStore
from router.telemetry.fleet_loads import FleetLoadMetrics
from tests.app.test_fleet_loads import ALONE, Clock, Half
from tests.factories import endpoint, fleet, health_settings


def built(store, clock, name="one"):
    board = Board(Layout(fleet(endpoint("a", max_in_flight=4))), health_settings(), 0.0)
    runtime = SimpleNamespace(clock=clock, board=board, notes=[], gateways=None, config=ALONE)
    metrics = SimpleNamespace(
        fleet_loads=FleetLoadMetrics(CollectorRegistry()),
        receipts_shared=lambda outcome, receipts: None,
        carbon=None,
    )
    members = SeenMembers()
    return FleetSharing(store, name, name, runtime, Half(), metrics, members), members


async def test_without_a_store_nothing_is_shared_and_nothing_waits():
    sharing, members = built(None, Clock())
    dispatcher = SimpleNamespace(places=None, store_fails=lambda: False)
    sharing.join(dispatcher)
    await sharing.stand()
    sharing.drain()
    await sharing.leave()
    await sharing.close()
    assert (sharing.work(), sharing.receipts, dispatcher.places) == ({}, None, None)
    assert members.count == 1


async def test_with_one_places_receipts_and_readings_are():
    clock = Clock()
    store = WatchedStore(MemoryStore(), clock, "one")
    sharing, members = built(store, clock)
    dispatcher = SimpleNamespace(places=None, store_fails=lambda: False)
    sharing.join(dispatcher)
    jobs = {"state_store", "fleet", "carbon_leases", "receipts", "fleet_loads"}
    assert sharing.work().keys() == jobs
    assert dispatcher.places is not None
    other, _ = built(store, clock, "two")
    await other._loads._exchange()
    await sharing._loads._exchange()
    assert members.count == 2
    sharing.drain()
    await sharing.leave()
    await sharing.close()


async def test_a_decision_says_that_the_store_fails_once_it_does():
    class Gone(MemoryStore):
        async def get(self, key, now):
            raise StateStoreError("gone")

    clock = Clock()
    store = WatchedStore(Gone(), clock, "one")
    sharing, _ = built(store, clock)
    dispatcher = SimpleNamespace(places=None, store_fails=lambda: False)
    sharing.join(dispatcher)
    assert not dispatcher.store_fails()
    for _ in range(2):
        with pytest.raises(StateStoreError):
            await store.get("a", 0.0)
        clock.at += 1.0
    assert dispatcher.store_fails()
