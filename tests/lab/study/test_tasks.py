from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import ConfigError
from router.lab.sim.scenario.assemble import BASELINES
from router.lab.study.tasks import (
    ResultStore,
    StudyContext,
    StudySpec,
    Task,
    limits_of,
    name_of,
    open_study,
    tasks_of,
    worth,
)
from router.model import Budget, Relax
from tests.factories import policy
from tests.lab.sim.scenarios import scenario

TASK = Task("signal", 1)


def opened(folder: Path, *policies: str, fluid: bool = False) -> StudyContext:
    spec = StudySpec(scenario(folder), policies, None, None, rows=False, fluid=fluid)
    return open_study(spec, ResultStore())


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_task_has_made_is_there_for_others(tmp_path: Path, shared: bool) -> None:
    store = ResultStore(tmp_path if shared else None)
    store.put(TASK, {"made": 1})
    store.put(Task("signal", 2), "other")
    other = ResultStore(tmp_path) if shared else store
    assert other.get(TASK) == {"made": 1}
    assert other.get(Task("signal", 2)) == "other"


def test_limits_are_the_budgets_that_hold_rung_by_rung() -> None:
    tight = Budget(e2e_ms=9000.0)
    kept = policy(budget=tight, ladder=(Relax.CARBON,))
    dropped = policy(budget=tight, ladder=(Relax.CARBON, Relax.POLICY_LATENCY))
    assert limits_of(kept) == (tight,)
    assert limits_of(dropped) == (tight, Budget())
    assert limits_of(policy(name="other", near_tie=0.5)) == limits_of(policy())


def test_every_policy_runs_and_those_with_equal_limits_share_a_bound(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("weights: {per_gco2e: 1}\nbudget: {e2e_ms: 9000}\n")
    context = opened(tmp_path, "balanced", str(tmp_path / "own.yaml"))
    names = [one.name for one in context.policies]
    # The baselines get the budget of the first policy that was asked for.
    assert names == [
        "balanced", "own", *BASELINES,
    ]  # fmt: skip
    tasks = tasks_of(context)
    assert tasks == [
        Task("engine", 0), Task("signal", 0), Task("bound", 0), Task("bound", 1),
        *(Task("run", at) for at in range(9)),
        *(Task("again", at) for at in range(len(context.again))),
    ]  # fmt: skip
    told = [name_of(context, task) for task in tasks]
    assert told[:13] == ["engine (compiled once)", "carbon signal", "bound", "bound own", *names]
    # Variants of what was asked for, which no baseline is.
    assert "balanced, annual means" in told[13:] and "own, spread" in told[13:]
    assert not set(told[13:]) & set(names)
    assert worth(context) == 1


def test_chains_run_again_under_every_later_seed(tmp_path: Path) -> None:
    spec = StudySpec(scenario(tmp_path), ("carbon-first",), None, None, False, False, seeds=3)
    context = open_study(spec, ResultStore())
    assert {run.later for run in context.again} == {1, 2}
    assert len(context.again) == 2 * (1 + len(BASELINES))
    told = [name_of(context, Task("again", at)) for at in range(len(context.again))]
    assert "latency-first-packed, seed 5" in told


def test_flows_need_their_demand_before_they_run(tmp_path: Path) -> None:
    kinds = [task.what for task in tasks_of(opened(tmp_path, fluid=True))]
    assert kinds.index("flows") < kinds.index("run")


def test_plans_are_made_once_for_each_bound_and_only_where_asked_for(tmp_path: Path) -> None:
    spec = StudySpec(scenario(tmp_path), ("carbon-first",), None, None, False, False, plans=True)
    context = open_study(spec, ResultStore())
    kinds = [task.what for task in tasks_of(context)]
    assert kinds.count("plan") == kinds.count("bound") == 1
    assert name_of(context, Task("plan", 0)) == "plan"
    asked = tasks_of(opened(tmp_path, "carbon-first"))
    assert "plan" not in {task.what for task in asked}


def test_flows_are_refused_where_hints_say_who_is_released(tmp_path: Path) -> None:
    """They know of idle replicas alone, and would tell one thing as the other."""
    hinted = {"by": "hints", "release_after": "5m", "wake": "2m", "wake_w": 1700}
    file = scenario(tmp_path, {"autoscaling": hinted})
    open_study(StudySpec(file, (), None, None, rows=False, fluid=False), ResultStore())
    with pytest.raises(ConfigError, match=r"autoscaling\.by"):
        open_study(StudySpec(file, (), None, None, rows=False, fluid=True), ResultStore())
