import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from router.core.deferral.filling import fill_cheapest

FIGURE = st.floats(0.0, 100.0).map(lambda figure: round(figure, 2))


@st.composite
def cases(draw):
    slots = draw(st.integers(1, 5))
    count = draw(st.integers(1, 8))
    slot_of = np.sort(draw(arrays(np.int64, count, elements=st.integers(0, slots - 1))))
    capacity = draw(arrays(float, count, elements=FIGURE))
    price = draw(arrays(float, count, elements=FIGURE))
    # What may lie in slots from each on: the less, the later.
    room = np.sort(draw(arrays(float, slots, elements=FIGURE)))[::-1].copy()
    return slot_of, capacity, price, room


def filled(slot_of, capacity, price, room):
    taken = np.zeros(len(capacity))
    order = np.lexsort((slot_of, price))
    fill_cheapest(order, slot_of, capacity.copy(), room.copy(), taken)
    return taken


@settings(max_examples=40)
@given(cases())
def test_no_programme_lays_as_much_for_less(case):
    slot_of, capacity, price, room = case
    taken = filled(*case)
    assert (taken >= 0.0).all()
    assert (taken <= capacity + 1e-9).all()
    from_on = np.array([slot_of >= h for h in range(len(room))], float)
    assert (from_on @ taken <= room + 1e-9).all()
    bounds = list(zip(np.zeros_like(capacity), capacity, strict=True))
    most = -linprog(-np.ones_like(capacity), from_on, room, bounds=bounds).fun
    assert taken.sum() == pytest.approx(most, abs=1e-6)
    least = linprog(price, from_on, room, np.ones((1, len(capacity))), [taken.sum()], bounds=bounds)
    if least.success:
        assert taken @ price == pytest.approx(least.fun, abs=1e-4)


def test_what_is_used_goes_off_room_and_capacity():
    slot_of, capacity, room = np.array([0, 1]), np.array([5.0, 5.0]), np.array([7.0, 3.0])
    taken = np.zeros(2)
    fill_cheapest(np.array([1, 0]), slot_of, capacity, room, taken)
    assert taken.tolist() == [4.0, 3.0]
    assert capacity.tolist() == [1.0, 2.0]
    assert room.tolist() == [0.0, 0.0]
