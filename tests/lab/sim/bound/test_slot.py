import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.bound.demand import pools_of
from router.lab.sim.bound.slot import Terms, solve
from tests.lab.sim.bound.cases import fleet

pytest.importorskip("scipy")

POOLS = pools_of(fleet({"a": 1, "b": 1}, max_in_flight=16), "m")
# Two groups: one that may run at 16 anywhere, one whose budget allows 4, and that in b alone.
BATCHES = np.array([[16.0, 16.0], [0.0, 4.0]])
NOTHING = np.zeros((2, 3))
GROUPS = (np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]))
amounts = st.lists(st.floats(1.0, 1e4), min_size=6, max_size=6).map(
    lambda drawn: np.array(drawn).reshape(2, 3)
)
grids = st.lists(st.floats(1.0, 900.0), min_size=2, max_size=2).map(np.array)


def terms(capacity_s, g_per_kwh):
    return Terms.of(POOLS, BATCHES, np.array(capacity_s), g_per_kwh, g_per_kwh)


@given(amounts, grids)
@settings(deadline=None)
def test_with_room_for_all_everything_goes_where_it_costs_least(early, g_per_kwh):
    """Both pools are alike: the first group goes to the cleaner one, the second has no choice."""
    found = solve(terms([1e9, 1e9], g_per_kwh), early, NOTHING, 1.0)
    physics, pue, host = POOLS[0].physics, POOLS[0].pue, 1.3
    grams, joules = 0.0, 0.0
    for (requests, n_in, n_out), batch, g in (
        (early[0], 16.0, g_per_kwh.min()), (early[1], 4.0, g_per_kwh[1]),
    ):  # fmt: skip
        prefill_s = physics.prefill_base_s * requests + physics.prefill_s_per_token * n_in
        tokens_s = n_out * (physics.tpot_base_s / batch + physics.tpot_s_per_sequence)
        gpu_j = physics.base_w * (prefill_s / 16.0 + tokens_s) + physics.j_per_token * n_out
        joules += gpu_j * host * pue
        grams += gpu_j * host * pue / 3.6e6 * g
    assert found.grams == pytest.approx(grams)
    assert found.joules == pytest.approx(joules)
    assert found.unserved_s == 0.0


@given(amounts, grids, st.floats(0.01, 2.0), st.floats(0.01, 2.0))
@settings(max_examples=40, deadline=None)
def test_less_room_never_costs_less_and_never_holds_more_than_it_has(early, g_per_kwh, a, b):
    """``a``, ``b``: room in each pool, of what each group needs by itself."""
    free = solve(terms([1e9, 1e9], g_per_kwh), early, NOTHING, 1.0)
    apart = (solve(terms([1e9, 1e9], g_per_kwh), early * one, NOTHING, 1.0) for one in GROUPS)
    room_s = np.array([a, b]) * [float(one.seconds.sum()) for one in apart]
    found = solve(terms(room_s, g_per_kwh), early, NOTHING, 1.0)
    assert (found.seconds <= room_s * (1.0 + 1e-6)).all()
    if min(a, b) >= 1.0:
        assert found.unserved_s <= 1e-6 * room_s.sum()
    if b < 1.0:
        assert found.unserved_s >= (1.0 - b) / b * room_s[1] * (1.0 - 1e-6)
    if found.unserved_s <= 1e-9 * room_s.sum():
        assert found.grams >= free.grams * (1.0 - 1e-6)
        assert found.joules == pytest.approx(free.joules, rel=1e-6)


@given(amounts, grids)
@settings(deadline=None)
def test_what_may_end_later_takes_no_room(late, g_per_kwh):
    found = solve(terms([0.0, 0.0], g_per_kwh), NOTHING, late, 1.0)
    free = solve(terms([1e9, 1e9], g_per_kwh), late, NOTHING, 1.0)
    assert (found.grams, found.unserved_s) == (pytest.approx(free.grams), 0.0)


def test_groups_that_may_go_nowhere_are_left_out():
    batches = np.array([[0.0, 0.0], [4.0, 0.0]])
    none = np.zeros(2)
    assert Terms.of(POOLS, batches, none, none, none).possible.tolist() == [False, True]
