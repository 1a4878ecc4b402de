"""Parts of limits as arithmetic: who is due what, and that nobody's claim is raised too far."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.limit_parts import (
    AT_ONCE,
    KINDS,
    LIMIT_ENTRY,
    NO_OTHERS,
    LimitSharers,
    OthersClaims,
    confirm_parts,
    evens,
    floors,
    plan_parts,
    rooms,
    unclaimed,
)

KEYS = np.array([7], np.uint64)


def of_others(*rows):
    """(process, demand, claim) of one principal each."""
    entries = np.zeros(len(rows), LIMIT_ENTRY)
    entries["key"] = KEYS[0]
    for i, (_, demand, claim) in enumerate(rows):
        entries["demand"][i], entries["claim"][i] = demand, claim
    return OthersClaims(entries, np.array([process for process, _, _ in rows], np.uint64))


@pytest.mark.parametrize("most", [0.0, 1.0, 3.0, 8.0, 64.0, 1000.0])
@pytest.mark.parametrize(("processes", "silent"), [(1, 0), (2, 0), (4, 1), (9, 8)])
def test_floors_even_parts_and_the_room_are_the_limit_together(most, processes, silent):
    sharers = LimitSharers(processes, silent)
    of = np.array([most])
    floor, even, room = floors(of, sharers), evens(of, processes), rooms(of, sharers)
    together = (processes - silent) * floor + silent * even + room
    assert together[0, :AT_ONCE] == pytest.approx(1.0)
    if most >= processes:
        assert together[0, AT_ONCE] == most
    # Places that are fewer than processes: nobody who tells is left without one to ask for.
    assert room[0, AT_ONCE] >= min(most, 1.0)


def slow_dues(demands, room):
    """Places by process: all that are whole, then one each by what is left, then by process."""
    total = sum(demands.values())
    quotas = {process: room * demand / total for process, demand in demands.items()}
    places = {process: int(quota) for process, quota in quotas.items()}
    order = sorted(quotas, key=lambda p: (-(quotas[p] - places[p]), p))
    for process in order[: round(room - sum(places.values()))]:
        places[process] += 1
    return places


DEMANDS = st.dictionaries(st.integers(1, 9), st.integers(1, 64), min_size=1, max_size=6)


@given(DEMANDS, st.sampled_from((1, 2, 4, 8, 64)))
def test_all_of_a_room_is_given_by_demand(demands, room):
    rooms_of = np.full((1, KINDS), float(room))
    dues = {}
    for process, demand in demands.items():
        others = of_others(*((p, d, 0.0) for p, d in demands.items() if p != process))
        own = np.full((1, KINDS), float(demand))
        (dues[process],) = others.dues(process, KEYS, own, rooms_of)
    total = sum(demands.values())
    for process, demand in demands.items():
        assert dues[process][0] == pytest.approx(room * demand / total)
    assert sum(due[AT_ONCE] for due in dues.values()) == room
    assert {p: due[AT_ONCE] for p, due in dues.items()} == slow_dues(demands, room)


def test_others_that_tell_nothing_of_a_principal_have_no_part_in_it():
    assert NO_OTHERS.dues(1, KEYS, np.zeros((1, KINDS)), np.ones((1, KINDS))).tolist() == [
        [1.0] * 3
    ]
    others = of_others((1, 0.5, (0.25, 0.5, 3.0)), (2, 0.5, (0.25, 0.0, 1.0)))
    assert others.claims(np.array([1, 7, 9], np.uint64)).tolist() == [
        [0.0, 0.0, 0.0], [0.5, 0.5, 4.0], [0.0, 0.0, 0.0],
    ]  # fmt: skip
    assert others.lists(np.array([1, 7], np.uint64)).tolist() == [False, True]
    nobody = np.empty(0, np.uint64)
    none = np.zeros((0, KINDS))
    assert others.dues(1, nobody, none, none).shape == (0, KINDS)


def test_what_nobody_claims_is_an_even_part_at_most():
    most, two = np.array([8.0]), LimitSharers(2)
    given_by = (evens(most, 2), floors(most, two), rooms(most, two))
    assert unclaimed(*given_by, np.zeros((1, 3))).tolist() == [[0.4375, 0.4375, 3.0]]
    assert unclaimed(*given_by, np.array([[0.75, 0.875, 4.0]])).tolist() == [[0.125, 0.0, 2.0]]


def test_a_share_that_is_nearly_right_stays_and_places_in_use_are_still_claimed():
    confirmed, due = np.array([[0.5, 0.5, 6.0]]), np.array([[0.495, 0.25, 2.0]])
    kept, written = plan_parts(confirmed, due, np.array([5.0]))
    assert kept.tolist() == [[0.5, 0.25, 2.0]]
    assert written == pytest.approx(np.array([[0.5, 0.25, 5.0]]))


# Who makes a round, what it takes for its due, and whether the answer is lost.
ROUNDS = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0.0, 1.0), st.integers(0, 8), st.booleans()),
    max_size=60,
)


@given(ROUNDS)
def test_claims_together_never_exceed_the_room_whatever_each_takes_for_its_due(rounds):
    room = np.array([[0.875, 0.875, 8.0]])
    confirmed = [np.zeros((1, KINDS)) for _ in range(4)]
    rows = [np.zeros((1, KINDS)) for _ in range(4)]
    for i, share, places, is_lost in rounds:
        due = np.array([[share, 1.0 - share, float(places)]])
        confirmed[i], rows[i] = plan_parts(confirmed[i], due, np.zeros(1))
        if not is_lost:
            claims = sum(row for j, row in enumerate(rows) if j != i)
            shown = np.ones(1, bool)
            confirmed[i] = confirm_parts(confirmed[i], rows[i], room, claims, shown)
        assert (confirmed[i] <= rows[i]).all()
        assert (sum(confirmed) <= room + 1e-9).all()
