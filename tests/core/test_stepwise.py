"""Against the obvious twin: the run cut at every step, each piece weighed by its length."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.stepwise import mean_of_steps

VALUES = st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=6)


def twin(values, step_s, begin_s, end_s):
    def at(t):
        return values[min(max(math.floor(t / step_s), 0), len(values) - 1)]

    cuts = [begin_s, *(s * step_s for s in range(len(values) + 1) if begin_s < s * step_s < end_s)]
    pieces = zip(cuts, [*cuts[1:], end_s], strict=True)
    return sum(at((a + b) / 2.0) * (b - a) for a, b in pieces) / (end_s - begin_s)


@given(VALUES, st.sampled_from([1.0, 900.0, 3600.0]), st.floats(-2.0, 8.0), st.floats(1e-3, 9.0))
def test_it_is_the_mean_by_length(values, step_s, begin, run):
    begin_s, end_s = begin * step_s, (begin + run) * step_s
    found = mean_of_steps(np.array(values), step_s, begin_s, end_s)
    assert found == pytest.approx(twin(values, step_s, begin_s, end_s), rel=1e-9, abs=1e-9)


@given(VALUES, st.floats(-1e6, 1e6))
def test_a_run_without_an_end_is_the_last_value_and_one_without_length_the_first(values, begin_s):
    assert mean_of_steps(np.array(values), 3600.0, begin_s, math.inf) == values[-1]
    now = mean_of_steps(np.array(values), 3600.0, begin_s, begin_s)
    assert now == values[min(max(math.floor(begin_s / 3600.0), 0), len(values) - 1)]


def test_within_a_step_it_is_the_steps_own_value_to_the_last_bit():
    values = np.array([0.1, 0.3])
    assert mean_of_steps(values, 3600.0, 1.7, 3599.9) == 0.1


def test_a_column_of_a_table_will_do():
    table = np.array([[1.0, 10.0], [3.0, 30.0]])
    assert mean_of_steps(table[:, 1], 2.0, 1.0, 3.0) == 20.0
