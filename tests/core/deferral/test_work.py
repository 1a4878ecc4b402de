import dataclasses
import math

import numpy as np
import pytest

from router.core.deferral.work import WaitingWork
from router.errors import DataError
from tests.core.deferral.made_up import job, work


def test_jobs_are_rows_in_their_order_and_names_are_codes():
    two = work(job(2, model="b", regions=("x", "y")), job(1, model="a"), job(3, model="b"))
    assert two.models == ("b", "a")
    assert two.model.tolist() == [0, 1, 0]
    assert two.region_sets == (frozenset({"x", "y"}), frozenset())
    assert two.region_set.tolist() == [0, 1, 1]
    assert (np.diff(two.deadline) == [-3600.0, 7200.0]).all()
    assert len(two) == 3


def test_some_of_the_jobs_keep_their_names():
    three = work(job(1), job(2, model="b"), job(3, run_s=9.0))
    some = three.taken(np.array([2, 1]))
    assert some.run_s.tolist() == [9.0, 60.0]
    assert [some.models[code] for code in some.model] == ["m", "b"]
    assert len(three.taken(three.deadline > three.deadline[0])) == 2


def test_no_jobs_are_work_too():
    assert len(WaitingWork.of([])) == 0


@pytest.mark.parametrize(
    ("figure", "value", "says"),
    [
        ("deadline", math.nan, "job 1: deadline must be a finite number"),
        ("joules", -1.0, "job 1: joules must be 0 or more"),
        ("run_s", 0.0, "job 1: run_s must be more than 0"),
        ("places", 0.0, "job 1: places must be more than 0"),
        ("run_s", math.inf, "job 1: run_s must be a finite number"),
    ],
)
def test_a_figure_that_is_no_figure_is_refused_with_its_job(figure, value, says):
    with pytest.raises(DataError, match=says):
        work(job(1), job(1)._replace(**{figure: value}))


def test_columns_of_unequal_length_or_unknown_codes_are_refused():
    one = work(job(1))
    with pytest.raises(DataError, match="run_s needs one figure"):
        dataclasses.replace(one, run_s=np.ones(2))
    with pytest.raises(DataError, match="model must be below 1"):
        dataclasses.replace(one, model=np.array([1], np.int32))
