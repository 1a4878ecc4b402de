"""Run a study: the policies asked for, every baseline and the bound, in one or more processes.

The figures and files are the same however many processes share the work: each policy's run depends
on the scenario, the policy and the seed alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from router.errors import CarbonRouterError
from router.lab.sim.bound.plan import Plans
from router.lab.sim.bound.run import Bound
from router.lab.sim.result import PolicyResult
from router.lab.sim.scenario.loading import Loaded
from router.lab.sim.simulation import Simulation
from router.lab.study.causes import PolicyChain
from router.lab.study.input_files import Inputs, read_inputs
from router.lab.study.rows import require_pyarrow
from router.lab.study.tasks import (
    NEEDED,
    ResultStore,
    StudyContext,
    StudyRun,
    StudySpec,
    Task,
    VariantRun,
    levers_of,
    limits_of,
    name_of,
    open_study,
    run_task,
    run_variant,
    tasks_of,
    worth,
)
from router.lab.study.workload_totals import WorkloadTotals
from router.model import Policy

_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Everything that a report tells. ``policies``: those asked for first, then baselines; ``runs``
    and ``bounds`` in the same order (policies with the same latency limits share a bound), as are
    ``plans``, which are none where they were not asked for.
    ``fluid``: run as flows, so that there are no latencies, budgets met or occupancies. ``chains``:
    from every baseline to each policy that was asked for, and ``by_variant`` what their variants
    came to, under each of ``seeds`` seeds from the scenario's own on.
    """

    loaded: Loaded
    inputs: Inputs
    policies: tuple[Policy, ...]
    asked: int
    runs: tuple[StudyRun, ...]
    bounds: tuple[Bound, ...]
    totals: WorkloadTotals
    chains: tuple[PolicyChain, ...]
    by_variant: Mapping[VariantRun, PolicyResult]
    seeds: int = 1
    fluid: bool = False
    plans: tuple[Plans, ...] = ()

    @property
    def simulation(self) -> Simulation:
        return self.loaded.simulation


class TaskProgress(NamedTuple):
    """``begin``: names of all tasks; ``show``: share done of each, from time to time."""

    begin: Callable[[Sequence[str]], None] = lambda names: None
    show: Callable[[Sequence[float]], None] = lambda shares: None


def run_study(
    file: Path,
    policies: Sequence[str] = (),
    *,
    seed: int | None = None,
    seeds: int = 1,
    folder: Path | None = None,
    rows: bool = True,
    fluid: bool = False,
    plans: bool = False,
    jobs: int | None = None,
    progress: TaskProgress = TaskProgress(),  # noqa: B008
) -> Study:
    """Simulate a scenario file under each policy and every baseline, and bound it.

    ``policies``: as for `router.lab.sim.scenario.loading.load`. ``folder``: where rows go, None:
    nowhere. ``seeds``: with how many, from the scenario's own on, the chains of policies run that
    split each saving; the report's other figures are those of the first.
    ``fluid``: as flows, slot by slot, without single requests (`router.lab.sim.fluid.run`).
    ``plans``: with plans of whole replicas beside the bound, which take minutes.
    ``jobs``: processes; None: as many as are worth it. Raises ConfigError, TraceError and what
    `router.lab.sim.engine.run.simulate` raises.
    """
    rows = rows and folder is not None and not fluid
    if rows:
        require_pyarrow()
    spec = StudySpec(file, tuple(policies), seed, folder, rows, fluid, seeds, plans)
    context = open_study(spec, ResultStore())
    tasks = tasks_of(context)
    progress.begin([name_of(context, task) for task in tasks])
    shares = [0.0] * len(tasks)
    count = min(jobs or worth(context), len(tasks))
    if count == 1:

        def on_progress(task: int, share: float) -> None:
            shares[task] = share
            progress.show(shares)

        here = context._replace(on_progress=on_progress)
        done = [run_task(here, place, task) for place, task in enumerate(tasks)]
    else:
        done = _share_out(spec, tasks, count, progress)
    return _study(context, tasks, done)


def _study(context: StudyContext, tasks: Sequence[Task], done: Sequence[Any]) -> Study:
    found = dict(zip(tasks, done, strict=True))
    bounds = {
        limits_of(context.policies[task.at]): result
        for task, result in found.items()
        if task.what == "bound"
    }
    planned = {
        limits_of(context.policies[task.at]): result
        for task, result in found.items()
        if task.what == "plan"
    }
    runs = tuple(result for task, result in found.items() if task.what == "run")
    levers = levers_of(context.loaded.simulation, context.spec.fluid)
    asked = len(context.loaded.simulation.policies)
    by_variant = {
        VariantRun(run_variant(policy, place < asked, levers), 0): run.result
        for place, (policy, run) in enumerate(zip(context.policies, runs, strict=True))
    } | {context.again[task.at]: result for task, result in found.items() if task.what == "again"}
    return Study(
        loaded=context.loaded,
        inputs=read_inputs(context.spec.file),
        policies=context.policies,
        asked=asked,
        runs=runs,
        bounds=tuple(bounds[limits_of(policy)][0] for policy in context.policies),
        totals=next(iter(bounds.values()))[1],
        chains=context.chains,
        by_variant=by_variant,
        seeds=context.spec.seeds,
        fluid=context.spec.fluid,
        plans=tuple(planned[limits_of(policy)] for policy in context.policies if planned),
    )


# In a child process: its context, set once when it starts, or why it has none.
_here: list[StudyContext | Exception] = []


def _start(spec: StudySpec, store: Path, shares: Any) -> None:
    def on_progress(task: int, done: float) -> None:
        shares[task] = done

    try:
        _here.append(open_study(spec, ResultStore(store), on_progress))
    except Exception as error:
        # Raised by the first task: an error here would only be known as a process that ended.
        _here.append(error)


def _run_here(place: int, task: Task) -> Any:
    context = _here[0]
    if isinstance(context, Exception):
        raise context
    return run_task(context, place, task)


def _share_out(
    spec: StudySpec, tasks: Sequence[Task], jobs: int, progress: TaskProgress
) -> list[Any]:
    """Every task's result in order, from ``jobs`` child processes."""
    # Forking a process that holds threads (a progress bar's, numpy's) may hang its child.
    spawn = multiprocessing.get_context("spawn")
    shares = spawn.Array("d", len(tasks), lock=False)
    with (
        TemporaryDirectory(prefix="carbon-router-") as store,
        ProcessPoolExecutor(jobs, spawn, _start, (spec, Path(store), shares)) as pool,
    ):
        futures: dict[Task, Future[Any]] = {}

        def begin(wanted: Callable[[str], bool]) -> None:
            for place, task in enumerate(tasks):
                if wanted(task.what):
                    futures[task] = pool.submit(_run_here, place, task)

        def watch(wanted: Callable[[str], bool]) -> None:
            mine = [future for task, future in futures.items() if wanted(task.what)]
            _watch(mine, lambda: progress.show(list(shares)))
            for future in mine:
                future.result()

        try:
            begin(lambda what: what != "run")
            watch(lambda what: what in NEEDED)
            begin(lambda what: what == "run")
            watch(lambda what: True)
            return [futures[task].result() for task in tasks]
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
