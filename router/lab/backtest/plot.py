"""The error of each method over the horizon, a panel a grid zone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from router.lab.backtest.metrics import Score
from router.lab.backtest.rolling import HORIZONS_H, METHODS

_PANEL_IN: Final = (3.2, 2.4)
_COLUMNS: Final = 4
_DPI: Final = 120
_COLORS: Final = dict(zip(METHODS, ("#1b7f5c", "#b0b0b0", "#d08a2e", "#5d7bb5"), strict=True))


def draw(scores: Sequence[Score], path: Path) -> Path:
    """Write the PNG; its path. Raises ImportError without matplotlib (extra ``plots``)."""
    # Heavy, optional, and the Agg backend needs no display.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    zones = list(dict.fromkeys(row.zone for row in scores))
    columns = min(_COLUMNS, len(zones))
    rows = math.ceil(len(zones) / columns)
    size = (max(_PANEL_IN[0] * columns, 6.0), _PANEL_IN[1] * rows + 0.8)
    figure, panels = pyplot.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True
    )
    for panel in panels.flat[len(zones) :]:
        panel.set_visible(False)
    for zone, panel in zip(zones, panels.flat, strict=False):
        for method in METHODS:
            points = [row for row in scores if row.zone == zone and row.method == method]
            panel.plot(
                [row.horizon_h for row in points],
                [row.mape_pct for row in points],
                color=_COLORS[method],
                marker="o",
                markersize=3,
                linewidth=2.0 if method == METHODS[0] else 1.2,
                label=method.replace("_", " "),
            )
        panel.set_xscale("log")
        panel.set_xticks(HORIZONS_H.tolist(), [str(h) for h in HORIZONS_H.tolist()])
        panel.minorticks_off()
        panel.set_ylim(bottom=0.0)
        panel.set_title(zone, fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel("hours ahead")
    figure.supylabel("mean absolute percentage error, %")
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
    return path
