"""How many replicas a region should have."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.scaling import MOST_REPLICAS, RegionLoad, wanted_replicas


def load(busy=0.0, replicas=1, per_replica=10.0, grams=1.0, shunned=False):
    return RegionLoad(busy, replicas, per_replica, grams, shunned)


def wanted(**loads):
    return {name: wanted_replicas(name, loads) for name in loads}


def test_what_nobody_uses_is_released_but_for_one_where_it_is_cleanest():
    assert wanted(clean=load(replicas=4), dirty=load(replicas=4, grams=5.0)) == {
        "clean": 1, "dirty": 0,
    }  # fmt: skip


def test_where_nobody_serves_the_next_cleanest_are_asked_as_well():
    fleet = {name: load(replicas=0, grams=place) for place, name in enumerate("abcde", 1)}
    # So many at most: that nobody serves may be but for a moment.
    assert wanted(**fleet) == {"a": 1, "b": 1, "c": 1, "d": 0, "e": 0}
    # Who serves stays until a cleaner one does.
    assert wanted(**{**fleet, "b": load(grams=2.0)}) == {"a": 1, "b": 1, "c": 0, "d": 0, "e": 0}
    assert wanted(**{**fleet, "a": load()}) == {"a": 1, "b": 0, "c": 0, "d": 0, "e": 0}


def test_there_is_room_beyond_what_runs():
    assert wanted(clean=load(busy=40.0, replicas=4, per_replica=10.0)) == {"clean": 5}
    assert wanted(clean=load(busy=8.0, replicas=2)) == {"clean": 1}


def test_a_full_region_gets_what_dirtier_ones_serve_and_they_keep_it_until_it_has_moved():
    found = wanted(clean=load(busy=20.0, replicas=2), dirty=load(busy=16.0, replicas=3, grams=5.0))
    # One of these three for what the clean region has no replica for until it has five.
    assert found == {"clean": 5, "dirty": 3}


def test_what_a_region_has_no_more_replicas_for_is_wanted_in_the_next_cleanest():
    """All three are awake and hold more than they are meant to; a quarter more is to find room."""
    clean = load(busy=48.0, replicas=3)._replace(known=3)
    nearer = load(replicas=0, grams=2.0)._replace(known=2)
    # One look more than doubles nothing.
    asleep = wanted(clean=clean, next=nearer, last=nearer._replace(g_per_output=3.0))
    assert asleep == {"clean": 6, "next": 1, "last": 0}
    awake = nearer._replace(replicas=1)
    assert wanted(clean=clean, next=awake)["next"] == 2
    # What the next one has not either goes on.
    full = load(busy=20.0, replicas=2, grams=2.0)._replace(known=2)
    assert wanted(clean=clean, next=full, last=nearer._replace(g_per_output=3.0))["last"] == 1
    # Where there are replicas to wake, they are waited for.
    more = clean._replace(known=6)
    assert wanted(clean=more, next=nearer) == {"clean": 6, "next": 0}


def test_where_there_is_room_dirtier_ones_serve_for_a_reason():
    found = wanted(clean=load(busy=4.0, replicas=2), dirty=load(busy=16.0, replicas=3, grams=5.0))
    assert found == {"clean": 1, "dirty": 2}


def test_a_region_without_replicas_is_tried_unless_it_was_shunned():
    for shunned, expected in ((False, 1), (True, 0)):
        found = wanted(
            cleaner=load(replicas=1, grams=0.5),
            clean=load(replicas=0, shunned=shunned),
            dirty=load(busy=16.0, replicas=3, grams=5.0),
        )
        assert found["clean"] == expected


@pytest.mark.parametrize("grams", [math.nan, 1.05])
def test_what_is_alike_or_unknown_is_not_dirtier(grams):
    found = wanted(a=load(busy=20.0, replicas=2), b=load(busy=50.0, replicas=5, grams=grams))
    assert found["a"] == 3


def test_work_that_waits_fills_what_is_kept_free_before_it_wants_another_replica():
    one = load(busy=6.0, replicas=1)._replace(known=3)
    assert wanted(here=one) == {"here": 1}
    assert wanted(here=one._replace(waiting=4.0)) == {"here": 1}
    assert wanted(here=one._replace(waiting=5.0)) == {"here": 2}
    # Where work that had waited ends, the next begins.
    deferred = one._replace(busy=8.0, deferred=5.0)
    assert wanted(here=deferred._replace(waiting=6.0)) == {"here": 1}
    assert wanted(here=deferred._replace(waiting=8.0)) == {"here": 2}
    # No more than there are, however much waits.
    assert wanted(here=one._replace(waiting=500.0)) == {"here": 3}


def test_work_that_waits_wakes_replicas_where_none_serves():
    asleep = load(replicas=0, grams=5.0)._replace(waiting=25.0, known=4)
    assert wanted(clean=load(), dirty=asleep) == {"clean": 1, "dirty": 3}


loads = st.builds(
    RegionLoad,
    st.floats(0.0, 1e9),
    st.integers(0, 10_000),
    st.floats(1e-3, 1e6),
    st.one_of(st.just(math.nan), st.floats(0.0, 1e6)),
    st.booleans(),
    st.floats(0.0, 1e9),
    st.integers(0, 20_000),
    st.floats(0.0, 1e9),
)


@given(st.dictionaries(st.sampled_from("abcde"), loads, min_size=1))
def test_a_hint_is_bounded_and_somebody_stays(regions):
    found = {name: wanted_replicas(name, regions) for name in regions}
    for name, count in found.items():
        most = max(2 * regions[name].replicas + 1, regions[name].known)
        assert 0 <= count <= min(MOST_REPLICAS, most)
    assert sum(found.values()) >= 1
