"""What a search leaves behind: the tuned policy with its evidence, and every trial."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from router import __version__
from router.config import format_time
from router.config.document import parse
from router.config.free_parameters import value_of
from router.config.policy import PolicySchema
from router.errors import CarbonRouterError
from router.extras import need
from router.lab.sim.simulation import Simulation
from router.lab.sim.tune.figures import FIGURES, Figures
from router.lab.sim.tune.search import Search, front
from router.lab.sim.tune.values import Trial
from router.lab.study.tuning import Tuning
from router.units import DAY_S, HOUR_S
from router.unknown_figures import or_dash

_MARK: Final = "# Tuned by carbon-router "
_ALWAYS: Final = ("gco2e", "gco2e_consequential", "slo", "completed", "ttft_p95_ms", "e2e_p95_ms")
_WIDTH: Final = 96


def require_matplotlib() -> None:
    """Raises ConfigError naming the extra when the front could not be drawn."""
    with need("plots", "the Pareto plot", file="tune"):
        import matplotlib  # noqa: F401


def write_trials(found: Search, best: Trial | None, path: Path) -> None:
    """One row a trial, figures of the training span. The file is whole at any time."""
    axes = plot_axes(found)
    pareto = {trial.number for trial in front(found.trials, axes)}
    free = list(found.trials[0].values) if found.trials else []
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["trial", "feasible", "excess", "pareto", "chosen", *free, *FIGURES])
        for trial in found.trials:
            number = trial.number if trial.number >= 0 else "untuned"
            rows.writerow([
                number, int(trial.feasible), f"{trial.excess:.6g}",
                int(trial.number in pareto), int(best is not None and trial.number == best.number),
                *(_scalar(trial.values[path]) for path in free),
                *("" if math.isnan(v) else repr(v) for v in (trial.figures[n] for n in FIGURES)),
            ])  # fmt: skip
    part.replace(path)


def plot_axes(found: Search) -> tuple[str, str]:
    """Two figures whose trade-off is shown: the first two of the search, or the first one and
    a latency.
    """
    first, *rest = found.goal.minimise
    latencies = [d.figure for d in found.goal.constraints if d.figure.endswith("_ms")]
    others = [*rest, *latencies, "e2e_p95_ms", "gco2e"]
    return first, next(name for name in others if name != first)


def shown_figures(found: Search) -> list[str]:
    """Names of the figures that a reader wants to see, those of the question first."""
    asked = [*found.goal.minimise, *(constraint.figure for constraint in found.constraints)]
    return list(dict.fromkeys([*asked, *_ALWAYS]))


def write_policy(tuning: Tuning, path: Path) -> Path:
    """The policy's own text with the new values, under its evidence; its path."""
    body = rewritten(_without_evidence(tuning.source.text), tuning.changes(), tuning.tuned_schema())
    path.write_text("\n".join([*evidence(tuning), "", body]), encoding="utf-8")
    return path


def rewritten(text: str, changes: Mapping[str, Any], wanted: PolicySchema) -> str:
    """``text`` of a policy file with ``changes`` by path, everything else as it was.

    Where the text cannot be changed in place (an alias, an unusual layout) the policy is written
    anew, without its comments.
    """
    try:
        found = text
        for path, value in changes.items():
            found = _set(found, path.split("."), _scalar(value))
        if PolicySchema.model_validate(parse(found, "")).model_dump() == wanted.model_dump():
            return found
    except (ValueError, CarbonRouterError, yaml.YAMLError):
        pass
    values = wanted.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    anew: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return anew


def evidence(tuning: Tuning) -> list[str]:
    """Comment lines: what was asked, of which data, and what came of it."""
    found, best = tuning.search, tuning.best
    assert best is not None
    goal = found.goal
    feasible = sum(trial.feasible for trial in found.trials if trial.number >= 0)
    simulation = tuning.loaded.simulation
    lines = [
        f"{_MARK}{__version__} from {tuning.source.file}.",
        f"Least {', '.join(goal.minimise)} with {constraints_text(found)}.",
        f"Scenario {simulation.name}, SHA-256 {tuning.inputs.digest}.",
        f"Search seed {goal.seed}, {found.count} trials in batches of {goal.batch}"
        + (" (interrupted)" if found.stopped else "")
        + f", of which {feasible} held every demand.",
        f"Trained on {span_text(tuning.spans.train)}; reported on {span_text(tuning.spans.test)}, "
        "which the search did not see.",
        "Changed: " + (changes_text(tuning, best) or "nothing; no trial did better") + ".",
        f"Figures are emulated; grams at the intensities of {_grid(tuning)}.",
    ]
    if tuning.loaded.notice:
        lines.append(tuning.loaded.notice.strip())
    names = shown_figures(found)
    lines += ["", *_table("later span", tuning.test, names)]
    lines += ["", *_table("training span", tuning.train, names), "", *verdict(tuning)]
    return [f"# {line}".rstrip() if not line.startswith("#") else line
            for paragraph in lines for line in paragraph.splitlines() or [""]]  # fmt: skip


def verdict(tuning: Tuning) -> list[str]:
    """What the later span says of the tuned policy."""
    name = tuning.search.goal.minimise[0]
    gain = tuning.gain()
    than = "less" if gain >= 0.0 else "MORE"
    lines = [f"On the later span: {abs(gain):.2%} {than} {name} than the untuned policy."]
    if gain <= 0.0:
        lines.append("NO GAIN where it was not trained: keep the untuned policy.")
    broken = tuning.broken()
    if not broken:
        lines.append("Every demand holds there.")
    for constraint in broken:
        value = tuning.test[tuning.tuned][constraint.figure]
        other = tuning.test[tuning.untuned][constraint.figure]
        lines.append(
            f"NOT FIT TO SERVE: {constraint} does not hold there ({value:.6g}; untuned "
            f"{other:.6g})."
        )
    if min(span.duration_s for span in tuning.spans) < DAY_S:
        lines.append(
            "The spans hold other hours of the day: the search did not see all of them. A scenario "
            "of two days or more is cut at whole days."
        )
    return lines


def constraints_text(found: Search) -> str:
    """The constraints, and which of them nobody asked for."""
    asked = [str(constraint) for constraint in found.constraints if not constraint.own]
    own = [
        f"{constraint} (not below untuned)" for constraint in found.constraints if constraint.own
    ]
    return ", ".join([*asked, *own])


def span_text(span: Simulation) -> str:
    """Such as ``2022-05-14T07:00Z + 14 h``."""
    return f"{format_time(span.start)} + {span.duration_s / HOUR_S:g} h"


def changes_text(tuning: Tuning, best: Trial) -> str:
    """Which values are others now."""
    source = tuning.source.schema
    pairs = ((path, value_of(source, path), value) for path, value in best.values.items())
    return ", ".join(
        f"{path} {_scalar(old)} -> {_scalar(new)}" for path, old, new in pairs if old != new
    )


def figure_text(name: str, value: float) -> str:
    """A figure with as many digits as are worth reading."""
    return or_dash(value, "{:.4f}" if FIGURES[name].share else "{:.5g}")


def _grid(tuning: Tuning) -> str:
    signal = tuning.loaded.simulation.carbon_signal
    return f"{tuning.inputs.schema.carbon.file} ({signal.basis}, {signal.factors})"


def _table(title: str, rows: Mapping[str, Figures], names: Sequence[str]) -> list[str]:
    cells = [[title, *names]]
    for row, values in rows.items():
        cells.append([row, *(figure_text(name, values[name]) for name in names)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *rest in cells:
        padded = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]))
    return lines


def _without_evidence(text: str) -> str:
    """``text`` without what an earlier search wrote above it."""
    if not text.startswith(_MARK):
        return text
    lines = text.splitlines(keepends=True)
    first = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[first:]).lstrip("\n")


def _scalar(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _set(text: str, steps: Sequence[str], scalar: str) -> str:
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    for at, step in enumerate(steps):
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("not a mapping")
        child = next((value for key, value in node.value if key.value == step), None)
        if child is None:
            return _insert(text, node, steps[at:], scalar)
        node = child
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError("not a scalar")
    return text[: node.start_mark.index] + scalar + text[node.end_mark.index :]


def _insert(text: str, node: yaml.MappingNode, steps: Sequence[str], scalar: str) -> str:
    """A key that is not there yet: at the end of a flow mapping, else above `free` or the first."""
    entry = f"{steps[-1]}: {scalar}"
    for step in reversed(steps[:-1]):
        entry = f"{step}: {{{entry}}}"
    if node.flow_style:
        end = int(node.end_mark.index) - 1
        return text[:end] + (", " if node.value else "") + entry + text[end:]
    keys = [key for key, _ in node.value]
    key = next((key for key in keys if key.value == "free"), keys[0])
    at, column = int(key.start_mark.index), int(key.start_mark.column)
    return text[:at] + entry + "\n" + " " * column + text[at:]
