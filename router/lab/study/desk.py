"""What a study consists of: tasks on a scenario, each of which any process can do.

A task that needs what another has made finds it on a shelf, so that nothing is made twice: the
carbon signal over the whole span, and the demand of flows, serve every policy.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.lab.sim.bound.run import bound
from router.lab.sim.engine import run
from router.lab.sim.fluid import run as fluid
from router.lab.sim.fluid.demand import Demand as FlowDemand
from router.lab.sim.fluid.demand import gather
from router.lab.sim.grid.signal_columns import (
    PrecomputedSignal,
    parts_of,
    side_by_side,
    signal_columns,
)
from router.lab.sim.result import PolicyResult
from router.lab.sim.scenario.assemble import baseline_policies
from router.lab.sim.scenario.loading import Loaded, load
from router.lab.sim.simulation import GridSignal
from router.lab.study.demand import Observed
from router.lab.study.rows import Occupancy, ParquetSink, folder_of
from router.model import Budget, Policy, Relax

# Fewer requests are done sooner than another process has started.
_WORTH_A_PROCESS: Final = 3_000_000
NEEDED: Final = ("engine", "signal", "flows")
"""Kinds of tasks that runs wait for."""


class Run(NamedTuple):
    """One policy over the scenario."""

    result: PolicyResult
    occupancy: Occupancy


class Order(NamedTuple):
    """What a process needs to know to do any task; ``folder`` None: nothing is written."""

    file: Path
    policies: tuple[str, ...]
    seed: int | None
    folder: Path | None
    rows: bool
    fluid: bool


class Task(NamedTuple):
    """``what``: engine, signal (part ``at`` of it), flows, bound or run (of policy ``at``)."""

    what: str
    at: int


class Shelf:
    """What a task has made for others: here, or in files that other processes read too."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._kept: dict[Task, Any] = {}

    def put(self, task: Task, made: Any) -> None:
        """Once a task."""
        if self._folder is None:
            self._kept[task] = made
            return
        with self._file(task).open("wb") as file:
            pickle.dump(made, file, pickle.HIGHEST_PROTOCOL)

    def get(self, task: Task) -> Any:
        """What was put there, by whomever."""
        if task not in self._kept:
            with self._file(task).open("rb") as file:
                self._kept[task] = pickle.load(file)
        return self._kept[task]

    def _file(self, task: Task) -> Path:
        assert self._folder is not None
        return self._folder / f"{task.what}-{task.at}"


class Desk(NamedTuple):
    """An order with everything loaded. ``parts``: of the carbon signal."""

    order: Order
    loaded: Loaded
    policies: tuple[Policy, ...]
    parts: Sequence[GridSignal]
    shelf: Shelf
    share: Callable[[int, float], None]


def open_desk(
    order: Order, shelf: Shelf, share: Callable[[int, float], None] = lambda task, share: None
) -> Desk:
    """``share``: told the number of a task and the share of it that is done. Raises what
    `router.lab.sim.scenario.loading.load` raises.
    """
    loaded = load(order.file, order.policies, seed=order.seed)
    asked = loaded.simulation.policies
    baselines = baseline_policies(asked, loaded.simulation.carbon_signal)
    parts = parts_of(loaded.simulation.signal)
    return Desk(order, loaded, (*asked, *baselines), parts, shelf, share)


def tasks_of(desk: Desk) -> list[Task]:
    """What others need comes first, then bounds, which take longest. Of policies with equal limits
    only the first is bounded.
    """
    firsts = {limits_of(policy): at for at, policy in reversed(list(enumerate(desk.policies)))}
    return [
        Task("engine", 0),
        *(Task("signal", part) for part in range(len(desk.parts))),
        *([Task("flows", 0)] if desk.order.fluid else []),
        *(Task("bound", at) for at in sorted(firsts.values())),
        *(Task("run", at) for at in range(len(desk.policies))),
    ]


def name_of(desk: Desk, task: Task) -> str:
    """For a progress bar."""
    if task.what == "engine":
        return "engine (compiled once)"
    if task.what == "signal":
        number = f" {task.at + 1}" if len(desk.parts) > 1 else ""
        return f"carbon signal{number}"
    if task.what == "flows":
        return "demand"
    if task.what == "bound":
        return "bound" if task.at == 0 else f"bound {desk.policies[task.at].name}"
    return desk.policies[task.at].name


def limits_of(policy: Policy) -> tuple[Budget, bool]:
    """What of a policy a bound depends on."""
    return policy.budget, Relax.POLICY_LATENCY in policy.ladder


def worth(desk: Desk) -> int:
    """Processes that a study is worth: one for a small workload, else one a core."""
    count = 0
    for traffic in desk.loaded.simulation.workload.chunks():
        count += len(traffic)
        if count >= _WORTH_A_PROCESS:
            return os.cpu_count() or 1
    return 1


def do(desk: Desk, place: int, task: Task) -> Any:
    """A task, number ``place`` of all: (Bound, Demand), a Run, or nothing but what is shelved."""

    def share(done: float) -> None:
        desk.share(place, done)

    simulation = desk.loaded.simulation
    found: Any = None
    if task.what == "engine":
        ready = fluid.make_ready if desk.order.fluid else run.make_ready
        ready(simulation, desk.policies[0])
    elif task.what == "signal":
        start, end = simulation.start, simulation.start + simulation.duration_s
        desk.shelf.put(task, signal_columns(desk.parts[task.at], start, end))
    elif task.what == "flows":
        desk.shelf.put(task, gather(simulation, fluid.HOUR_S, share))
    elif task.what == "bound":
        observed = Observed(simulation)
        policy = desk.policies[task.at]
        bounded = bound(replace(simulation, workload=observed), policy, progress=share)
        found = bounded, observed.demand()
    else:
        found = _run(desk, desk.policies[task.at], share)
    share(1.0)
    return found


def _run(desk: Desk, policy: Policy, share: Callable[[float], None]) -> Run:
    simulation = desk.loaded.simulation
    start, end = simulation.start, simulation.start + simulation.duration_s
    parts = [desk.shelf.get(Task("signal", part)) for part in range(len(desk.parts))]
    signal = PrecomputedSignal(simulation.signal, start, end, side_by_side(parts))
    simulation = replace(simulation, signal=signal)
    if desk.order.fluid:
        flows: FlowDemand = desk.shelf.get(Task("flows", 0))
        flowed = fluid.run_fluid(simulation, policy, flows, progress=share)
        return Run(flowed, Occupancy(simulation.duration_s))
    if not desk.order.rows or desk.order.folder is None:
        occupancy = Occupancy(simulation.duration_s)
        result = run.simulate(simulation, policy, progress=share, minutes=occupancy)
        return Run(result, occupancy)
    folder = desk.order.folder / folder_of(policy.name)
    with ParquetSink(folder, run.row_names(simulation)) as sink:
        occupancy = Occupancy(simulation.duration_s, sink)
        result = run.simulate(simulation, policy, occupancy, share)
    return Run(result, occupancy.alone())
