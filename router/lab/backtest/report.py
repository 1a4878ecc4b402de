"""The evaluation in the terminal: error beside the naive forecasts, coverage, regret."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from router.lab.backtest.evaluate import BacktestResult
from router.lab.backtest.metrics import Score
from router.lab.backtest.rolling import HORIZONS_H, METHODS

_OURS: Final = METHODS[0]
_NAIVE: Final = METHODS[1:]


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr, gone when done; what it yields takes the grid zone and the share done."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def on_progress(grid_zone: str, share: float) -> None:
            bar.update(task, description=grid_zone, completed=share)

        yield on_progress


def render(evaluation: BacktestResult) -> RenderableType:
    """Tables of an evaluation, then the files written."""
    start = datetime.fromtimestamp(evaluation.first_origin, UTC)
    parts: list[RenderableType] = [
        Text(
            f"{evaluation.file}: {len(evaluation.grid_zones)} grid zones, {evaluation.origins} "
            f"origins from {start:%Y-%m-%dT%H:%MZ}; horizon 1 h is the hour that begins then"
        ),
        _errors(evaluation),
        _intervals(evaluation),
    ]
    if evaluation.regrets:
        parts.append(_regrets(evaluation))
    parts += [Text(f"wrote {path}") for path in evaluation.written]
    return Group(*parts)


def _errors(evaluation: BacktestResult) -> Table:
    title = "MAPE of the forecaster, %, and its ratio to the best naive forecast"
    table = _table(title, "grid zone", [f"{h} h" for h in HORIZONS_H.tolist()])
    ratios: list[list[float]] = []
    for zone in evaluation.grid_zones:
        cells, row = [], []
        for horizon_h in HORIZONS_H.tolist():
            found = {s.method: s for s in _at(evaluation.scores, zone, horizon_h)}
            best = min(found[method].mape_pct for method in _NAIVE)
            ratio = found[_OURS].mape_pct / best if best > 0.0 else math.nan
            row.append(ratio)
            style = "bold red" if ratio >= 1.0 else ""
            cells.append(Text(f"{found[_OURS].mape_pct:.2f} ({ratio:.2f})", style=style))
        ratios.append(row)
        table.add_row(zone, *cells)
    means = [_mean(column) for column in zip(*ratios, strict=True)]
    table.add_section()
    table.add_row("mean ratio", *[f"({mean:.3f})" for mean in means])
    return table


def _intervals(evaluation: BacktestResult) -> Table:
    title = "All zones: MAE, pinball loss (g/kWh) and coverage of the intervals (%)"
    table = _table(title, "horizon", ["method", "MAPE %", "MAE", "pinball", "50", "90", "95"])
    for horizon_h in HORIZONS_H.tolist():
        for method in METHODS:
            rows = [s for s in evaluation.scores if s[1:3] == (horizon_h, method) and s.n]
            table.add_row(
                f"{horizon_h} h" if method == _OURS else "",
                method.replace("_", " "),
                f"{_mean(s.mape_pct for s in rows):.2f}",
                f"{_mean(s.mae_g for s in rows):.2f}",
                f"{_mean(s.pinball_g for s in rows):.2f}",
                *[
                    f"{100.0 * _mean(values):.1f}"
                    for values in (
                        [s.cover50 for s in rows],
                        [s.cover90 for s in rows],
                        [s.cover95 for s in rows],
                    )
                ],
            )
    return table


def _regrets(evaluation: BacktestResult) -> Table:
    title = "Regret of picking the zone forecast to be greenest, % over knowing which one is"
    table = _table(title, "method", [f"{h} h" for h in HORIZONS_H.tolist()])
    for method in METHODS:
        found = {r.horizon_h: r.regret_pct for r in evaluation.regrets if r.method == method}
        cells = [f"{found[h]:.2f}" if h in found else "-" for h in HORIZONS_H.tolist()]
        table.add_row(method.replace("_", " "), *cells)
    return table


def _table(title: str, first: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _at(scores: Iterable[Score], zone: str, horizon_h: int) -> list[Score]:
    return [s for s in scores if (s.zone, s.horizon_h) == (zone, horizon_h)]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
