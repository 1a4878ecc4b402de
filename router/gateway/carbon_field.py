"""Receipt -> the field ``x-carbon``: the least of it that a caller needs, in one key.

A dictionary in the manner of RFC 9651, but that grams have nine digits after the point; over HTTP a
header field, over gRPC trailing metadata, where each key costs a microsecond and more. A figure
that is not known has no key; docs/receipts.md has all.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from router.model import Decision, Receipt

NAME: Final = "x-carbon"


def carbon_field(decision: Decision, decision_id: str, receipt: Receipt | None = None) -> str:
    """The decision in one field; of an answer that is whole with what it took."""
    endpoint, intensity = decision.endpoint, decision.intensity
    parts = [f'id="{_quoted(decision_id)}"', _place(endpoint.region, endpoint.name)]
    variant = decision.variant
    if variant is not None:
        parts.append(f'variant="{_quoted(variant.model)}", quality={variant.quality:g}')
    if intensity is not None and math.isfinite(decision.run_g_per_kwh):
        parts.append(f"g_per_kwh={decision.run_g_per_kwh:.1f}")
        parts.append(f"kind={intensity.kind}")
        parts.append(f"basis={intensity.signal.basis}")
    if receipt is not None and math.isfinite(receipt.gco2e):
        parts.append(f"gco2e={receipt.gco2e:.9f}")
        parts.append(f"energy_j={receipt.energy_j:.3f}")
        parts.append(f"energy_kind={receipt.energy_kind}")
    if receipt is not None and receipt.doubts:
        parts.append(f'ignored="{" ".join(receipt.doubts)}"')
    if receipt is not None and receipt.carbon_budget is not None:
        parts.append(f"budget_left={receipt.carbon_budget.left:.3f}")
    if receipt is not None and receipt.attempts > 1:
        parts.append(f"attempts={receipt.attempts}")
    if decision.relaxed:
        parts.append(f'relaxed="{" ".join(decision.relaxed)}"')
    # True each, as a dictionary says it.
    parts += decision.flags
    return ", ".join(parts)


@lru_cache(maxsize=4096)
def _place(region: str, endpoint: str) -> str:
    return f'region="{_quoted(region)}", endpoint="{_quoted(endpoint)}"'


def _quoted(text: str) -> str:
    """A name as a quoted string may hold it: what is not printable ASCII becomes ``?``."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(one if one.isascii() and one.isprintable() else "?" for one in text)
    return text.replace("\\", "\\\\").replace('"', '\\"')
