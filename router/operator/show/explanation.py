"""``carbon-router explain``: every candidate with every term of its score, as table or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.config import format_time
from router.core.explanation import Candidate, Explanation
from router.core.residency import listed
from router.model import Budget, Decision, Intensity, Kind
from router.operator.check import Explained
from router.units import HOUR_S, MINUTE_S
from router.unknown_figures import plain_values

_COLUMNS = (
    ("", "right"),
    ("endpoint", "left"),
    ("model", "left"),
    ("grid zone", "left"),
    ("g/kWh", "right"),
    ("known how, age", "left"),
    ("PUE", "right"),
    ("load", "right"),
    ("RTT", "right"),
    ("delay", "right"),
    ("TTFT", "right"),
    ("TPOT", "right"),
    ("e2e", "right"),
    ("J", "right"),
    ("gCO2e", "right"),
    ("premium", "right"),
    ("cost", "right"),
    ("", "left"),
)


def render_explained(explained: Explained) -> RenderableType:
    """The decision, then what went wrong on the way to its intensities, and marginal ones."""
    notes = []
    for zone, attempts in explained.attempts.items():
        for attempt in attempts:
            if attempt.why:
                prefix = "used, but " if attempt.ok else ""
                notes.append(
                    Text(f"{zone}: {attempt.source}: {prefix}{attempt.why}", style="yellow")
                )
    at = explained.explanation.at
    for zone, value in explained.marginal.items():
        text = (
            f"{zone}: marginal {value.g_per_kwh:.0f} g/kWh ({value.low_g_per_kwh:.0f}-"
            f"{value.high_g_per_kwh:.0f}), {value.kind}, {_age(value, at)}, from {value.source}; "
            "not decided by"
        )
        notes.append(Text(text, style="dim"))
    return Group(render_explanation(explained.explanation), *notes)


def explained_json(explained: Explained) -> str:
    """Everything that was explained; figures that are unknown or unbounded are null.

    ``attempts`` and ``marginal``: by grid zone.
    """
    plain = plain_values(explained.explanation)
    plain["at"] = format_time(explained.explanation.at)
    plain["hops"] = plain_values(explained.attempts)
    plain["marginal"] = plain_values(explained.marginal)
    return json.dumps(plain, indent=2, allow_nan=False)


def render_explanation(explanation: Explanation) -> RenderableType:
    """The decision, what it was asked, and a table of candidates by rank."""
    parts: list[RenderableType] = [*_question(explanation), _answer(explanation)]
    parts.append(_table(explanation))
    parts += [Text(line, style="dim") for line in _legend(explanation)]
    return Group(*parts)


def _question(explanation: Explanation) -> list[Text]:
    request, expected = explanation.request, explanation.expected
    model = request.model + (f" version {request.version}" if request.version else "")
    where = f" from {request.origin}" if request.origin else ""
    only = f", only in {listed(explanation.residency)}" if explanation.residency else ""
    formula = " + ".join(
        f"{weight:g} x {_TERMS[name]}"
        for name, weight in explanation.weights._asdict().items()
        if weight
    )
    return [
        Text(f"{model}{where}{only}, at {format_time(explanation.at)}", style="bold"),
        Text(
            f"expected: {expected.input_tokens:.0f} tokens in, {expected.output_tokens:.0f} out "
            f"({expected.output_tokens_quantile:.0f} at p{explanation.quantile * 100:g}), "
            f"network {explanation.network_j:.2g} J"
        ),
        Text(
            f"budgets at p{explanation.quantile * 100:g} "
            f"(per token at p{explanation.tpot_quantile * 100:g}): {_budget(explanation.budget)}"
        ),
        Text(f"policy {explanation.policy}: cost = {formula}"),
    ]


_TERMS: Mapping[str, str] = {
    "per_gco2e": "gCO2e",
    "per_ttft_ms": "TTFT",
    "per_e2e_ms": "e2e",
    "per_load": "load",
    "per_turn": "requests given so far",
}


def _budget(budget: Budget) -> str:
    limits = (("TTFT", budget.ttft_ms), ("TPOT", budget.tpot_ms), ("e2e", budget.e2e_ms))
    held = [f"{name} {limit:g} ms" for name, limit in limits if math.isfinite(limit)]
    return ", ".join(held) or "none"


def _answer(explanation: Explanation) -> Text:
    decision = explanation.decision
    if decision is None:
        text = f"refused ({explanation.refusal_reason}): {explanation.refusal}"
        return Text(text, style="bold red")
    relaxed = f"; dropped: {', '.join(decision.relaxed)}" if decision.relaxed else ""
    flags = f"; flags: {', '.join(decision.flags)}" if decision.flags else ""
    by = f" as {decision.variant.model}" if decision.variant is not None else ""
    return Text(
        f"goes to {decision.endpoint.name}{by}, {_number(decision.gco2e, 3)} gCO2e; "
        f"{_counterfactual(decision)}{relaxed}{flags}",
        style="bold green",
    )


def _counterfactual(decision: Decision) -> str:
    first = decision.latency_first_endpoint
    if first == decision.endpoint.name:
        return "it is the nearest, too"
    return f"the nearest, {first}, would emit {_number(decision.latency_first_gco2e, 3)}"


def _table(explanation: Explanation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    left_out = _left_out(explanation)
    for title, side in _COLUMNS:
        if title not in left_out:
            table.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
    for rank, candidate in enumerate(explanation.candidates, start=1):
        style = (
            "green" if _is_chosen(candidate, explanation) else "dim" if candidate.excluded else ""
        )
        table.add_row(*_row(rank, candidate, explanation), style=style)
    return table


def _row(rank: int, candidate: Candidate, explanation: Explanation) -> list[str]:
    left_out = _left_out(explanation)
    verdict = "chosen" if _is_chosen(candidate, explanation) else candidate.excluded
    return [
        "" if candidate.excluded else str(rank),
        candidate.endpoint,
        *([candidate.model] if "model" not in left_out else []),
        candidate.grid_zone,
        _number(candidate.g_per_kwh, 3),
        _known(candidate, explanation.at),
        f"{candidate.pue:.2f}",
        f"{candidate.batch:.0f}/{candidate.max_in_flight}",
        f"{candidate.rtt_ms:.0f}",
        *([f"{candidate.delay_ms:.0f}"] if "delay" not in left_out else []),
        f"{candidate.ttft_ms:.0f}",
        f"{candidate.tpot_ms:.1f}",
        f"{candidate.e2e_ms:.0f}",
        f"{_number(candidate.energy_j, 3)}{_MARKS[candidate.profile_provenance]}",
        _number(candidate.gco2e, 3),
        *([_number(candidate.premium_g, 3)] if "premium" not in left_out else []),
        "" if candidate.cost is None else _number(candidate.cost, 4),
        verdict,
    ]


_MARKS: Mapping[str, str] = {"calibrated": "+", "measured": "", "estimated": "*", "emulated": "'"}
_MARK_MEANINGS: Mapping[str, str] = {
    "calibrated": "J+: estimated by a profile calibrated on that endpoint's meter",
    "measured": "J: estimated by a profile measured on such hardware",
    "estimated": "J*: estimated by an estimated profile",
    "emulated": "J': emulated endpoint, no real hardware",
}


def _left_out(explanation: Explanation) -> set[str]:
    """Columns that would tell nothing."""
    figures = {
        "delay": [candidate.delay_ms for candidate in explanation.candidates],
        "premium": [candidate.premium_g for candidate in explanation.candidates],
    }
    zeros = {title for title, values in figures.items() if not any(values)}
    # Of one model alone every row would say the same.
    models = {candidate.model for candidate in explanation.candidates}
    return zeros if len(models) > 1 else zeros | {"model"}


def _is_chosen(candidate: Candidate, explanation: Explanation) -> bool:
    chosen = explanation.decision
    return chosen is not None and (candidate.endpoint, candidate.model) == (
        chosen.endpoint.name, chosen.served.name,
    )  # fmt: skip


def _known(candidate: Candidate, at: float) -> str:
    intensity = candidate.intensity
    if intensity is None:
        return "unknown"
    if intensity.kind is Kind.ANNUAL_MEAN or intensity.kind is Kind.CLIMATOLOGY:
        return str(intensity.kind).replace("_", " ")
    return f"{intensity.kind}, {_age(intensity, at)}"


def _age(intensity: Intensity, at: float) -> str:
    age_s = intensity.age_s(at)
    if age_s < HOUR_S:
        return f"{age_s / MINUTE_S:.0f} min"
    return f"{age_s / HOUR_S:.1f} h"


def _legend(explanation: Explanation) -> list[str]:
    signals = {
        f"{c.intensity.signal.basis}/{c.intensity.signal.factors}"
        for c in explanation.candidates
        if c.intensity
    }
    sources = sorted({c.intensity.source for c in explanation.candidates if c.intensity})
    provenances = dict.fromkeys(c.profile_provenance for c in explanation.candidates)
    lines = [
        "predicted, ms: RTT, TTFT, TPOT (per output token), e2e; load: in flight of the cap; "
        + "; ".join(_MARK_MEANINGS[name] for name in provenances)
    ]
    if sources:
        lines.append(f"intensity: {', '.join(sorted(signals))}, from {'; '.join(sources)}")
    lines.append(
        "gCO2e = J x PUE / 3.6e6 x g/kWh, plus the network's; J as the policy prices them: "
        "a receipt counts those at the load that there was"
    )
    left_out = _left_out(explanation)
    if "delay" not in left_out:
        lines.append("delay: what the path adds to the RTT, as learned; part of TTFT and e2e")
    if "premium" not in left_out:
        lines.append("premium: g that scarce room and waking cost in the choice; nobody emits them")
    return lines


def _number(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "unknown"
    if value and abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"
