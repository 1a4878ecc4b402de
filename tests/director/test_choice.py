from functools import partial

import pytest

from router.director.choice import BUDGET_MISSED, first_choice, next_choice
from router.errors import NothingFeasibleError, RefusedError, ShedError, UnknownModelError
from router.model import UNLIMITED, Budget
from tests.director.support import LADDER, Room, leaf
from tests.factories import Dice, endpoint, fleet, forecasts, request, served


@pytest.fixture
def room():
    return Room()


def first(room, **changes):
    """Name of the endpoint that the request goes to first."""
    asked = request(**changes)
    dispatcher = room.dispatcher
    decided = first_choice(dispatcher, dispatcher.view, asked, dispatcher.expect(asked))
    return decided.decision.endpoint.name


def following(room, tried, error="fault", spent_ms=0.0, **changes):
    """The decision after ``tried``, the last of which failed."""
    asked = request(**changes)
    dispatcher = room.dispatcher
    expected = dispatcher.expect(asked)
    try:
        return next_choice(
            dispatcher, asked, expected, tuple(tried), leaf(error), spent_ms
        ).decision
    except RefusedError:
        return None


def name_of(decision):
    return None if decision is None else decision.endpoint.name


def dead(room, *names):
    for name in names:
        room.seat(name).health.refuse(room.clock.monotonic())
        room.seat(name).publish_load()


def avoid(room, *names, caller="acme", seconds=60.0):
    for name in names:
        until = room.clock.monotonic() + seconds
        room.board.avoidance.add("llama", caller, name, until)


def place(room, name, begun):
    """A sequence ``s`` on an endpoint."""
    asked = request(sequence_id="s", sequence_start=True)
    room.dispatcher.sequences.place(asked, name)
    if begun:
        room.dispatcher.sequences.answered(asked, name)


# First


def test_least_grams_first(room):
    assert first(room) == "a"


def test_a_caller_goes_round_what_fails_it_and_others_do_not(room):
    avoid(room, "a")
    assert first(room, tenant="acme") == "b"
    assert first(room, tenant="other") == "a"


def test_a_caller_whom_all_fail_goes_round_none(room):
    avoid(room, "a", "b", "c")
    assert first(room, tenant="acme") == "a"


def test_what_is_avoided_is_better_than_what_is_dead(room):
    avoid(room, "b")
    dead(room, "a", "c")
    assert first(room, tenant="acme") == "b"


def test_one_that_goes_round_a_server_is_no_free_choice_and_teaches_nothing(room):
    asked, dispatcher = request(tenant="acme"), room.dispatcher
    dispatcher.parts = dispatcher.parts._replace(rng=Dice(0.0))
    choose = partial(first_choice, dispatcher, dispatcher.view, asked, dispatcher.expect(asked))
    assert choose().need is not None
    avoid(room, "a", "b", "c")
    assert choose().need is None


def test_avoidance_ends_with_its_time(room):
    avoid(room, "a", seconds=10.0)
    room.clock.advance(10.0)
    assert first(room, tenant="acme") == "a"


def test_a_dead_fleet_is_told_so(room):
    dead(room, "a", "b", "c")
    with pytest.raises(NothingFeasibleError):
        first(room)


def test_a_sequence_stays_where_its_state_is(room):
    place(room, "c", begun=True)
    assert first(room, sequence_id="s") == "c"
    assert first(room, sequence_id="s", sequence_start=True) == "a"


def test_a_sequence_stays_where_its_state_is_though_its_caller_avoids_that(room):
    place(room, "c", begun=True)
    avoid(room, "c")
    assert first(room, sequence_id="s", tenant="acme") == "c"


def test_a_begun_sequence_ends_with_its_endpoint_and_may_begin_anew(room):
    place(room, "c", begun=True)
    dead(room, "c")
    with pytest.raises(NothingFeasibleError, match="holds sequence 's' is out"):
        first(room, sequence_id="s")
    assert first(room, sequence_id="s") == "a"


def test_one_that_has_not_begun_moves_at_once(room):
    place(room, "c", begun=False)
    dead(room, "c")
    assert first(room, sequence_id="s") == "a"


def test_one_moves_too_when_its_endpoint_lost_that_model_alone():
    made = [endpoint(name, name, served(), served(name="image")) for name in "ab"]
    room = Room(the_fleet=fleet(*made), carbon=forecasts(a=100, b=200))
    place(room, "a", begun=False)
    room.seat("a").outliers["llama", ""].ready = False
    room.seat("a").publish_load()
    assert first(room, sequence_id="s") == "b"


def test_a_busy_endpoint_keeps_its_sequence(room):
    place(room, "a", begun=True)
    room.board.rest(room.seat("a"), room.clock.monotonic(), 3.0)
    with pytest.raises(ShedError):
        first(room, sequence_id="s")
    room.clock.advance(4.0)
    room.board.tick(room.clock.monotonic())
    assert first(room, sequence_id="s") == "a"


def test_a_sequence_whose_endpoint_left_the_fleet_begins_anew(room):
    place(room, "gone", begun=True)
    with pytest.raises(NothingFeasibleError, match="begin the sequence anew"):
        first(room, sequence_id="s")
    assert first(room, sequence_id="s") == "a"


# Next


def test_the_next_is_the_best_of_the_rest(room):
    assert name_of(following(room, "a")) == "b"
    assert name_of(following(room, "b")) == "a"


def test_nowhere_is_none(room):
    assert following(room, "abc") is None
    dead(room, "b", "c")
    assert following(room, "a") is None


def test_a_model_that_a_reload_took_away_is_nowhere(room):
    view = room.dispatcher.view
    expected = room.dispatcher.expect(request())
    with pytest.raises(UnknownModelError):
        view.snapshot.layout.find("gone", "")
    gone = request(model="gone")
    with pytest.raises(UnknownModelError):
        next_choice(room.dispatcher, gone, expected, ("a",), leaf("fault"), 0.0)


def test_the_next_is_not_one_that_the_caller_avoids_while_another_is_there(room):
    avoid(room, "b")
    assert name_of(following(room, "a", tenant="acme")) == "c"
    dead(room, "c")
    assert name_of(following(room, "a", tenant="acme")) == "b"


def twins():
    """Three endpoints in the greenest region, one in each other."""
    names = {"a1": "near", "a2": "near", "a3": "near", "b": "mid", "c": "far"}
    made = [endpoint(name, where) for name, where in names.items()]
    rtt_ms = {"home": {"near": 10.0, "mid": 20.0, "far": 30.0}}
    return Room(the_fleet=fleet(*made, rtt_ms=rtt_ms), carbon=LADDER)


def test_after_one_failure_the_same_region_is_as_good_as_any():
    assert name_of(following(twins(), ["a1"])) == "a2"


@pytest.mark.parametrize("blame", ["internal", "denied", "rejected"])
def test_after_one_that_blames_the_request_another_region_is_asked(blame):
    room = twins()
    assert name_of(following(room, ["a1"], blame)) == "b"
    dead(room, "b", "c")
    assert name_of(following(room, ["a1"], blame)) == "a2"


def test_a_region_whose_servers_are_all_avoided_is_no_other_region():
    room = twins()
    avoid(room, "b", "c")
    assert name_of(following(room, ["a1"], "internal", tenant="acme")) == "a2"


def test_after_two_in_one_region_another_is_asked():
    room = twins()
    assert name_of(following(room, ["a1", "a2"])) == "b"
    dead(room, "b", "c")
    assert name_of(following(room, ["a1", "a2"])) == "a3"


def test_a_closed_connection_is_opened_anew_where_nobody_else_is(room):
    dead(room, "b", "c")
    assert name_of(following(room, "a", "unseen")) == "a"
    assert name_of(following(room, "a", "lost")) == "a"
    assert following(room, "a", "refused") is None
    assert following(room, "a", "fault") is None


def test_a_closed_connection_is_opened_anew_once(room):
    dead(room, "b", "c")
    assert following(room, ["a", "a"], "unseen") is None


def test_a_closed_connection_moves_on_where_others_are(room):
    assert name_of(following(room, "a", "unseen")) == "b"


def budget(**changes):
    return Budget(**{"ttft_ms": UNLIMITED, "tpot_ms": UNLIMITED, "e2e_ms": UNLIMITED, **changes})


def test_the_next_fits_what_is_left_of_the_budget():
    """``c`` is nearest and dirtiest: after 25 of 60 ms nobody else is in time."""
    names = {"a": "near", "b": "mid", "c": "far"}
    rtt_ms = {"home": {"near": 10.0, "mid": 40.0, "far": 1.0}}
    the_fleet = fleet(*[endpoint(n, r) for n, r in names.items()], rtt_ms=rtt_ms)
    room = Room(the_fleet=the_fleet, carbon=forecasts(near=100, mid=200, far=300))
    wanted = budget(ttft_ms=90.0)
    assert name_of(following(room, "a", budget=wanted)) == "b"
    late = following(room, "a", spent_ms=35.0, budget=wanted)
    assert (late.endpoint.name, BUDGET_MISSED in late.flags) == ("c", False)


def test_a_late_answer_is_better_than_none_and_says_so(room):
    late = following(room, "a", spent_ms=1e6, budget=budget(e2e_ms=10_000.0))
    assert (late.endpoint.name, BUDGET_MISSED in late.flags) == ("b", True)


def test_one_without_a_budget_is_never_late(room):
    assert BUDGET_MISSED not in following(room, "a", spent_ms=1e9).flags


def test_residency_holds_at_every_attempt():
    made = [endpoint("a", "near", served()), endpoint("b", "mid", served())]
    room = Room(the_fleet=fleet(*made), carbon=forecasts(near=100, mid=200))
    assert following(room, "a", residency=frozenset({"eu"}), spent_ms=1e9) is None
