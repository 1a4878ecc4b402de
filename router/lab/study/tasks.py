"""What a study consists of: tasks on a scenario, each of which any process can do.

A task that needs what another has made finds it in a store, so that nothing is made twice: the
carbon signal over the whole span, and the demand of flows, serve every policy.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.core.rungs import budget_of, rungs_of
from router.errors import ConfigError
from router.lab.sim.bound.plan import plans
from router.lab.sim.bound.run import bound
from router.lab.sim.deferral.run import (
    ANOTHER_SEED,
    DeferrableTraffic,
    Releases,
    Sent,
    sent_at,
    simulate_sent,
    tell,
    usual_of,
)
from router.lab.sim.engine import run
from router.lab.sim.fluid import run as fluid
from router.lab.sim.fluid.demand import Demand, gather
from router.lab.sim.grid.signal_columns import (
    PrecomputedSignal,
    parts_of,
    side_by_side,
    signal_columns,
)
from router.lab.sim.result import MinuteSink, PolicyResult, Sink
from router.lab.sim.scenario.assemble import BASELINES, baseline_policies
from router.lab.sim.scenario.loading import Loaded, load
from router.lab.sim.simulation import GridSignal, ScaledBy, Simulation
from router.lab.study.causes import (
    Levers,
    PolicyChain,
    PolicyVariant,
    chains_of,
    variants,
)
from router.lab.study.rows import Occupancy, ParquetSink, folder_of
from router.lab.study.workload_totals import CountedWorkload
from router.model import Budget, Policy, QualityFloors
from router.units import HOUR_S

# Fewer requests are done sooner than another process has started.
_WORTH_A_PROCESS: Final = 3_000_000
NEEDED: Final = ("engine", "signal", "flows")
"""Kinds of tasks that runs wait for."""


class StudyRun(NamedTuple):
    """One policy over the scenario."""

    result: PolicyResult
    occupancy: Occupancy


class StudySpec(NamedTuple):
    """What a process needs to know to do any task; ``folder`` None: nothing is written.

    ``seeds``: with how many, from ``seed`` on, the chains of policies run. ``plans``: also plans of
    whole replicas, beside the bound.
    """

    file: Path
    policies: tuple[str, ...]
    seed: int | None
    folder: Path | None
    rows: bool
    fluid: bool
    seeds: int = 1
    plans: bool = False


class Task(NamedTuple):
    """``what``: engine, signal (part ``at`` of it), flows (of seed ``at``), bound, plan or run (of
    policy ``at``), or again (the run ``at`` of `StudyContext.again`).
    """

    what: str
    at: int


class ResultStore:
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


class VariantRun(NamedTuple):
    """A variant under the seed that comes ``later`` by so many than the scenario's own."""

    variant: PolicyVariant
    later: int


class StudyContext(NamedTuple):
    """A spec with everything loaded. ``parts``: of the carbon signal. ``chains``: from each
    baseline to each policy that was asked for. ``again``: what they need beside the runs of
    ``policies``.
    """

    spec: StudySpec
    loaded: Loaded
    policies: tuple[Policy, ...]
    chains: tuple[PolicyChain, ...]
    again: tuple[VariantRun, ...]
    parts: Sequence[GridSignal]
    store: ResultStore
    on_progress: Callable[[int, float], None]


def open_study(
    spec: StudySpec,
    store: ResultStore,
    on_progress: Callable[[int, float], None] = lambda task, share: None,
) -> StudyContext:
    """``on_progress``: called with the number of a task and the share of it that is done. Raises
    what `router.lab.sim.scenario.loading.load` raises.
    """
    loaded = load(spec.file, spec.policies, seed=spec.seed)
    asked = loaded.simulation.policies
    policies = (*asked, *baseline_policies(asked, loaded.simulation.carbon_signal))
    levers = levers_of(loaded.simulation, spec.fluid)
    if levers.waits:
        loaded = loaded.deferring()
    if spec.fluid and levers.chooses:
        text = "flows do not choose among variants: simulate single requests"
        raise ConfigError(str(spec.file), [("aliases", text)])
    scaling = loaded.simulation.autoscaling
    if spec.fluid and scaling is not None and scaling.by is ScaledBy.HINTS:
        text = "flows do not follow hints: simulate single requests, or leave it at idle"
        raise ConfigError(str(spec.file), [("autoscaling.by", text)])
    if spec.plans and levers.waits:
        text = "plans of whole replicas let nothing wait: leave --plans out, or deadlines"
        raise ConfigError(str(spec.file), [("workload", text)])
    baselines = [policy for policy in policies if policy.name in BASELINES]
    chains = chains_of(asked, baselines, levers)
    runs = [
        run_variant(policy, place < len(asked), levers) for place, policy in enumerate(policies)
    ]
    again = tuple(
        VariantRun(variant, later)
        for later in range(spec.seeds)
        for variant in variants(chains)
        if later or variant not in runs
    )
    parts = parts_of(loaded.simulation.signal)
    return StudyContext(spec, loaded, policies, chains, again, parts, store, on_progress)


def tasks_of(context: StudyContext) -> list[Task]:
    """What others need comes first, then bounds and plans, which take longest. Of policies with
    equal limits only the first is bounded.
    """
    firsts = {limits_of(policy): at for at, policy in reversed(list(enumerate(context.policies)))}
    return [
        Task("engine", 0),
        *(Task("signal", part) for part in range(len(context.parts))),
        *(Task("flows", seed) for seed in range(context.spec.seeds if context.spec.fluid else 0)),
        *(Task("plan", at) for at in sorted(firsts.values()) if context.spec.plans),
        *(Task("bound", at) for at in sorted(firsts.values())),
        *(Task("run", at) for at in range(len(context.policies))),
        *(Task("again", at) for at in range(len(context.again))),
    ]


def name_of(context: StudyContext, task: Task) -> str:
    """For a progress bar."""
    if task.what == "engine":
        return "engine (compiled once)"
    if task.what == "signal":
        number = f" {task.at + 1}" if len(context.parts) > 1 else ""
        return f"carbon signal{number}"
    if task.what == "flows":
        return f"demand {task.at + 1}" if context.spec.seeds > 1 else "demand"
    if task.what in ("bound", "plan"):
        return task.what if task.at == 0 else f"{task.what} {context.policies[task.at].name}"
    if task.what == "again":
        variant, later = context.again[task.at]
        levers = levers_of(context.loaded.simulation, context.spec.fluid)
        kept = "" if variant.releases == levers.releases else ", idle kept on"
        kept += "" if variant.chooses == levers.chooses else ", best variants"
        kept += "" if not levers.waits else ", waiting" if variant.waits else ", at once"
        seed = f", seed {context.loaded.simulation.seed + later}" if later else ""
        return f"{variant.policy.name}{kept}{seed}"
    return context.policies[task.at].name


def levers_of(simulation: Simulation, fluid: bool = False) -> Levers:
    """Those that a scenario has. Flows do not wait."""
    asked = simulation.workload.names.models
    chooses = any(model in simulation.fleet.aliases for model in asked)
    return Levers(simulation.autoscaling is not None, chooses, simulation.defers and not fluid)


def run_variant(policy: Policy, asked: bool, levers: Levers) -> PolicyVariant:
    """As which a policy of a study runs: what may wait does under those that were asked for, and
    runs at once under the baselines."""
    return PolicyVariant(policy, *levers._replace(waits=levers.waits and asked))


def _best_only(simulation: Simulation) -> Simulation:
    """Requests for an alias go to the best of its variants."""
    fleet = simulation.fleet
    aliases = {
        name: replace(alias, floors=QualityFloors(alias.variants[-1].quality), tenants={})
        for name, alias in fleet.aliases.items()
    }
    return replace(simulation, fleet=replace(fleet, aliases=aliases))


def limits_of(policy: Policy) -> tuple[Budget, ...]:
    """What of a policy a bound depends on: its latency budgets, rung by rung."""
    return tuple(dict.fromkeys(budget_of(Budget(), params) for params in rungs_of(policy)))


def worth(context: StudyContext) -> int:
    """Processes that a study is worth: one for a small workload, else one a core."""
    count = 0
    for traffic in context.loaded.simulation.workload.chunks():
        count += len(traffic)
        if count >= _WORTH_A_PROCESS:
            return os.cpu_count() or 1
    return 1


def run_task(context: StudyContext, place: int, task: Task) -> Any:
    """A task, number ``place`` of all: (Bound, WorkloadTotals), Plans, a StudyRun, or None where
    what it made is in the store.
    """

    def share(done: float) -> None:
        context.on_progress(place, done)

    simulation = context.loaded.simulation
    found: Any = None
    if task.what == "engine":
        ready = fluid.make_ready if context.spec.fluid else run.make_ready
        ready(simulation, context.policies[0])
    elif task.what == "signal":
        start, end = simulation.start, simulation.start + simulation.duration_s
        context.store.put(task, signal_columns(context.parts[task.at], start, end))
    elif task.what == "flows":
        context.store.put(task, gather(_seeded(context, task.at), HOUR_S, share))
    elif task.what == "bound":
        counted = CountedWorkload(simulation)
        policy = context.policies[task.at]
        bounded = bound(
            replace(simulation, workload=counted), policy, progress=share, whole=context.spec.plans
        )
        found = bounded, counted.totals()
    elif task.what == "plan":
        found = plans(simulation, context.policies[task.at], progress=share)
    elif task.what == "again":
        found = _run_again(context, context.again[task.at], share)
    else:
        found = _run(context, task.at, share)
    share(1.0)
    return found


def _seeded(context: StudyContext, later: int) -> Simulation:
    """The scenario under a later seed: other requests where they are made up, other draws."""
    simulation = context.loaded.simulation
    if not later:
        return simulation
    seed = simulation.seed + later
    return load(context.spec.file, context.spec.policies, seed=seed).simulation


def _with_signal(context: StudyContext, simulation: Simulation) -> Simulation:
    """With the signal that was computed for all; it depends on no seed and no policy."""
    start, end = simulation.start, simulation.start + simulation.duration_s
    parts = [context.store.get(Task("signal", part)) for part in range(len(context.parts))]
    signal = PrecomputedSignal(context.loaded.simulation.signal, start, end, side_by_side(parts))
    return replace(simulation, signal=signal)


def _run_again(
    context: StudyContext, wanted: VariantRun, share: Callable[[float], None]
) -> PolicyResult:
    variant = wanted.variant
    simulation = _with_signal(context, _lever(_seeded(context, wanted.later), variant))
    if context.spec.fluid:
        flows: Demand = context.store.get(Task("flows", wanted.later))
        return fluid.run_fluid(simulation, variant.policy, flows, progress=share)
    if simulation.defers:
        return _send(context, simulation, wanted, share)[2].result
    return run.simulate(simulation, variant.policy, progress=share)


def _lever(simulation: Simulation, variant: PolicyVariant) -> Simulation:
    """The scenario with the levers that ``variant`` uses, but for waiting."""
    if not variant.releases:
        simulation = replace(simulation, autoscaling=None)
    return simulation if variant.chooses else _best_only(simulation)


def _send(
    context: StudyContext,
    simulation: Simulation,
    wanted: VariantRun,
    share: Callable[[float], None],
) -> tuple[DeferrableTraffic, Releases, Sent]:
    """Where some requests may wait: when ``wanted`` lets each go, and what became of it."""
    variant, later = wanted
    work = DeferrableTraffic.of(simulation)
    released = Releases.at_once(work)
    if variant.waits:
        others = _lever(_seeded(context, later + ANOTHER_SEED), variant)
        usual = usual_of(_with_signal(context, others), variant.policy)
        released = sent_at(simulation, work, usual, simulation.signal.view)
    return work, released, simulate_sent(simulation, variant.policy, work, released, share)


def _run(context: StudyContext, place: int, share: Callable[[float], None]) -> StudyRun:
    simulation = _with_signal(context, context.loaded.simulation)
    policy = context.policies[place]
    if context.spec.fluid:
        flows: Demand = context.store.get(Task("flows", 0))
        flowed = fluid.run_fluid(simulation, policy, flows, progress=share)
        return StudyRun(flowed, Occupancy(simulation.duration_s))
    if not simulation.defers:

        def simulated(sink: Sink | None, minutes: MinuteSink | None) -> PolicyResult:
            return run.simulate(simulation, policy, sink, share, minutes=minutes)

        return _kept(context, simulation, policy, simulated)
    levers = levers_of(simulation)
    variant = run_variant(policy, place < len(context.loaded.simulation.policies), levers)
    work, released, sent = _send(context, simulation, VariantRun(variant, 0), share)

    def told(sink: Sink | None, minutes: MinuteSink | None) -> PolicyResult:
        tell(simulation, policy, work, sent, released.needs, sink, minutes)
        return sent.result

    return _kept(context, simulation, policy, told)


def _kept(
    context: StudyContext,
    simulation: Simulation,
    policy: Policy,
    simulated: Callable[[Sink | None, MinuteSink | None], PolicyResult],
) -> StudyRun:
    """A run with its rows where they are to be kept."""
    if not context.spec.rows or context.spec.folder is None:
        occupancy = Occupancy(simulation.duration_s)
        return StudyRun(simulated(None, occupancy), occupancy)
    folder = context.spec.folder / folder_of(policy.name)
    with ParquetSink(folder, run.row_names(simulation)) as sink:
        occupancy = Occupancy(simulation.duration_s, sink)
        result = simulated(occupancy, None)
    return StudyRun(result, occupancy.alone())
