"""Run a study: the policies asked for, every baseline and the bound, in one or more processes.

The figures and files are the same however many processes share the work: each policy's run depends
on the scenario, the policy and the seed alone.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.errors import CarbonRouterError
from router.model import Budget, Policy, Relax
from router.sim.assemble import baseline_policies
from router.sim.bound import Bound, bound
from router.sim.fluid import HOUR_S, run_fluid
from router.sim.fluid_demand import Demand as FlowDemand
from router.sim.fluid_demand import gather
from router.sim.loading import Loaded, load
from router.sim.outcome import Outcome
from router.sim.run import row_names, simulate
from router.sim.scenario import Simulation
from router.study.demand import Demand, Observed
from router.study.inputs import Inputs, read_inputs
from router.study.rows import Occupancy, ParquetSink, folder_of, require_pyarrow

# Fewer requests are done sooner than another process has started.
_WORTH_A_PROCESS: Final = 3_000_000
_POLL_S: Final = 0.2


class Run(NamedTuple):
    """One policy over the scenario."""

    outcome: Outcome
    occupancy: Occupancy


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Everything that a report tells. ``policies``: those asked for first, then baselines; ``runs``
    and ``bounds`` in the same order (policies with the same latency limits share a bound).
    ``fluid``: run as flows, so that there are no latencies, budgets met or occupancies.
    """

    loaded: Loaded
    inputs: Inputs
    policies: tuple[Policy, ...]
    asked: int
    runs: tuple[Run, ...]
    bounds: tuple[Bound, ...]
    demand: Demand
    fluid: bool = False

    @property
    def simulation(self) -> Simulation:
        return self.loaded.simulation


class Progress(NamedTuple):
    """``begin``: names of all tasks; ``show``: share done of each, from time to time."""

    begin: Callable[[Sequence[str]], None] = lambda names: None
    show: Callable[[Sequence[float]], None] = lambda shares: None


class _Order(NamedTuple):
    """What a process needs to know to do any task; ``folder`` None: nothing is written."""

    file: Path
    policies: tuple[str, ...]
    seed: int | None
    folder: Path | None
    rows: bool
    fluid: bool


class _Desk(NamedTuple):
    """An order with everything loaded."""

    order: _Order
    loaded: Loaded
    policies: tuple[Policy, ...]
    share: Callable[[int, float], None]
    flows: Callable[[], FlowDemand]


def run_study(
    file: Path,
    policies: Sequence[str] = (),
    *,
    seed: int | None = None,
    folder: Path | None = None,
    rows: bool = True,
    fluid: bool = False,
    jobs: int | None = None,
    progress: Progress = Progress(),  # noqa: B008
) -> Study:
    """Simulate a scenario file under each policy and every baseline, and bound it.

    ``policies``: as for `router.sim.loading.load`. ``folder``: where rows go, None: nowhere.
    ``fluid``: as flows, slot by slot, without single requests (`router.sim.fluid`).
    ``jobs``: processes; None: as many as are worth it. Raises ConfigError, TraceError and what
    `router.sim.run.simulate` raises.
    """
    rows = rows and folder is not None and not fluid
    if rows:
        require_pyarrow()
    order = _Order(file, tuple(policies), seed, folder, rows, fluid)
    shares: list[float] = []
    desk = _desk(order, lambda task, share: None)
    tasks = _tasks(desk.policies)
    names = [f"bound {desk.policies[at].name}" if what == "bound" else desk.policies[at].name
             for what, at in tasks]  # fmt: skip
    progress.begin(["bound" if name.startswith("bound ") and at == 0 else name
                    for at, name in enumerate(names)])  # fmt: skip
    shares = [0.0] * len(tasks)
    count = jobs or _worth(desk.loaded.simulation)
    if min(count, len(tasks)) == 1:

        def told(task: int, share: float) -> None:
            shares[task] = share
            progress.show(shares)

        here = desk._replace(share=told)
        done = [_do(here, task, *what) for task, what in enumerate(tasks)]
    else:
        done = _share_out(order, tasks, min(count, len(tasks)), progress)
    return _study(desk, tasks, done)


def _desk(order: _Order, share: Callable[[int, float], None]) -> _Desk:
    loaded = load(order.file, order.policies, seed=order.seed)
    asked = loaded.simulation.policies
    baselines = baseline_policies(asked, loaded.simulation.carbon_signal)
    flows = cache(lambda: gather(loaded.simulation, HOUR_S))
    return _Desk(order, loaded, (*asked, *baselines), share, flows)


def _tasks(policies: Sequence[Policy]) -> list[tuple[str, int]]:
    """Bounds first: they take longest. Of policies with equal limits, only the first is bounded."""
    firsts = {_limits(policy): at for at, policy in reversed(list(enumerate(policies)))}
    bounds = [("bound", at) for at in sorted(firsts.values())]
    return [*bounds, *(("run", at) for at in range(len(policies)))]


def _limits(policy: Policy) -> tuple[Budget, bool]:
    """What of a policy a bound depends on."""
    return policy.budget, Relax.POLICY_LATENCY in policy.ladder


def _worth(simulation: Simulation) -> int:
    """Processes that a study is worth: one for a small workload, else one a core."""
    count = 0
    for traffic in simulation.workload.chunks():
        count += len(traffic)
        if count >= _WORTH_A_PROCESS:
            return os.cpu_count() or 1
    return 1


def _do(desk: _Desk, task: int, what: str, at: int) -> tuple[Bound, Demand] | Run:
    policy, simulation = desk.policies[at], desk.loaded.simulation

    def share(done: float) -> None:
        desk.share(task, done)

    if what == "bound":
        observed = Observed(simulation)
        found = bound(replace(simulation, workload=observed), policy, progress=share)
        share(1.0)
        return found, observed.demand()
    if desk.order.fluid:
        flowed = run_fluid(simulation, policy, desk.flows(), progress=share)
        share(1.0)
        return Run(flowed, Occupancy(simulation.duration_s))
    with ExitStack() as stack:
        sink = None
        if desk.order.rows and desk.order.folder is not None:
            folder = desk.order.folder / folder_of(policy.name)
            sink = stack.enter_context(ParquetSink(folder, row_names(simulation)))
        occupancy = Occupancy(simulation.duration_s, sink)
        outcome = simulate(simulation, policy, occupancy, share)
    share(1.0)
    return Run(outcome, occupancy.alone())


def _study(desk: _Desk, tasks: Sequence[tuple[str, int]], done: Sequence[Any]) -> Study:
    bounds = {
        _limits(desk.policies[at]): result[0]
        for (what, at), result in zip(tasks, done, strict=True)
        if what == "bound"
    }
    return Study(
        loaded=desk.loaded,
        inputs=read_inputs(desk.order.file),
        policies=desk.policies,
        asked=len(desk.loaded.simulation.policies),
        runs=tuple(result for (what, _), result in zip(tasks, done, strict=True) if what == "run"),
        bounds=tuple(bounds[_limits(policy)] for policy in desk.policies),
        demand=done[0][1],
        fluid=desk.order.fluid,
    )


# In a child process: its desk, set once when it starts.
_here: list[_Desk] = []


def _start(order: _Order, shares: Any) -> None:
    def share(task: int, done: float) -> None:
        shares[task] = done

    _here.append(_desk(order, share))


def _do_here(task: int, what: str, at: int) -> tuple[Bound, Demand] | Run:
    return _do(_here[0], task, what, at)


def _share_out(
    order: _Order, tasks: Sequence[tuple[str, int]], jobs: int, progress: Progress
) -> list[Any]:
    """Every task's result in order, from ``jobs`` child processes."""
    # Forking a process that holds threads (a progress bar's, numpy's) may hang its child.
    context = multiprocessing.get_context("spawn")
    shares = context.Array("d", len(tasks), lock=False)
    with ProcessPoolExecutor(jobs, context, _start, (order, shares)) as pool:
        futures = [pool.submit(_do_here, task, *what) for task, what in enumerate(tasks)]
        try:
            _watch(futures, lambda: progress.show(list(shares)))
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            text = "a process of the simulation ended early (out of memory?); try --jobs 1"
            raise CarbonRouterError(text) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _watch(futures: Iterable[Future[Any]], show: Callable[[], None]) -> None:
    """Until all are done or one has failed."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, _POLL_S, FIRST_COMPLETED)
        show()
        if any(future.exception() for future in done):
            return
