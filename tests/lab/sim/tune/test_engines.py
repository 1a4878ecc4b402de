"""Processes give what one process gives, and drop what is no longer wanted."""

from contextlib import closing
from dataclasses import replace

import pytest

from router.errors import ConfigError
from router.lab.sim.scenario.loading import load
from router.lab.sim.tune.engines import Here, Processes, engine
from router.lab.sim.tune.search import Evaluation
from router.lab.sim.tune.train_test import precompute, split
from tests.lab.sim.scenarios import scenario


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    file = scenario(tmp_path_factory.mktemp("engines"), {"signal": {"kind": "perfect"}})
    simulation = load(file).simulation
    both = split(simulation, 0.5)
    precompute(simulation.signal, both)
    return both


@pytest.fixture(scope="module")
def processes(spans):
    with engine("local", spans, 2) as pool:
        assert isinstance(pool, Processes)
        yield pool


def evaluations(spans, count=4):
    (policy,) = spans.train.policies
    return [
        Evaluation(("train", "test")[at % 2], replace(policy, near_tie=0.2 * at))
        for at in range(count)
    ]


def test_the_same_figures(spans, processes):
    wanted = evaluations(spans)
    assert dict(processes.run(wanted)) == dict(Here(spans).run(wanted))


def test_what_is_called_off_does_not_hold_up_what_comes_next(spans, processes):
    with closing(processes.run(evaluations(spans) * 50)) as results:
        next(results)
    assert len(dict(processes.run(evaluations(spans, 2)))) == 2


def test_a_runs_own_error_comes_through(spans, processes):
    (evaluation,) = evaluations(spans, 1)
    with pytest.raises(AttributeError, match="elsewhere"):
        dict(processes.run([evaluation._replace(span="elsewhere")]))
    assert len(dict(processes.run(evaluations(spans, 1)))) == 1


def test_one_job_is_this_process_and_names_are_checked(spans):
    assert isinstance(engine("local", spans, 1), Here)
    with pytest.raises(ConfigError, match="'dask' is neither local nor ray"):
        engine("dask", spans, 1)
