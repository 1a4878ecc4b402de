"""What runs where, over time."""

from dataclasses import replace

import pytest

from router.app.scaling.looks import PEAK_S, Scaling
from router.core.deferral.needs import WaitingNeeds
from router.core.usual_load import SLOTS, UsualSlot
from router.errors import MalformedRequestError, UnknownModelError
from router.model import Alias, Variant
from tests.director.support import Room
from tests.factories import endpoint, fleet, served

LOOK_S = 5.0


def stood():
    servers = [endpoint(f"{place}{n}", place) for place in ("near", "far") for n in range(2)]
    rtt_ms = {"home": {"near": 10.0, "far": 30.0}}
    room = Room({}, fleet(*servers, rtt_ms=rtt_ms))
    return room, Scaling(lambda: room.dispatcher.view, room.clock)


def busy(room, **counts):
    for name, count in counts.items():
        room.seat(name).in_flight = count


def looks(room, scaling, seconds):
    for _ in range(int(seconds / LOOK_S) + 1):
        scaling.look()
        room.clock.advance(LOOK_S)


def test_idle_replicas_go_when_the_peak_is_a_while_ago():
    room, scaling = stood()
    busy(room, near0=64, near1=64, far0=30)
    scaling.look()
    # Of near, which has no more than two, the room to grow is wanted in far.
    assert (scaling.wanted("near"), scaling.wanted("far")) == (4, 2)
    busy(room, near0=0, near1=0, far0=0)
    looks(room, scaling, PEAK_S / 2)
    assert (scaling.wanted("near"), scaling.wanted("far")) == (4, 2)
    looks(room, scaling, PEAK_S)
    # One stays where it is cleanest.
    assert (scaling.wanted("near"), scaling.wanted("far")) == (1, 0)


def test_a_region_that_is_passed_by_is_not_tried_for_ever():
    room, scaling = stood()
    busy(room, far0=64)
    looks(room, scaling, 2 * PEAK_S)
    assert scaling.wanted("near") == 1
    room.out("near0")
    room.out("near1")
    scaling.look()
    assert scaling.wanted("near") == 1
    room.clock.advance(7200.0)
    looks(room, scaling, LOOK_S)
    assert scaling.wanted("far") >= 2


def test_how_many_a_replica_takes_is_the_profiles_or_the_askers_word():
    room, scaling = stood()
    busy(room, near0=20)
    scaling.look()
    assert scaling.wanted("near") == 1
    assert scaling.wanted("near", "llama", 10.0) == 3


def test_a_model_that_a_reload_took_away_is_forgotten():
    before = Room(
        {}, fleet(endpoint("near0", "near"), endpoint("far0", "far", served(name="other")))
    )
    after = Room({}, fleet(endpoint("near0", "near"), endpoint("far0", "far")))
    in_force = [before]
    scaling = Scaling(lambda: in_force[0].dispatcher.view, before.clock)
    scaling.look()
    assert scaling.wanted("far", "other") == 1
    in_force[0] = after
    scaling.look()
    with pytest.raises(UnknownModelError):
        scaling.wanted("far", "other")
    # There is but one now, which need not be named.
    assert scaling.wanted("near") + scaling.wanted("far") == 1


def test_who_is_not_known_is_refused():
    _, scaling = stood()
    scaling.look()
    with pytest.raises(MalformedRequestError):
        scaling.wanted("mars")
    with pytest.raises(UnknownModelError):
        scaling.wanted("near", "nobody")


def usually(scaling, clock, later):
    """Nothing runs but in the hour after the present one, when ``later`` do by region."""
    next_hour = int(clock.now() // 3600.0 + 1) % 24
    for region in ("near", "far"):
        slots = [UsualSlot(0.0, 7)] * SLOTS
        for kind in (0, 24):
            slots[kind + next_hour] = UsualSlot(later.get(region, 0.0), 7)
        scaling.usual.take_up({("llama", region): slots})


def test_replicas_are_wanted_before_the_load_that_usually_comes():
    room, scaling = stood()
    usually(scaling, room.clock, {"near": 100.0})
    until_next = 3600.0 - room.clock.now() % 3600.0
    looks(room, scaling, PEAK_S)
    scaling.look()
    (near,) = [one for one in scaling.demands() if one.region == "near"]
    before = scaling.wanted("near")
    first, second, third = near.hours[:3]
    assert (first.is_usual, second.is_usual, third.is_usual) == (False, True, True)
    assert first.wanted < second.wanted and third.wanted <= first.wanted
    assert near.usual == 0.0
    # Nobody has measured how long a replica takes to wake: three minutes are assumed.
    room.clock.advance(until_next - PEAK_S - LOOK_S - 170.0)
    scaling.look()
    assert scaling.wanted("near") == second.wanted > before
    (near,) = [one for one in scaling.demands(with_hours=False) if one.region == "near"]
    assert near.usual == 100.0


def test_who_was_wanted_for_what_usually_comes_is_not_sent_away_within_minutes():
    room, scaling = stood()
    usually(scaling, room.clock, {"near": 100.0})
    room.clock.advance(7200.0 - room.clock.now() % 3600.0 - 185.0)
    scaling.look()
    wanted = scaling.wanted("near")
    assert wanted > 1
    # The hour in which it usually runs is as good as over, by when a replica would be there.
    looks(room, scaling, 60.0)
    assert scaling.wanted("near") == wanted
    looks(room, scaling, 2 * PEAK_S)
    assert scaling.wanted("near") < wanted


def test_where_nothing_is_known_of_a_day_the_present_peak_is_expected():
    room, scaling = stood()
    busy(room, near0=40)
    looks(room, scaling, LOOK_S)
    (near,) = [one for one in scaling.demands() if one.region == "near"]
    assert not any(hour.is_usual for hour in near.hours)
    assert near.usual != near.usual
    assert {hour.wanted for hour in near.hours} == {1}


def test_a_whole_hour_is_learned_and_said_so():
    room, scaling = stood()
    room.clock.advance(3600.0 - room.clock.now() % 3600.0)
    busy(room, near0=12)
    looks(room, scaling, 3600.0 - LOOK_S)
    scaling.taught = False
    scaling.look()
    assert scaling.taught
    hour = int(room.clock.now() // 3600.0 - 1) % 24
    learned = scaling.usual.taken()["llama", "near"]
    assert UsualSlot(12.0, 1) in (learned[hour], learned[24 + hour])


def test_what_had_waited_for_an_alias_is_not_what_usually_runs():
    """Of sixteen requests to its variants half are of a batch that asked for the alias."""
    servers = [endpoint(name, "near", served(name=name)) for name in ("small", "large")]
    alias = Alias("chat", (Variant("small", 0.4), Variant("large", 0.8)), "made up")
    room = Room({}, replace(fleet(*servers), aliases={"chat": alias}))
    needs = WaitingNeeds(under_way={"chat": 8})
    scaling = Scaling(lambda: room.dispatcher.view, room.clock, None, lambda: needs)
    busy(room, small=12, large=4)
    looks(room, scaling, 2 * 3600.0)
    taken = scaling.usual.taken()
    peaks = {model: {slot.places for slot in taken[model, "near"] if slot.days}
             for model in ("small", "large")}  # fmt: skip
    assert peaks == {"small": {6.0}, "large": {2.0}}
