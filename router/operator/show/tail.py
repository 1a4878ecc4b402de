"""``carbon-router tail``: a decision a line."""

from __future__ import annotations

import json

from router.operator.show.top import number, plain, utc
from router.operator.watching.lines import decision_values
from router.operator.watching.shapes import FeedDecision


def decision_json(one: FeedDecision) -> str:
    """One line; ASCII, so that no name moves a cursor."""
    return json.dumps(decision_values(one))


def decision_line(one: FeedDecision) -> str:
    """What was asked, where it went, what it emits and took. ``~``: predicted, not measured."""
    parts = [utc(one.at), plain(one.model) or "-", plain(one.tenant) or "-"]
    if one.refusal:
        parts.append(f"REFUSED {plain(one.refusal)}")
    else:
        parts.append(f"-> {plain(one.region)}/{plain(one.endpoint)}")
        if one.variant:
            parts.append(f"{plain(one.variant)} (quality {number(one.quality)})")
        parts += [_grams(one), _latency(one)]
    if one.attempt > 1:
        parts.append(f"attempt {one.attempt}")
    if one.emulated:
        parts.append("emulated")
    parts += [f"relaxed:{plain(rung)}" for rung in one.relaxed[:8]]
    parts += [plain(flag) for flag in one.flags[:8]]
    if one.id:
        parts.append(plain(one.id))
    return "  ".join(parts)


def _grams(one: FeedDecision) -> str:
    took = one.receipt.gco2e_g if one.receipt is not None else None
    known = one.gco2e_g if took is None else took
    text = f"{'~' if took is None else ''}{number(known)} g"
    first, here = one.latency_first.gco2e_g, one.gco2e_g
    if first is None or here is None or not first > 0.0 or one.latency_first.region == one.region:
        return text
    # Both predicted: at the same load, for the same joules.
    return f"{text} ({here / first - 1.0:+.0%} of {plain(one.latency_first.region)})"


def _latency(one: FeedDecision) -> str:
    receipt, budget = one.receipt, one.budget
    took_ms = one.e2e_ms if receipt is None else receipt.e2e_ms
    text = f"{'~' if receipt is None else ''}{number(took_ms)} ms"
    if budget.e2e_ms is not None:
        return f"{text} of {number(budget.e2e_ms)}"
    if budget.ttft_ms is not None:
        ttft_ms = one.ttft_ms if receipt is None else receipt.ttft_ms
        return f"{text}, ttft {number(ttft_ms)} of {number(budget.ttft_ms)}"
    return text
