import ctypes
import itertools
import os
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.bound import slot
from router.lab.sim.bound.demand import AMOUNTS, pools_of
from router.lab.sim.bound.integers import quiet_stdout, solve_moment
from router.lab.sim.bound.slot import Terms, solve
from tests.lab.sim.bound.cases import fleet, profile

pytest.importorskip("scipy")

ONE = profile(prefill_ms_per_piece=1.5, prefill_ms_per_token2=2e-4, tpot_ms_per_cached_token=3e-4)
POOLS = pools_of(fleet({"a": 1, "b": 1}, one=ONE, max_in_flight=16), "m")
# Two groups: one that may run at 16 anywhere, one whose budget allows 4, and that in b alone.
BATCHES = np.array([[16.0, 16.0], [0.0, 4.0]])
NOTHING = np.zeros((2, AMOUNTS))
few = st.just(0.0) | st.floats(0.01, 4.0)
rates = st.tuples(st.just(0.0) | st.floats(0.01, 10.0), few).map(
    # Requests a second of 500 tokens of prompt and 51 of answer.
    lambda drawn: np.outer(drawn, [1.0, 500.0, 125e3, 50.0, 50.0 * 525.5])
)
grids = st.lists(st.floats(1.0, 900.0), min_size=2, max_size=2).map(np.array)


def terms(replicas, g_per_kwh):
    return Terms.of(POOLS, BATCHES, np.array(replicas, np.float64), g_per_kwh, g_per_kwh)


def least_of_all(of, amounts, awake_w):
    """Every number of replicas in each pool, and the best that each can do."""
    awake_g = of.watts(awake_w) * of.kwh_per_j * of.now_g
    # What is awake costs as a whole: within it, use costs nothing more.
    used = of._replace(base_w=np.zeros(2), idle_w=np.zeros(2))
    found = []
    for counts in itertools.product(*(range(int(n) + 1) for n in of.capacity_s)):
        # What costs nothing might as well be left undone, but for a price.
        with mock.patch.object(slot, "UNDONE", 1e8):
            way = solve(used._replace(capacity_s=np.array(counts) * 1.0), amounts, NOTHING, 1.0)
        if way.unserved_s <= 1e-9:
            found.append((way.grams + float(awake_g @ counts), counts))
    return min(found, default=None)


@given(rates, grids, st.tuples(st.integers(0, 3), st.integers(1, 3)), st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_it_is_the_best_of_all_numbers_of_replicas(amounts, g_per_kwh, replicas, awake_w):
    of = terms(replicas, g_per_kwh)
    found = solve_moment(of, amounts, awake_w)
    best = least_of_all(of, amounts, awake_w)
    if best is None:
        assert found.undone_s > 0.0
        return
    assert found.grams == pytest.approx(best[0], rel=2e-4, abs=1e-12)
    assert found.least_grams <= best[0] * (1.0 + 1e-6)
    assert found.undone_s <= 1e-6
    assert (found.replicas == np.round(found.replicas)).all()
    # Fractions of replicas are never worse.
    relaxed = solve(of, amounts, NOTHING, awake_w)
    assert relaxed.grams <= found.grams * (1.0 + 1e-6) + 1e-15


def test_what_does_not_fit_is_left_out_and_told():
    amounts = np.outer([1000.0, 0.0], [1.0, 500.0, 125e3, 50.0, 50.0 * 525.5])
    found = solve_moment(terms([1, 2], np.array([100.0, 200.0])), amounts, 1.0)
    whole = solve(terms([1e9, 1e9], np.array([100.0, 200.0])), amounts, NOTHING, 1.0)
    assert found.replicas.tolist() == [1.0, 2.0]
    assert found.undone_s == pytest.approx(whole.seconds.sum() - 3.0, rel=1e-3)


def test_nothing_to_do_needs_no_replica():
    found = solve_moment(terms([1, 2], np.array([100.0, 200.0])), NOTHING, 1.0)
    assert (found.grams, found.least_grams, found.undone_s) == (0.0, 0.0, 0.0)
    assert not found.replicas.any()


def test_idle_replicas_that_stay_on_cost_what_waking_adds():
    amounts = np.outer([1.0, 0.0], [1.0, 500.0, 125e3, 50.0, 50.0 * 525.5])
    of = terms([3, 3], np.array([100.0, 900.0]))
    of = of._replace(idle_w=of.base_w / 4.0)
    released, kept_on = solve_moment(of, amounts, 1.0), solve_moment(of, amounts, 0.0)
    awake_g = float((of.base_w * of.kwh_per_j * of.now_g)[0])
    assert released.replicas.tolist() == kept_on.replicas.tolist() == [1.0, 0.0]
    assert released.grams - kept_on.grams == pytest.approx(awake_g / 4.0)


def test_nothing_reaches_stdout_while_it_is_quiet(capfd):
    print("before")
    with quiet_stdout():
        os.write(1, b"from the descriptor")
        ctypes.CDLL(None).puts(b"from C, which writes later")
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"
