"""``carbon-router energy``: what one answer costs, as tables, JSON, and a chart of the day.

Every figure says how it is known; a figure that is not known is a dash, or null.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.extras import need
from router.operator.footprint.places import PlaceIntensity
from router.operator.footprint.report import TYPICAL, Compared, EnergyReport, equal_batch
from router.operator.footprint.tables import (
    LOADS,
    ModelEnergy,
    shipped_everyday,
    shipped_models,
    shipped_tasks,
)
from router.units import J_PER_KWH, grams
from router.unknown_figures import or_dash, plain_values

_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_A_DAY: Final = 1e9
_J_PER_WH: Final = J_PER_KWH / 1000.0
# Where our figures and those of others part, by what weighs most.
WHY: Final = (
    "load: one answer alone pays for the whole machine, at a typical load it shares it with tens "
    "to hundreds. The last column says how many at a time would make ours equal theirs",
    "boundary: the story doubles the GPU's joules for all else; here 105 W of host a GPU and the "
    "PUE add a third to a half. Idle machines kept ready are in Gemini's figure alone",
    "length: joules grow with tokens. None but Mistral (400) says how many its answers had",
    "images, video: ours are of the newer run of the same family, one at a time; frames, steps and "
    "software differ. The story's video is more than 700 of its high-quality images; 8.6 s of "
    "HunyuanVideo are 736 of Stable Diffusion 3.5 Medium, 10 s of CogVideoX 1.5 are 212 (GPU)",
    "basis: grams here are location-based, average, life-cycle, of electricity alone. Gemini's "
    "are market-based: clean power that was bought counts; Mistral's hold the manufacture of "
    "servers, too",
    "machines: H100s and B200s with software of 2025 here, A100s of 2024 where it says so; "
    "Google's own chips, and others' unstated",
)


def render_energy(told: EnergyReport) -> RenderableType:
    """Joules by load, everyday things, grams by place and hour, a billion a day, and others."""
    parts: list[RenderableType] = [Text(_headline(told), style="bold"), _costs(told)]
    parts += [Text(line, style="dim") for line in _sources(told)]
    parts += [Text(""), Text("In everyday things, at the typical load", style="bold")]
    parts.append(_everyday(told))
    parts += [Text(""), Text(_place_headline(told), style="bold"), _grams(told)]
    parts += [Text(""), Text("A billion a day, at the typical load", style="bold"), _billion(told)]
    parts += [Text(""), Text("What others published, and ours", style="bold"), _published(told)]
    parts += [Text(line, style="dim") for line in _boundaries(told)]
    parts.append(Text("Why they differ:"))
    parts += [Text(f"  {line}", style="dim") for line in WHY]
    return Group(*parts)


def energy_json(told: EnergyReport) -> str:
    """Everything that the report holds, and what follows from it; unknown figures are null."""
    plain = plain_values(told)
    for compared, row in zip(told.published, plain["published"], strict=True):
        row["equal_batch"] = plain_values(equal_batch(compared))
    for one, row in zip(told.asked, plain["asked"], strict=True):
        row |= {"title": one.title, "unit": one.unit}
        row["grams"] = {place.label: one.grams(place) for place in told.places}
        row["wh"] = one.usual.facility_j / _J_PER_WH
    plain["boundary"] = "GPU and host (CPU, DRAM), times PUE"
    plain["grams_basis"] = "average, life-cycle, location-based gCO2e"
    return json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False)


def names_json() -> str:
    """Every model on every GPU, and every other task, with all that is known of each."""
    known = {"models": shipped_models(), "tasks": shipped_tasks()}
    return json.dumps(plain_values(known), indent=2, allow_nan=False, ensure_ascii=False)


def render_names() -> RenderableType:
    """Every model and other task that has a figure."""
    table = _table(("name", "parameters, billions", "known on", "unit"))
    for name in dict.fromkeys(model.model for model in shipped_models()):
        rows = [model for model in shipped_models() if model.model == name]
        size = f"{rows[0].active_params_b:g} of {rows[0].total_params_b:g}"
        table.add_row(name, size, ", ".join(f"{r.gpus}x {r.gpu}" for r in rows), "answer")
    for task in shipped_tasks():
        table.add_row(task.name, "", task.gpu or task.boundary, task.unit)
    return table


def plot_energy(told: EnergyReport, path: Path) -> None:
    """Grams of one answer of the first model by hour, a line a place. Raises ConfigError without
    matplotlib.
    """
    with need("plots", "a chart", file="--plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    chart = figure.subplots()
    one = told.asked[0]
    for index, place in enumerate(told.places):
        by_hour = place.by_hour or (place.g_per_kwh,) * 24
        chart.plot(
            range(24),
            [1000.0 * grams(one.usual.facility_j, value) for value in by_hour],
            color=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[index % len(_MARKERS)],
            linestyle="-" if place.by_hour else "--",
            markersize=4,
            label=f"{place.label}: {place.source}" + ("" if place.by_hour else ", one figure"),
        )
    chart.set_title(f"{one.title}: one {one.unit} at the typical load", loc="left")
    chart.set_xlabel("hour, UTC")
    chart.set_ylabel("mgCO2e, average life-cycle")
    chart.set_ylim(bottom=0.0)
    chart.set_xticks(range(0, 24, 3))
    chart.grid(alpha=0.3)
    chart.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _headline(told: EnergyReport) -> str:
    question = told.question
    tokens = f"{question.answer_tokens} token{'' if question.answer_tokens == 1 else 's'}"
    what = f"One answer of {tokens} to a prompt of {question.prompt_tokens}"
    if not any(isinstance(one.about, ModelEnergy) for one in told.asked):
        what = "One of each"
    return f"{what}; facility: GPU and host, times PUE {told.pue:g} ({told.pue_source})"


def _costs(told: EnergyReport) -> Table:
    table = _table(
        ("", "load", "answer known how"),
        ("batch", "prompt J", "answer J", "host J", "facility J", "Wh"),
    )
    for one in told.asked:
        for index, cost in enumerate(one.energies):
            table.add_row(
                one.title if index == 0 else "",
                cost.load,
                str(cost.provenance),
                or_dash(cost.batch, "{:.0f}"),
                _short(cost.prompt_j),
                _short(cost.answer_j),
                _short(cost.host_j),
                _short(cost.facility_j),
                _short(cost.facility_j / _J_PER_WH),
            )
    return table


def _sources(told: EnergyReport) -> list[str]:
    lines = []
    for one in told.asked:
        about = one.about
        if isinstance(about, ModelEnergy):
            spread = or_dash(about.spread, ", within a factor of {:.1f} for two of three models")
            lines.append(f"  {one.title}: {about.source}{'' if spread == '-' else spread}")
        else:
            inside = "" if about.boundary == "gpu" else "; host inside, a dash"
            lines.append(f"  {one.title}: per {about.unit}, {about.made}; {about.source}{inside}")
    lines.append("  prompt and host: estimated everywhere (docs/energy.md)")
    return lines


def _everyday(told: EnergyReport) -> Table:
    table = _table((), tuple(one.title for one in told.asked), last=("are", "source"))
    for thing in shipped_everyday():
        if thing.quantity == "joules":
            counts = [one.usual.facility_j / thing.value for one in told.asked]
            name = thing.thing
        else:
            counts = [one.grams(told.places[0]) / thing.value for one in told.asked]
            name = f"{thing.thing} ({told.places[0].label})"
        table.add_row(*map(_short, counts), name, thing.source)
    return table


def _place_headline(told: EnergyReport) -> str:
    per = ", ".join(dict.fromkeys(one.unit for one in told.asked))
    return f"mgCO2e per {per} at the typical load: average, life-cycle, location-based"


def _grams(told: EnergyReport) -> Table:
    table = _table(
        ("place", "known how", "cleanest hour", "dirtiest hour"),
        ("g/kWh", *(one.title for one in told.asked)),
    )
    for place in told.places:
        table.add_row(
            f"{place.label} {place.zone}".strip(),
            f"{place.when}, {place.source}",
            _hour(place, min),
            _hour(place, max),
            f"{place.g_per_kwh:.0f}",
            *(_short(1000.0 * one.grams(place)) for one in told.asked),
        )
    return table


def _hour(place: PlaceIntensity, which: Any) -> str:
    if not place.by_hour:
        return "-"
    hour = which(range(24), key=lambda h: place.by_hour[h])
    return f"{hour:02d} h UTC, {place.by_hour[hour]:.0f} g/kWh"


def _billion(told: EnergyReport) -> Table:
    table = _table(("",), ("MWh a day", *(f"t a day, {place.label}" for place in told.places)))
    for one in told.asked:
        mwh = one.usual.facility_j * _A_DAY / J_PER_KWH / 1000.0
        tonnes = (one.grams(place) * _A_DAY / 1e6 for place in told.places)
        table.add_row(one.title, _short(mwh), *map(_short, tonnes))
    return table


def _published(told: EnergyReport) -> Table:
    table = _table(
        ("", "what", "how known"),
        ("J", "g", "ours, J: alone", "typical", "full", "equal at a batch of", "ours, g, typical"),
    )
    place = told.places[0]
    for compared in told.published:
        figure = compared.figure
        ours = [_short(cost.facility_j) for cost in compared.ours]
        ours += ["-"] * (len(LOADS) - len(ours))
        table.add_row(
            figure.name,
            figure.what,
            figure.known,
            _short(figure.energy_j),
            f"{or_dash(figure.co2_g, '{:g}')} {figure.basis}".strip(),
            *ours,
            or_dash(equal_batch(compared), "{:.0f}"),
            *_ours_g(compared, place),
        )
    return table


def _ours_g(compared: Compared, place: PlaceIntensity) -> Sequence[str]:
    if not compared.ours:
        return ("-",)
    usual = compared.ours[min(TYPICAL, len(compared.ours) - 1)]
    emitted = grams(usual.facility_j, place.g_per_kwh)
    return (f"{_short(emitted)} in {place.label}",)


def _boundaries(told: EnergyReport) -> list[str]:
    figures = (compared.figure for compared in told.published)
    return [f"  {figure.name}: {figure.boundary}. {figure.source}" for figure in figures]


def _table(left: Sequence[str], right: Sequence[str] = (), last: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in left:
        table.add_column(title, overflow="fold")
    for title in right:
        table.add_column(title, justify="right", overflow="fold")
    for title in last:
        table.add_column(title, overflow="fold")
    return table


def _short(value: float) -> str:
    """Three significant digits, no exponent above a thousandth."""
    if value == value and abs(value) >= 1000.0:
        return f"{value:,.0f}"
    return or_dash(value, "{:.3g}")
