"""Against the obvious twin: the first in order of whoever came closest."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.obstacle import ERRORS, obstacle
from router.errors import RefusedError

CLOSEST_FIRST = (
    k.FULL, k.E2E_BUDGET, k.TPOT_BUDGET, k.TTFT_BUDGET, k.UNHEALTHY, k.NOT_FINITE,
    k.CARBON_BUDGET, k.CARBON_UNKNOWN, k.CONTEXT, k.RESIDENCY,
)  # fmt: skip
CANDIDATES = st.lists(
    st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from(CLOSEST_FIRST)), max_size=6
)


def twin(candidates, residency):
    for reason in CLOSEST_FIRST:
        for label, its in candidates:
            if its == reason and (reason != k.UNHEALTHY or label & residency):
                return reason
    return k.RESIDENCY


@given(CANDIDATES, st.sampled_from([1, 2, 3, 4]))
def test_it_is_that_of_the_candidates_that_came_closest(candidates, residency):
    labels = np.array([label for label, _ in candidates], np.int64)
    reasons = np.array([reason for _, reason in candidates], np.int64)
    assert obstacle(labels, reasons, residency) == twin(candidates, residency)


def test_every_reason_has_an_error_but_that_there_is_none():
    every = {getattr(k, name) for name in ("RESIDENCY", "CONTEXT", "NOT_FINITE", "FULL")}
    assert every < set(ERRORS) == set(CLOSEST_FIRST)
    assert k.FEASIBLE not in ERRORS
    assert all(issubclass(error, RefusedError) for error in ERRORS.values())
