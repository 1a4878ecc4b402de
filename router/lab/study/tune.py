"""``carbon-router tune``: search on a scenario's first span, report on its later one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from router.config.loading import parse_policy, shipped_policies
from router.lab.sim.scenario.assemble import baseline_policies
from router.lab.sim.scenario.loading import load
from router.lab.sim.tune.engines import engine
from router.lab.sim.tune.figures import Figures, parse_constraints, parse_figure
from router.lab.sim.tune.search import Evaluation, Evaluator, Search, Subject, search
from router.lab.sim.tune.train_test import precompute, split
from router.lab.sim.tune.values import Goal, Trial
from router.lab.study.input_files import read_inputs
from router.lab.study.tune_files import require_matplotlib, write_policy, write_trials
from router.lab.study.tune_plot import draw
from router.lab.study.tune_progress import TuneProgress
from router.lab.study.tuning import PolicySource, Tuning
from router.model import Policy

TRIALS: Final = "trials.csv"
PLOT: Final = "pareto.svg"
_AGAIN: Final = 1.05


def run_tune(
    file: Path,
    policy: str,
    *,
    minimise: Sequence[str] = ("gco2e",),
    subject_to: Sequence[str] = (),
    trials: int = 40,
    jobs: int = 1,
    batch: int = 4,
    train_share: float = 0.6,
    out: Path = Path("out/tune"),
    engine_name: str = "local",
    seed: int | None = None,
) -> Tuning:
    """Tune ``policy`` (a shipped name, or a path relative to the working folder) on a scenario.

    Writes the trials after every batch, then the tuned policy and the Pareto plot into ``out``.
    Raises ConfigError and TraceError as `load`, ConfigError for anything else that is wrong with
    the question, CarbonRouterError when a worker fails.
    """
    require_matplotlib()
    figures = tuple(dict.fromkeys(parse_figure(name, "--minimise") for name in minimise))
    constraints = parse_constraints(subject_to)
    source = _source(policy)
    loaded = load(file, [policy])
    simulation = loaded.simulation
    goal = Goal(figures, constraints, trials, batch, simulation.seed if seed is None else seed)
    spans = split(simulation, train_share)
    subject = Subject(source.schema, source.name, simulation.carbon_signal)
    with TuneProgress(goal) as shown:
        precompute(simulation.signal, spans)
        out.mkdir(parents=True, exist_ok=True)

        written = 0

        def on_batch(found: Search) -> None:
            nonlocal written
            # A file that is written whole each time must not be written after every few trials.
            if found.count >= _AGAIN * written:
                write_trials(found, None, out / TRIALS)
                written = found.count
            shown.batch(found)

        with engine(engine_name, spans, jobs) as evaluator:
            found = search(subject, goal, evaluator, on_batch)
            tuning = Tuning(
                loaded, read_inputs(file), spans, source, found, found.best(),
                {f"{source.name} (untuned)": found.untuned},
            )  # fmt: skip
            if tuning.best is not None:
                shown.reporting(found)
                _report(tuning, subject, tuning.best, evaluator)
    write_trials(found, tuning.best, out / TRIALS)
    tuning.wrote["trials"] = out / TRIALS
    if tuning.best is not None and tuning.test:
        tuning.wrote["policy"] = write_policy(tuning, out / f"{tuning.tuned}.yaml")
    tuning.wrote["plot"] = draw(tuning, out / PLOT)
    return tuning


def _source(policy: str) -> PolicySource:
    # As for `simulate`: a path is relative to the working folder.
    if policy.endswith((".yaml", ".yml")) or "/" in policy:
        path = Path(policy).resolve()
        schema, name = parse_policy(str(path), path)
        return PolicySource(
            schema, schema.name or name, path.read_text(encoding="utf-8-sig"), path.name
        )
    schema, name = parse_policy(policy, Path("--policy"))
    text = shipped_policies()[policy].read_text(encoding="utf-8")
    return PolicySource(schema, schema.name or name, text, f"{policy}.yaml")


def _report(tuning: Tuning, subject: Subject, best: Trial, evaluator: Evaluator) -> None:
    """Simulate both spans under whatever is not known there; an interrupt leaves them unknown."""
    untuned = subject.policy()
    baselines = baseline_policies([untuned], subject.signal)
    known: Mapping[str, Figures] = {**tuning.train, tuning.tuned: best.figures}
    wanted: list[tuple[str, Evaluation]] = []
    for name, policy in _rows(tuning, untuned, subject.policy(best.values), baselines).items():
        wanted.append((name, Evaluation("test", policy)))
        if name not in known:
            wanted.append((name, Evaluation("train", policy)))
    spans: dict[str, dict[str, Figures]] = {"train": dict(known), "test": {}}
    try:
        for place, values in evaluator.run([evaluation for _, evaluation in wanted]):
            name, evaluation = wanted[place]
            spans[evaluation.span][name] = values
    except KeyboardInterrupt:
        tuning.search.stopped = True
        return
    order = [tuning.tuned, tuning.untuned, *(policy.name for policy in baselines)]
    tuning.train = {name: spans["train"][name] for name in order}
    tuning.test = {name: spans["test"][name] for name in order}


def _rows(
    tuning: Tuning, untuned: Policy, tuned: Policy, baselines: Sequence[Policy]
) -> dict[str, Policy]:
    found = {tuning.tuned: tuned, tuning.untuned: untuned}
    return found | {policy.name: policy for policy in baselines}
