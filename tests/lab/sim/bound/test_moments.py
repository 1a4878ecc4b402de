import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.bound.demand import LATER, REQUESTS, largest_batch, pools_of
from router.lab.sim.bound.moments import moments_of, work_at
from router.lab.sim.bound.pace import FREE, batches_of
from router.lab.sim.bound.run import slot_edges
from router.model import Budget
from tests.factories import policy
from tests.lab.sim.bound.cases import ask, fleet, profile, simulation

POLICY = policy()
FLAT = {"Z-clean": [100.0, 100.0], "Z-dirty": [400.0, 400.0]}
BUDGETS = [Budget(), Budget(tpot_ms=12.0), Budget(e2e_ms=3000.0), Budget(ttft_ms=20.0)]


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 100.0), st.integers(1, 3000), st.integers(1, 300),
            st.sampled_from(BUDGETS),
        ),
        min_size=1, max_size=40,
    ),
    st.lists(st.floats(0.0, 130.0), min_size=1, max_size=10).map(sorted),
)  # fmt: skip
@settings(deadline=None)
def test_what_is_under_way_is_what_has_come_and_is_not_done(asked, at_s):
    """Beside a loop over requests and moments."""
    requests = [
        ask(at, *rest[:2], budget=rest[2]) for at, *rest in sorted(asked, key=lambda a: a[0])
    ]
    of = simulation(requests, fleet({"clean": 2}), FLAT, POLICY, duration_s=130.0)
    (work,) = work_at(of, POLICY, np.array(at_s), np.array([0.0, 60.0, 130.0]))
    one = profile()
    for moment, rates in zip(at_s, work.rates, strict=True):
        tokens = count = 0.0
        for timed in requests:
            pace_s = (one.tpot_base_ms + 4 * one.tpot_ms_per_sequence) / 1e3
            takes_s = one.prefill_ms_per_token * timed.request.input_tokens / 1e3
            takes_s += timed.output_tokens * pace_s
            if timed.at_s <= moment < timed.at_s + takes_s:
                tokens += (timed.output_tokens - 1) / takes_s
                count += 1.0 / takes_s
        assert rates[:, LATER].sum() == pytest.approx(tokens)
        assert rates[:, REQUESTS].sum() == pytest.approx(count)
    assert len(work.sample.group) == len(requests)
    early = sum(timed.output_tokens - 1 for timed in requests if timed.at_s < 60.0)
    assert work.arrived[0, LATER] == early
    # Evened, moments come to what arrives, and keep their proportions.
    evened = work.evened(np.ones(len(at_s), bool), 0, 60.0)
    if work.rates[:, :, LATER].any():
        assert evened[:, :, LATER].mean(axis=0).sum() * 60.0 == pytest.approx(early)
        scale = evened[:, :, LATER].sum() / work.rates[:, :, LATER].sum()
        assert evened[:, :, LATER] == pytest.approx(work.rates[:, :, LATER] * scale)


@given(st.integers(1, 3000), st.integers(1, 300), st.sampled_from(BUDGETS))
@settings(deadline=None)
def test_a_group_tolerates_the_pace_of_the_bounds_batch(n_in, n_out, budget):
    """A per cent less at the most, and no more than of the easiest request of its class."""
    the_fleet = fleet({"clean": 1}, max_in_flight=64)
    of = simulation([ask(1.0, n_in, n_out, budget=budget)], the_fleet, FLAT, POLICY)
    (work,) = work_at(of, POLICY, np.array([1.5]), np.array([0.0, 60.0]))
    (pool,) = pools_of(the_fleet, "m")
    paces_s = np.array(work.grouping.batches)
    found = float(batches_of([pool], paces_s, [FREE])[work.sample.group[0], 0])
    exact = largest_batch(pool, budget, 0.0, n_in, n_out)
    # Classes are 0.2 % of a budget, 10 % of input and 0.5 % of output wide; of a request at the
    # edge of what is possible the class may be possible.
    longer = Budget(*(limit * 1.0021 for limit in (budget.ttft_ms, budget.tpot_ms, budget.e2e_ms)))
    easiest = largest_batch(pool, longer, 0.0, n_in / 1.101, n_out / 1.0051)
    assert exact == 0.0 or found > 0.0
    assert found == 0.0 or easiest > 0.0
    # Of a pace of 10 + 0.5 b ms.
    assert exact * 0.985 - 0.4 <= found <= easiest * 1.08 + 0.1


def test_moments_are_the_middles_of_equal_parts_after_the_warm_up():
    of = simulation([], fleet({"clean": 1}), FLAT, POLICY, duration_s=1800.0, warm_up_s=100.0)
    edges = slot_edges(of.start, 1800.0, 600.0)
    at_s = moments_of(of, edges, 3)
    assert (at_s >= 100.0).all() and (np.diff(at_s) > 0.0).all()
    inside = [sum(first < at < last for at in at_s) for first, last in pairwise(edges)]
    assert set(inside[1:]) == {3}
    assert math.isclose(at_s[-1], edges[-1] - (edges[-1] - edges[-2]) / 6.0)
