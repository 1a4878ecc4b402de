import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.bound import slot
from router.lab.sim.bound.demand import AMOUNTS, pools_of
from router.lab.sim.bound.slot import AtLeast, Terms, solve
from tests.lab.sim.bound.cases import fleet, profile

pytest.importorskip("scipy")

ONE = profile(prefill_ms_per_piece=1.5, prefill_ms_per_token2=2e-4, tpot_ms_per_cached_token=3e-4)
POOLS = pools_of(fleet({"a": 1, "b": 1}, one=ONE, max_in_flight=16), "m")
# Two groups: one that may run at 16 anywhere, one whose budget allows 4, and that in b alone.
BATCHES = np.array([[16.0, 16.0], [0.0, 4.0]])
NOTHING = np.zeros((2, AMOUNTS))
GROUPS = (np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]))
amounts = st.lists(st.floats(1.0, 1e4), min_size=2 * AMOUNTS, max_size=2 * AMOUNTS).map(
    lambda drawn: np.array(drawn).reshape(2, AMOUNTS)
)
grids = st.lists(st.floats(1.0, 900.0), min_size=2, max_size=2).map(np.array)


def terms(capacity_s, g_per_kwh):
    return Terms.of(POOLS, BATCHES, np.array(capacity_s), g_per_kwh, g_per_kwh)


@given(amounts, grids)
@settings(deadline=None)
def test_with_room_for_all_everything_goes_where_it_costs_least(early, g_per_kwh):
    """Both pools are alike: the first group goes to the cleaner one, the second has no choice."""
    found = solve(terms([1e9, 1e9], g_per_kwh), early, NOTHING, 1.0)
    physics, pue = POOLS[0].physics, POOLS[0].pue
    grams, joules = 0.0, 0.0
    for (requests, n_in, n_in2, later, cached), batch, g in (
        (early[0], 16.0, g_per_kwh.min()), (early[1], 4.0, g_per_kwh[1]),
    ):  # fmt: skip
        prompts_s = physics.prefill_s_per_piece * requests + physics.prefill_s_per_token * n_in
        prompts_s += physics.prefill_s_per_token2 * n_in2
        tokens_s = later * (physics.tpot_base_s / batch + physics.tpot_s_per_sequence)
        tokens_s += cached * physics.tpot_s_per_cached_token
        it_j = physics.prefill_w * prompts_s + physics.base_w * tokens_s
        it_j += physics.j_per_token * (requests + later)
        joules += it_j * pue
        grams += it_j * pue / 3.6e6 * g
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


@given(amounts, grids, st.floats(0.5, 1.5), st.floats(0.5, 1.5))
@settings(max_examples=40, deadline=None)
def test_a_prompt_as_one_never_costs_less_than_in_parts(early, g_per_kwh, a, b):
    """Where all pools read prompts alike they are merged: less freedom, so a bound as true."""
    need_s = solve(terms([1e9, 1e9], g_per_kwh), early, NOTHING, 1.0).seconds.sum()
    room = terms(need_s * np.array([a, b]), g_per_kwh)
    whole = solve(room, early, NOTHING, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot, "_merged", lambda terms, joules, amounts: (
            joules, terms.seconds, amounts
        ))  # fmt: skip
        parts = solve(room, early, NOTHING, 1.0)
    if max(whole.unserved_s, parts.unserved_s) < 1e-9 * need_s:
        assert parts.grams <= whole.grams * (1.0 + 1e-6)
        assert whole.grams <= parts.grams * 1.1


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


@given(amounts, grids, st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.sampled_from([0.0, 1.0]))
@settings(max_examples=40, deadline=None)
def test_replicas_that_are_awake_anyway_cost_what_they_draw(early, g_per_kwh, a, both, awake_w):
    """``a``, ``both``: seconds awake in the first pool and in both, of those that all need."""
    room = terms([1e9, 1e9], g_per_kwh)
    free = solve(room, early, NOTHING, awake_w)
    need_s = float(free.seconds.sum())
    at_least = [
        AtLeast(np.array([True, False]), a * need_s),
        AtLeast(np.array([True, True]), both * need_s),
    ]
    found = solve(room, early, NOTHING, awake_w, at_least)
    assert found.grams >= free.grams * (1.0 - 1e-6)
    for one in at_least:
        assert found.seconds[one.pools].sum() >= one.awake_s - 1e-6 * need_s
    # Empty ones would do: where it costs least to be awake.
    watts = room.watts(awake_w)[0] * room.kwh_per_j[0]
    more_s = max(0.0, a * need_s)
    dearest = watts * (more_s * g_per_kwh[0] + max(0.0, both * need_s) * g_per_kwh.min())
    assert found.grams <= (free.grams + dearest) * (1.0 + 1e-6)
    assert found.unserved_s <= 1e-6 * need_s


def test_no_more_can_be_awake_than_there_is():
    both = [AtLeast(np.array([True, True]), 100.0)]
    early = np.array([[1.0, 100.0, 5000.0, 50.0, 50.0], [0.0] * AMOUNTS])
    found = solve(terms([30.0, 40.0], np.array([100.0, 200.0])), early, NOTHING, 1.0, both)
    assert found.seconds == pytest.approx([30.0, 40.0])
