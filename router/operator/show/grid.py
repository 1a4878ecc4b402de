"""``carbon-router grid``: each source's last and next hours of a grid zone, as table, JSON, chart.

The chart tells sources apart by colour and marker alike, and kinds by dash (colours: Okabe and Ito,
2008, told apart by the colour-blind).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.config import format_time
from router.extras import need
from router.operator.survey import Curve, GridSurvey
from router.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = {
    "measured": "-", "estimated": "--", "forecast": ":", "climatology": "-.", "annual_mean": "-.",
}  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def render_grid(surveys: Sequence[GridSurvey]) -> RenderableType:
    """For each zone: who is used now, each source's figures, and what went wrong on the way."""
    parts: list[RenderableType] = []
    for found in surveys:
        parts += [Text(_headline(found), style="bold"), _table(found)]
        for served in found.provenance.served:
            old = ", stale" if served.stale else ""
            text = f"  {served.hours} h from {format_time(served.start)}: {served.source}"
            parts.append(Text(f"{text}, {_words(served.kind)}, {_age(served.age_s)} old{old}"))
        for attempt in found.attempts:
            if attempt.why:
                prefix = "used, but: " if attempt.ok else ""
                parts.append(Text(f"  {attempt.source}: {prefix}{attempt.why}", style="yellow"))
    return Group(*parts)


def grid_json(surveys: Sequence[GridSurvey]) -> str:
    """Everything that the surveys hold; times are UTC."""
    return json.dumps([_plain(found) for found in surveys], indent=2, allow_nan=False)


def plot_grid(surveys: Sequence[GridSurvey], path: Path) -> None:
    """One chart a survey, below each other. Raises ConfigError without matplotlib."""
    with need("plots", "a chart", file="--plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(10.0, 4.8 * len(surveys)), layout="constrained")
    FigureCanvasAgg(figure)
    charts = figure.subplots(len(surveys), 1, squeeze=False)[:, 0]
    for chart, found in zip(charts, surveys, strict=True):
        _draw(chart, found)
    figure.savefig(path, dpi=120)


def _draw(chart: Axes, found: GridSurvey) -> None:
    from matplotlib.dates import ConciseDateFormatter

    names = list(dict.fromkeys(curve.source for curve in found.curves))
    for curve in found.curves:
        source = names.index(curve.source)
        colour = _COLOURS[source % len(_COLOURS)]
        times = [_when(point.at) for point in curve.points]
        chart.fill_between(
            times,
            [point.low_g_per_kwh for point in curve.points],
            [point.high_g_per_kwh for point in curve.points],
            color=colour,
            alpha=0.13,
            linewidth=0,
        )
        chart.plot(
            times,
            [point.g_per_kwh for point in curve.points],
            color=colour,
            linestyle=_DASHES.get(curve.kind, "-"),
            marker=_MARKERS[source % len(_MARKERS)],
            markersize=4,
            markevery=max(1, len(times) // 12),
            linewidth=1.6,
            label=f"{curve.source}: {_words(curve.kind)}, {_age(curve.age_s)} old",
        )
    now = _when(found.now)
    chart.axvline(now, color="#555555", linewidth=1.2)
    chart.annotate(
        "now", (now, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -12),
        textcoords="offset points", color="#555555",
    )  # fmt: skip
    if found.used_curve is not None:
        chart.plot(
            [_when(point.at) for point in found.used_curve.points],
            [point.g_per_kwh for point in found.used_curve.points],
            color="#000000",
            linewidth=0.8,
            label="used for the coming hours",
        )
    if found.used is not None:
        chart.plot(
            [now], [found.used.g_per_kwh], marker="*", markersize=15, color="#000000",
            linestyle="none", label=f"used now: {_used(found)}",
        )  # fmt: skip
    chart.xaxis_date("UTC")
    ticks = chart.xaxis.get_major_locator()
    chart.xaxis.set_major_formatter(ConciseDateFormatter(ticks))  # type: ignore[no-untyped-call]
    chart.set_title(found.grid_zone, loc="left", fontweight="bold")
    chart.set_ylabel(f"gCO2e/kWh, {found.signal}")
    chart.set_xlabel("UTC; bands: 90 %")
    chart.set_ylim(bottom=0.0)
    chart.grid(alpha=0.3)
    if chart.get_legend_handles_labels()[1]:
        chart.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.16), ncols=2)


def _table(found: GridSurvey) -> Table | str:
    if not found.curves:
        return "no source said anything"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("source", "kind", "newest", "from", "to"):
        table.add_column(title, no_wrap=True)
    for title in ("g/kWh, least", "mean", "most"):
        table.add_column(title, justify="right", no_wrap=True)
    for curve in found.curves:
        values = [point.g_per_kwh for point in curve.points]
        table.add_row(
            curve.source,
            _words(curve.kind),
            f"{_age(curve.age_s)} old",
            format_time(curve.points[0].at // MINUTE_S * MINUTE_S),
            format_time(curve.points[-1].at // MINUTE_S * MINUTE_S),
            f"{min(values):.0f}",
            f"{sum(values) / len(values):.0f}",
            f"{max(values):.0f}",
        )
    return table


def _headline(found: GridSurvey) -> str:
    at = format_time(found.now // MINUTE_S * MINUTE_S)
    return f"{found.grid_zone}, {found.signal}, {at}: {_used(found)}"


def _used(found: GridSurvey) -> str:
    used = found.used
    if used is None:
        return "nobody knows it now"
    return (
        f"{used.g_per_kwh:.0f} g/kWh ({used.low_g_per_kwh:.0f}-{used.high_g_per_kwh:.0f}), "
        f"{_words(used.kind)} by {used.source}, {_age(used.age_s(found.now))} old"
    )


def _plain(found: GridSurvey) -> dict[str, Any]:
    used = found.used
    return {
        "grid_zone": found.grid_zone,
        "signal": found.signal,
        "now": format_time(found.now),
        "used": None
        if used is None
        else {
            "g_per_kwh": used.g_per_kwh,
            "low_g_per_kwh": used.low_g_per_kwh,
            "high_g_per_kwh": used.high_g_per_kwh,
            "kind": str(used.kind),
            "source": used.source,
            "age_s": used.age_s(found.now),
        },
        "coming": _curve(found.used_curve) if found.used_curve else None,
        "curves": [_curve(curve) for curve in found.curves],
        "served": [
            {**served._asdict(), "start": format_time(served.start), "kind": str(served.kind)}
            for served in found.provenance.served
        ],
        "hops": [attempt._asdict() for attempt in found.attempts],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    points = [{**point._asdict(), "at": format_time(point.at)} for point in curve.points]
    return {**curve._asdict(), "points": points}


def _words(kind: str) -> str:
    return str(kind).replace("_", " ")


def _age(age_s: float) -> str:
    if age_s < HOUR_S:
        return f"{age_s / MINUTE_S:.0f} min"
    hours = age_s / HOUR_S
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.0f} d"


def _when(unix_s: float) -> float:
    """Days since 1970, as matplotlib's date axes count."""
    return unix_s / DAY_S
