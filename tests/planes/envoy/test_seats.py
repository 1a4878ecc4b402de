import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import EnvoyPlaneError
from router.planes.envoy.seats import LINGER_S, NO_SEAT, EnvoyHost, Seats

REST_S = 100.0


def place(name, address=""):
    return EnvoyHost(name, "oip", address or f"10.0.0.1:{ord(name)}")


def idle(_):
    return 0


def test_an_endpoint_keeps_its_seat_and_another_address_is_another_place():
    seats = Seats(10, REST_S)
    seats.admit([place("a"), place("b")], 0.0)
    assert (seats.of(place("a")), seats.of(place("b"))) == (1, 2)
    seats.admit([place("b"), place("a", "10.0.0.2:1")], 1.0)
    assert (seats.of(place("b")), seats.of(place("a", "10.0.0.2:1"))) == (2, 3)
    assert seats.of(place("c")) == NO_SEAT


def test_who_left_has_a_seat_until_nothing_is_under_way():
    seats = Seats(10, REST_S)
    seats.admit([place("a"), place("b")], 0.0)
    seats.keep([place("b")], 0.0)
    assert not seats.retire(idle, LINGER_S - 0.1)
    assert not seats.retire(lambda seat: 1, LINGER_S)
    assert dict(seats) == {place("a"): 1, place("b"): 2}
    assert seats.retire(idle, LINGER_S) and dict(seats) == {place("b"): 2}


def test_who_comes_back_meanwhile_stays():
    seats = Seats(10, REST_S)
    seats.admit([place("a")], 0.0)
    seats.keep([], 0.0)
    seats.keep([place("a")], 1.0)
    assert not seats.retire(idle, 50.0) and seats.of(place("a")) == 1


def test_a_seat_is_another_ones_only_after_the_longest_request():
    seats = Seats(2, REST_S)
    seats.admit([place("a")], 0.0)
    seats.keep([], 0.0)
    seats.retire(idle, 10.0)
    with pytest.raises(EnvoyPlaneError, match="give theirs up after 100 s"):
        seats.admit([place("b")], 10.0 + REST_S - 1.0)
    assert dict(seats) == {}
    seats.admit([place("b")], 10.0 + REST_S)
    assert seats.of(place("b")) == 1


def test_the_next_process_goes_on_from_a_table():
    seats = Seats(10, REST_S)
    seats.restore([(2, place("b")), (4, place("d"))], 5, 7.0)
    seats.admit([place("d"), place("e")], 8.0)
    # Of 1 and 3 it is not known when they were left.
    assert seats.of(place("e")) == 5
    seats.keep([place("d"), place("e")], 8.0)
    seats.admit([place("f")], 7.0 + REST_S)
    assert seats.of(place("f")) == 1


@given(st.lists(st.sets(st.sampled_from("abcdef")), max_size=30), st.data())
def test_no_two_have_one_seat_and_none_changes_hands_while_it_is_used(changes, data):
    seats, now, used_s = Seats(200, REST_S), 0.0, {}
    for names in changes:
        now += data.draw(st.floats(0.1, 60.0))
        wanted = [place(one) for one in sorted(names)]
        seats.admit(wanted, now)
        seats.keep(wanted, now)
        busy = data.draw(st.sets(st.sampled_from("abcdef")))
        taken = dict(seats)
        assert len(set(taken.values())) == len(taken) and NO_SEAT not in taken.values()
        assert set(wanted) <= set(taken)
        for one, seat in taken.items():
            if seat in used_s and used_s[seat][0] != one:
                assert now - used_s[seat][1] >= REST_S
            used_s[seat] = (one, now)
        seats.retire(lambda seat, busy=busy, taken=taken: any(
            taken[place(one)] == seat for one in busy if place(one) in taken
        ), now)  # fmt: skip
