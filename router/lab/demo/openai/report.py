"""The scene's table and lines, each figure with how it is known."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.lab.demo.openai import fleet as scene_fleet
from router.lab.demo.openai.asking import AskedChat, Ending
from router.lab.demo.openai.scene import Kill, Scene
from router.lab.replay.records import percentile
from router.unknown_figures import or_dash, plain_values

_MG = 1e3


class RegionRow(NamedTuple):
    """The answers of one region, or of all. Joules (GPU and host) and grams are estimates."""

    answers: int
    ttft_p50_ms: float
    ttft_p95_ms: float
    in_budget: int
    energy_j: float
    gco2e: float


class Figures(NamedTuple):
    """What the scene comes to. ``endings``: questions by `Ending`; ``whys``: reasons of those that
    were not answered. ``moved``: answers for which a second server had to be asked.

    ``predicted_gco2e``, ``latency_first_gco2e``: of the ``compared`` answers whose receipts have
    both: of what was chosen, and of what was nearest, before they ran.
    """

    endings: Counter[Ending]
    whys: Counter[str]
    moved: int
    by_region: dict[str, RegionRow]
    total: RegionRow
    compared: int
    predicted_gco2e: float
    latency_first_gco2e: float


def figures(asked: Sequence[AskedChat], regions: Sequence[str]) -> Figures:
    """Everything that is counted."""
    answered = [one for one in asked if one.ending is Ending.ANSWERED]
    both = [
        (told["predicted_gco2e"], told["latency_first_gco2e"])
        for told in (one.receipt for one in answered)
        if told.get("predicted_gco2e") is not None and told.get("latency_first_gco2e") is not None
    ]
    return Figures(
        endings=Counter(one.ending for one in asked),
        whys=Counter(f"{one.ending} {one.why}" for one in asked if one.why),
        moved=sum(one.receipt.get("attempts", 1) > 1 for one in answered),
        by_region={name: _row([one for one in answered if one.region == name]) for name in regions},
        total=_row(answered),
        compared=len(both),
        predicted_gco2e=math.fsum(chosen for chosen, _ in both),
        latency_first_gco2e=math.fsum(nearest for _, nearest in both),
    )


def _row(answered: Sequence[AskedChat]) -> RegionRow:
    ttft_ms = sorted(one.ttft_ms for one in answered if math.isfinite(one.ttft_ms))
    return RegionRow(
        len(answered),
        percentile(ttft_ms, 0.5),
        percentile(ttft_ms, 0.95),
        sum(value <= scene_fleet.TTFT_BUDGET_MS for value in ttft_ms),
        _total(answered, "energy_j"),
        _total(answered, "gco2e"),
    )


def _total(answered: Sequence[AskedChat], key: str) -> float:
    """NaN where a receipt lacks it: a sum of some would pass for the sum of all."""
    return math.fsum(one.receipt.get(key, math.nan) for one in answered)


def is_whole(found: Figures) -> bool:
    """Whether nothing was lost, and more than half was answered."""
    return (
        not found.endings[Ending.LOST]
        and 2 * found.endings[Ending.ANSWERED] > found.endings.total()
    )


def render(scene: Scene) -> RenderableType:
    """The table and the lines, in order."""
    found = figures(scene.asked, list(scene.config.fleet.regions))
    return Group(
        _table(scene, found),
        *(Text(line) for line in (*_outcome(found, scene.kill), _against(found))),
        *_answer(scene.asked),
        *(Text(line, style="dim") for line in _known(scene)),
    )


def _table(scene: Scene, found: Figures) -> Table:
    table = Table(
        title=f"carbon-first over OpenAI's HTTP: {found.total.answers} of {len(scene.asked)} "
        "questions answered by real llama.cpp servers",
        title_justify="left",
    )
    columns = (
        "region", "grid zone", "grid g/kWh", "RTT", "answers", "p50 TTFT", "p95 TTFT", "J (est.)",
        "mgCO2e (est.)",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="left" if name in ("region", "grid zone") else "right")
    for name, region in scene.config.fleet.regions.items():
        known = [one.g_per_kwh[name] for one in scene.readings if name in one.g_per_kwh]
        span = f"{min(known):.0f}-{max(known):.0f}" if known else "-"
        rtt = f"{scene_fleet.rtt_ms(name):.0f} ms"
        table.add_row(name, region.grid_zone, span, rtt, *_cells(found.by_region[name]))
    table.add_section()
    table.add_row("all", "", "", "", *_cells(found.total))
    return table


def _cells(row: RegionRow) -> list[str]:
    return [
        str(row.answers),
        or_dash(row.ttft_p50_ms, "{:.0f} ms"),
        or_dash(row.ttft_p95_ms, "{:.0f} ms"),
        or_dash(row.energy_j, "{:.0f}") if row.answers else "-",
        or_dash(row.gco2e * _MG, "{:.3f}") if row.answers else "-",
    ]


def _outcome(found: Figures, kill: Kill | None) -> list[str]:
    """What became of everything, and what the kill did."""
    count = found.endings
    lines = [
        f"Lost: {count[Ending.LOST]}. Moved: {found.moved} (asked of a second server, and answered "
        f"by it). Cut in mid-stream and told so by an error event: {count[Ending.CUT]}. Refused: "
        f"{count[Ending.REFUSED]}. First token within {scene_fleet.TTFT_BUDGET_MS:.0f} ms: "
        f"{found.total.in_budget} of {found.total.answers}."
    ]
    if found.whys:
        lines.append("Not answered: " + ", ".join(f"{n} {why}" for why, n in found.whys.items()))
    if kill is not None:
        g = or_dash(kill.reading.g_per_kwh.get(kill.region, math.nan), "{:.0f} g/kWh")
        lines.append(
            f"llama-{kill.region}, the greenest then ({g}), was killed by SIGKILL. Under way then, "
            f"in all regions: {kill.waiting} without a token yet, {kill.streaming} streaming."
        )
    return lines


def _against(found: Figures) -> str:
    if not found.latency_first_gco2e > 0.0:
        return "Latency-first: no receipt says what it would have emitted."
    saved = 1.0 - found.predicted_gco2e / found.latency_first_gco2e
    return (
        f"Latency-first would have emitted {found.latency_first_gco2e * _MG:.3f} mg, the choices "
        f"made {found.predicted_gco2e * _MG:.3f} mg ({-saved:+.0%}): both predicted, of the "
        f"{found.compared} answers, by their receipts (latency_first_gco2e, predicted_gco2e). The "
        f"table's {or_dash(found.total.gco2e * _MG, '{:.3f}')} mg are reckoned with how long each "
        "answer really took, which need not be what the profile says."
    )


def _answer(asked: Sequence[AskedChat]) -> list[Text]:
    """One whole answer, and what it says that it took."""
    whole = [one for one in asked if one.ending is Ending.ANSWERED and one.energy]
    if not whole:
        return []
    one = whole[0]
    energy = json.dumps(one.energy)
    return [
        Text(f"One answer: {one.question.text!r} -> {' '.join(one.text.split())!r}"),
        Text(f"its usage.energy: {energy}"),
    ]


def _known(scene: Scene) -> list[str]:
    """How each figure is known."""
    grid = ", ".join(sorted({kind for one in scene.readings for kind in one.kinds.values()}))
    pue = scene.config.fleet.regions[scene_fleet.PLACES[0].name].pue
    return [
        "TTFT: measured, by the caller, on this machine, of real answers; the regions' distance is "
        "in it, added by a relay (RTTs between Azure regions). The machine has "
        f"{scene.cores} cores; its load average at the end was {scene.load:.1f}: beyond the cores "
        "everything waits.",
        f"Joules and grams: {energy_kinds(scene.asked)}, by the profile {scene_fleet.PROFILE}, "
        "whose watts are assumed, and the reported tokens. The table's joules are a server's; "
        f"grams and usage.energy count them times PUE, {pue:g}.",
        f"Grid: historical ({scene_fleet.GRID_SOURCE}), replayed; known to the gateway as {grid}; "
        "least and greatest that it knew.",
    ]


def energy_kinds(asked: Sequence[AskedChat]) -> str:
    """How receipts say that joules are known."""
    kinds = {str(one.receipt["energy_kind"]) for one in asked if "energy_kind" in one.receipt}
    return ", ".join(sorted(kinds)) or "unknown"


def as_json(scene: Scene) -> dict[str, Any]:
    """The figures and every question, for machines."""
    kill = scene.kill
    return {
        "carbon_start_unix_s": scene.period.carbon_start,
        "carbon_speed": scene.period.speed,
        "energy_kind": energy_kinds(scene.asked),
        "profile": scene_fleet.PROFILE,
        "figures": plain_values(figures(scene.asked, list(scene.config.fleet.regions))),
        "load_average": scene.load,
        "cores": scene.cores,
        "killed": None if kill is None else kill.region,
        "questions": [
            {
                "at_s": one.question.at_s,
                "question": one.question.text,
                "ending": one.ending.value,
                "why": one.why,
                "region": one.region,
                "ttft_ms": plain_values(one.ttft_ms),
                "answer": one.text,
                "receipt": dict(one.receipt),
            }
            for one in scene.asked
        ],
    }
