"""A search in the terminal while it runs (stderr, silent in a pipe), and its result after it."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from router.lab.sim.tune.search import Search
from router.lab.sim.tune.values import Goal, Trial
from router.lab.study.tune_files import (
    changes_text,
    constraints_text,
    figure_text,
    shown_figures,
    span_text,
    verdict,
)
from router.lab.study.tuning import Tuning


class TuneProgress:
    """A bar over the trials, with the best so far on the training span; a context manager."""

    def __init__(self, goal: Goal) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("what the grids will tell", total=goal.trials)

    def __enter__(self) -> TuneProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def batch(self, found: Search) -> None:
        """Some more trials are done."""
        best = found.best()
        name = found.goal.minimise[0]
        text = "no trial holds the demands yet"
        if best is not None:
            text = f"training, least {name} {figure_text(name, best.figures[name])}"
        self._bar.update(self._task, completed=found.count, description=text)

    def reporting(self, found: Search) -> None:
        """The search is over."""
        why = "stopped; " if found.stopped else ""
        text = f"{why}simulating the later span (Ctrl-C skips it)"
        self._bar.update(self._task, completed=found.count, description=text)


def render_tuning(tuning: Tuning) -> RenderableType:
    """Result, files and caveats; the training span's figures are not among them."""
    found = tuning.search
    head = (
        f"{tuning.source.name} on {tuning.loaded.simulation.name}: least "
        f"{', '.join(found.goal.minimise)} with {constraints_text(found)}; {found.count} trials"
        + (" (interrupted)" if found.stopped else "")
    )
    parts: list[RenderableType] = [Text(head, style="bold")]
    if tuning.best is None:
        parts += _refused(tuning)
    elif not tuning.test:
        text = (
            "interrupted before the later span was simulated: no policy was written, since what "
            "a search sees on the span it trained on is no result"
        )
        parts.append(Text(text, style="red"))
    else:
        parts += _result(tuning, tuning.best)
    parts += [Text(f"{what}: {path}") for what, path in tuning.wrote.items()]
    parts += [Text(f"note: {note}", style="dim") for note in tuning.loaded.notes]
    if tuning.loaded.notice:
        parts.append(Text(tuning.loaded.notice.strip(), style="dim"))
    return Group(*parts)


def _result(tuning: Tuning, best: Trial) -> list[RenderableType]:
    names = shown_figures(tuning.search)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"later span, {span_text(tuning.spans.test)}", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row, values in tuning.test.items():
        cells = [figure_text(name, values[name]) for name in names]
        table.add_row(row, *cells, style="bold" if row == tuning.tuned else "")
    style = "red" if tuning.broken() else "yellow" if tuning.gain() <= 0.0 else "green"
    return [
        table,
        Text(f"changed: {changes_text(tuning, best) or 'nothing; no trial did better'}"),
        *(Text(line, style=style) for line in verdict(tuning)),
        Text("figures are emulated: simulated energy at the intensities of the scenario's file"),
    ]


def _refused(tuning: Tuning) -> list[RenderableType]:
    found = tuning.search
    nearest = found.nearest()
    lines = ["no trial meets the demands on the training span: no policy was written"]
    if nearest is not None:
        values = ", ".join(f"{path} {value}" for path, value in nearest.values.items())
        lines.append(
            f"nearest: trial {nearest.number} ({values})"
            if nearest.number >= 0
            else "nearest: untuned"
        )
        for constraint in nearest.constraints:
            if constraint.excess(nearest.figures) > 0.0:
                name = constraint.figure
                value, before = nearest.figures[name], found.untuned[name]
                lines.append(
                    f"  {constraint} is broken: {figure_text(name, value)} "
                    f"(untuned {figure_text(name, before)})"
                )
    return [Text(line, style="red") for line in lines]
