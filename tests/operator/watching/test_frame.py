import json

import pytest

from router.errors import DataError
from router.operator.watching.connection import FeedEvent
from router.operator.watching.frame import FeedState, glance_document
from tests.fakes.console_feed import fleet, grid, tick


def state(**documents):
    made = FeedState()
    for name, document in documents.items():
        made.take(FeedEvent(name, json.dumps(document).encode()))
    return made


def test_regions_are_those_of_the_fleet_the_cleanest_first():
    glance = state(fleet=fleet(), grid=grid(), tick=tick()).glance()
    assert [one.name for one in glance.regions] == ["south", "north"]
    north = glance.regions[1]
    assert (north.endpoints, north.healthy, north.awake, north.in_flight) == (2, 1, 1, 3)
    assert (north.requests_per_s, north.gco2e_g_per_s) == (12.0, 0.5)
    assert glance.regions[0].requests_per_s == 0.0
    assert len(north.ahead) == 24


def test_what_is_not_known_is_none_and_never_0():
    glance = state(fleet=fleet(), tick=tick(rates=False)).glance()
    assert {one.intensity for one in glance.regions} == {None}
    assert {one.requests_per_s for one in glance.regions} == {None}
    document = glance_document(glance)
    assert document["rates"] is None
    assert document["regions"][0]["intensity"] is None
    assert "endpoints" not in document


def test_before_its_first_tick_there_is_nothing():
    assert state().glance() is None
    assert state(fleet=fleet()).glance() is None
    assert state(tick=tick()).glance() is None


def test_a_tick_of_another_fleet_breaks_nothing():
    glance = state(fleet=fleet(("a",)), grid=grid(), tick=tick(("x", "y", "z"))).glance()
    assert [one.name for one in glance.regions] == ["a"]
    assert state(fleet=fleet(), tick=tick(endpoints=[])).glance().regions[0].endpoints == 0


def test_garbage_leaves_what_was_there():
    made = state(fleet=fleet(), tick=tick())
    before = made.tick
    with pytest.raises(DataError):
        made.take(FeedEvent("tick", b"{}"))
    assert made.tick is before
    assert not made.take(FeedEvent("of later versions", b"{"))
