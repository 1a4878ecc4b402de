"""``carbon-router replay``: what was decided again, and what another policy would have done."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.config import format_time
from router.core.policy_effect import Effect, PolicyEffect, RegionEffect
from router.operator.replaying import Replay, ToldDecision
from router.operator.show.caller_names import shown_line, shown_name
from router.operator.show.explanation import render_explanation
from router.unknown_figures import or_dash, plain_values

_FIRST_ORDER: Final = (
    "First order: each decision is taken on the load that it saw, whatever the other policy would "
    "have sent there by then; `carbon-router simulate` plays a whole day.",
    "Carbon budgets say what they said then; lengths, latency factors and prices of scarce room "
    "are as learned under the policy that was in force.",
    "Grams: predicted, attributional, of requests that go somewhere by both policies. TTFT: "
    "predicted, at the policy's quantile.",
)
_MODEL_TITLES: Final = (
    "", "requests", "elsewhere", "(95 %)", "grams", "", "energy", "TTFT p50", "p95", "refused",
)  # fmt: skip
_MANY: Final = 10.0
_REGION_TITLES: Final = ("region", "share of requests", "", "grams", "")


def render_replay(replay: Replay) -> RenderableType:
    """What is the same, what is not, and the other policy's effect."""
    if not replay.decisions:
        return shown_line("no kept decision lies there")
    span = f"{format_time(replay.first)} to {format_time(replay.last)}"
    parts: list[RenderableType] = [
        shown_line(
            f"{replay.decisions:,} decisions, kept of about {replay.requests:,.0f} requests, "
            f"{span}; by {', '.join(replay.policies) or 'no policy that is known'}",
            style="bold",
        )
    ]
    if replay.is_void:
        text = (
            "none of them could be taken again, so nothing is known of them: their snapshots are "
            "not there (documents/), or are of other candidates"
        )
        return Group(*parts, shown_line(text, style="bold red"))
    if replay.unreplayable:
        text = f"{replay.unreplayable:,} cannot be taken again: their snapshot is not there"
        parts.append(shown_line(text, style="yellow"))
    parts += _codes(replay)
    if replay.effect is not None:
        parts += _effect(replay.effect)
    return Group(*parts)


def replay_json(replay: Replay) -> str:
    """All of it; figures that are unknown are null."""
    plain = plain_values(replay)
    plain["first"], plain["last"] = _time(replay.first), _time(replay.last)
    plain["exact"] = replay.is_exact
    return json.dumps(plain, indent=2, allow_nan=False)


def render_told(told: Sequence[ToldDecision]) -> RenderableType:
    """Every kept decision of one request, with its candidates."""
    parts: list[RenderableType] = []
    for row, explanation, otherwise in told:
        left_out = f", without {', '.join(row.seen.tried)}" if row.seen.tried else ""
        only = f", bound to {row.seen.pinned}" if row.seen.pinned else ""
        parts.append(
            shown_line(
                f"{row.decision_id} attempt {row.attempt} ({row.kind}){left_out}{only}; "
                f"snapshot {row.snapshot[:12]}, policy {row.policy}, by {row.code}",
                style="bold",
            )
        )
        if row.answer.refusal:
            parts.append(shown_line(f"it was refused: {row.answer.refusal}"))
        else:
            parts.append(
                shown_line(
                    f"it went to {row.answer.endpoint}: {row.answer.figure('gco2e'):.3g} gCO2e as "
                    f"the policy prices it, TTFT {row.answer.figure('ttft_ms'):.0f} ms, predicted"
                )
            )
        if otherwise:
            text = f"this code decides otherwise: {', '.join(otherwise)}"
            parts.append(shown_line(text, style="yellow"))
        parts.append(render_explanation(explanation))
    return Group(*parts)


def told_json(told: Sequence[ToldDecision]) -> str:
    """Each decision's explanation, with what was answered then."""
    found = []
    for row, explanation, otherwise in told:
        found.append(
            {
                "decision_id": row.decision_id,
                "attempt": row.attempt,
                "kind": row.kind.value,
                "snapshot": row.snapshot,
                "policy": row.policy,
                "code": row.code,
                "answered": plain_values(row.answer),
                "otherwise": list(otherwise),
                "explanation": plain_values(explanation),
            }
        )
    return json.dumps(found, indent=2, allow_nan=False)


def _codes(replay: Replay) -> list[Text]:
    lines = []
    for one in replay.codes:
        who = f"{one.code} (this code)" if one.is_this else one.code
        text = f"{who}: {one.decisions:,} taken again, {one.otherwise:,} differences"
        if one.otherwise:
            text += f", {one.elsewhere:,} of them go elsewhere"
        if one.columns_otherwise:
            text += f"; {one.columns_otherwise:,} on figures that this code has otherwise"
        lines.append(shown_line(text, style="green" if not one.otherwise else "yellow"))
        lines += [
            shown_line(
                f"  {it.decision_id or 'refused'} {format_time(it.at)}: {', '.join(it.what)}"
            )
            for it in one.examples
        ]
    return lines


def _effect(effect: PolicyEffect) -> list[RenderableType]:
    total = effect.total
    said = shown_line(
        f"by {effect.policy}: of about {total.requests:,.0f} requests {total.elsewhere.share:.1%} "
        f"would go elsewhere, {_change(total.grams_then, total.grams_now)} predicted grams, "
        f"p95 TTFT {_more(total.ttft_then_ms[1], total.ttft_now_ms[1])} ms, "
        f"refused {total.refused_then:,.0f} -> {total.refused_now:,.0f}",
        style="bold",
    )
    models = _table(_MODEL_TITLES)
    for one in (*effect.models, total) if len(effect.models) > 1 else effect.models:
        models.add_row(*_model_row(one))
    regions = _table(_REGION_TITLES)
    served = total.requests
    for region in effect.regions:
        regions.add_row(*_region_row(region, served))
    notes = [shown_line(note, style="yellow") for note in effect.notes]
    return [
        said,
        models,
        regions,
        *notes,
        *(shown_line(line, style="dim") for line in _FIRST_ORDER),
    ]


def _model_row(one: Effect) -> list[str | Text]:
    share = one.elsewhere
    return [
        shown_name(one.name),
        f"{one.requests:,.0f}",
        or_dash(share.share * 100.0, "{:.1f} %"),
        f"({or_dash(share.low * 100.0, '{:.1f}')} to {or_dash(share.high * 100.0, '{:.1f}')})",
        f"{one.grams_then:.4g} -> {one.grams_now:.4g}",
        _change(one.grams_then, one.grams_now),
        _change(one.energy_then_j, one.energy_now_j),
        _both(one.ttft_then_ms[0], one.ttft_now_ms[0]),
        _both(one.ttft_then_ms[1], one.ttft_now_ms[1]),
        f"{one.refused_then:,.0f} -> {one.refused_now:,.0f}",
    ]


def _region_row(one: RegionEffect, requests: float) -> list[str | Text]:
    then, now = one.requests_then / requests, one.requests_now / requests
    return [
        shown_name(one.region),
        f"{then:.1%} -> {now:.1%}",
        f"{(now - then) * 100.0:+.1f} points",
        f"{one.grams_then:.4g} -> {one.grams_now:.4g}",
        _change(one.grams_then, one.grams_now),
    ]


def _table(titles: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", no_wrap=True)
    return table


def _change(then: float, now: float) -> str:
    if not then > 0.0:
        return "-"
    # Of next to nothing even little is millions of percent.
    return f"{(now / then - 1.0):+.1%}" if now < _MANY * then else f"x {now / then:,.0f}"


def _more(then: float, now: float) -> str:
    return or_dash(now - then, "{:+.0f}")


def _both(then: float, now: float) -> str:
    return f"{or_dash(then, '{:.0f}')} -> {or_dash(now, '{:.0f}')} ms"


def _time(unix_s: float) -> str | None:
    return format_time(unix_s) if math.isfinite(unix_s) else None
