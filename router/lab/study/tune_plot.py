"""The trade-off that a search found: trials and front on the training span, and the later span."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from router.lab.sim.tune.figures import FIGURES, Figures
from router.lab.sim.tune.search import front
from router.lab.study.tune_files import plot_axes, span_text
from router.lab.study.tuning import Tuning

_SIZE_IN: Final = (11.0, 5.0)
# Okabe and Ito's colours, which colour-blind readers tell apart; marks differ as well.
_GREEN, _ORANGE, _GREY, _BLUE = "#009E73", "#E69F00", "#888888", "#0072B2"
_BASELINES: Final = "sDPvX<>"


def draw(tuning: Tuning, path: Path) -> Path:
    """Write the SVG, the same bytes for the same search; its path."""
    # Heavy, optional, and the Agg backend needs no display.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    y, x = plot_axes(tuning.search)
    with matplotlib.rc_context({"svg.hashsalt": "carbon-router", "svg.fonttype": "none"}):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=_SIZE_IN, layout="constrained")
        _draw_trials(left, tuning, x, y)
        _draw_rows(left, tuning, tuning.train, x, y)
        _draw_rows(right, tuning, tuning.test, x, y)
        left.set_title(f"training span, {span_text(tuning.spans.train)}")
        right.set_title(f"later span, {span_text(tuning.spans.test)}")
        for axes in (left, right):
            axes.set_xlabel(FIGURES[x].label)
            axes.set_ylabel(FIGURES[y].label)
            axes.grid(alpha=0.3)
            handles, labels = axes.get_legend_handles_labels()
            if handles:
                axes.legend(handles, labels, fontsize=8)
        if not tuning.test:
            text = "not simulated: no trial held the demands, or the search was interrupted"
            right.text(0.5, 0.5, text, ha="center", wrap=True, transform=right.transAxes)
        figure.suptitle(f"{tuning.source.name} on {tuning.loaded.simulation.name} (emulated)")
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return path


def _draw_trials(axes: Any, tuning: Tuning, x: str, y: str) -> None:
    found = tuning.search
    known = [t for t in found.trials if all(math.isfinite(t.figures[n]) for n in (x, y))]
    for feasible, label, mark, color in (
        (True, "trial", "o", _BLUE),
        (False, "breaks a demand", "x", _GREY),
    ):
        points = [(t.figures[x], t.figures[y]) for t in known if t.feasible is feasible]
        if points:
            axes.scatter(*zip(*points, strict=True), s=18, c=color, marker=mark, label=label,
                         alpha=0.6)  # fmt: skip
    line = sorted((t.figures[x], t.figures[y]) for t in front(known, (y, x)))
    if line:
        axes.plot(*zip(*line, strict=True), color=_BLUE, lw=1, drawstyle="steps-post",
                  label="front")  # fmt: skip


def _draw_rows(axes: Any, tuning: Tuning, rows: Mapping[str, Figures], x: str, y: str) -> None:
    marks = iter(_BASELINES)
    for name, values in rows.items():
        color, mark, size = _GREY, "", 45
        if name == tuning.tuned:
            color, mark, size = _GREEN, "*", 180
        elif name == tuning.untuned:
            color, mark, size = _ORANGE, "^", 80
        if all(math.isfinite(values[one]) for one in (x, y)):
            axes.scatter([values[x]], [values[y]], s=size, c=color, marker=mark or next(marks),
                         label=name, edgecolors="black", linewidths=0.5, zorder=3)  # fmt: skip
