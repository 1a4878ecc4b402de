import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.core.deferral.safety import ALONE_S, must_be_done
from router.core.deferral.slots import SLOT_S

FIGURE = st.floats(0.0, 100.0)


def by_hand(due, least):
    """As it is said, slot by slot."""
    slots = least.shape[1]
    whole = least.sum(axis=1)
    must = [0.0] * (slots + 1)
    for done in range(1, slots + 1):
        for end in range(done, slots + 1):
            worst = np.inf
            for region in range(len(least)):
                there = least[region, done:end]
                lost = there.sum()
                if whole[region] > 0.5 * whole.sum():
                    runs = int(np.ceil(ALONE_S / SLOT_S))
                    lost = max(
                        (there[at : at + runs].sum() for at in range(len(there))), default=0.0
                    )
                worst = min(worst, least[:, done:end].sum() - lost)
            must[done] = max(must[done], due[end] - worst)
        must[done] = max(must[done], must[done - 1])
    return must


@st.composite
def cases(draw):
    regions, slots = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    due = np.cumsum(draw(arrays(float, slots + 1, elements=FIGURE)))
    due[0] = 0.0
    return due, draw(arrays(float, (regions, slots), elements=FIGURE))


@given(cases())
def test_it_is_what_it_is_said_to_be(case):
    due, least = case
    assert np.allclose(must_be_done(due, least), by_hand(due, least))


@given(cases())
def test_work_is_done_when_it_is_due_and_less_room_never_lets_it_wait_longer(case):
    due, least = case
    must = must_be_done(due, least)
    assert (must[1:] >= due[1:] - 1e-9).all()
    assert (np.diff(must) >= 0.0).all()
    assert (must_be_done(due, least / 2.0) >= must - 1e-9).all()


def test_of_two_equal_regions_either_may_be_lost_for_good():
    due = np.array([0.0, 0.0, 0.0, 0.0, 30.0])
    least = np.full((2, 4), 10.0)
    assert must_be_done(due, least).tolist() == [0.0, 0.0, 10.0, 20.0, 30.0]


def test_alone_a_region_may_be_gone_for_a_quarter():
    due = np.array([0.0, 0.0, 0.0, 0.0, 20.0])
    assert must_be_done(due, np.full((1, 4), 10.0)).tolist() == [0.0, 0.0, 10.0, 20.0, 20.0]
