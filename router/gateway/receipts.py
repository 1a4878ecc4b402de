"""Receipt -> trailing metadata: what the caller learns of its request.

In one key, ``x-carbon`` (`router.gateway.carbon_field`), or whole, in some twenty of their own,
``x-carbon-*``: whoever asks for the whole waits for what each key costs inside gRPC.

Values are ASCII; a figure that is not known has no key. Joules are of IT equipment (GPU and host)
unless the key says ``facility``. ``docs/receipts.md`` has every key with its unit, and what can be
compared with what; a test holds it to what is written here.
"""

from __future__ import annotations

import math
from functools import lru_cache

from router.gateway.carbon_field import NAME, carbon_field
from router.model import (
    BudgetStanding,
    CachedKind,
    ChosenVariant,
    Intensity,
    Predicted,
    Provenance,
    Receipt,
    RunAtOnce,
    TaskProfile,
    TokensKind,
)

_MAX_TEXT = 256
_MOST_OTHERS = 1024
# How energy and grams are shared out among the requests of a replica; of predictions, too.
ACCOUNTING = ("x-carbon-accounting", "attributional")


def as_metadata(receipt: Receipt, whole: bool) -> list[tuple[str, str]]:
    """The receipt of one request as metadata."""
    if whole:
        return trailers(receipt)
    return [(NAME, carbon_field(receipt.decision, receipt.decision_id, receipt))]


def trailers(receipt: Receipt) -> list[tuple[str, str]]:
    """The whole receipt of one request, in one pass."""
    decision = receipt.decision
    decision_id = receipt.decision_id
    predicted, told = receipt.predicted, decision.latency
    items = [
        ("x-carbon-decision-id", decision_id if decision_id.isascii() else _ascii(decision_id)),
        *_place(receipt.policy, receipt.region, receipt.grid_zone, decision.endpoint.name),
        ACCOUNTING,
        ("x-carbon-energy-j", f"{receipt.energy_j:.6g}"),
        ("x-carbon-energy-kind", receipt.energy_kind),
        ("x-carbon-marginal-energy-j", f"{receipt.marginal_energy_j:.6g}"),
        ("x-carbon-facility-energy-j", f"{receipt.facility_energy_j:.6g}"),
        ("x-carbon-gco2e", f"{receipt.gco2e:.6g}"),
        ("x-carbon-predicted-ttft-ms", f"{told.ttft_ms:.1f}"),
        ("x-carbon-predicted-e2e-ms", f"{told.e2e_ms:.1f}"),
        ("x-carbon-actual-ttft-ms", f"{receipt.ttft_ms:.1f}"),
        ("x-carbon-actual-e2e-ms", f"{receipt.e2e_ms:.1f}"),
        # Comparable with each other and with what came of it.
        ("x-carbon-predicted-gco2e", f"{predicted.gco2e:.6g}"),
        ("x-carbon-latency-first-endpoint", _ascii(decision.latency_first_endpoint)),
        ("x-carbon-latency-first-gco2e", f"{predicted.latency_first_gco2e:.6g}"),
    ]
    if not isinstance(decision.served.profile, TaskProfile):
        if math.isfinite(told.tpot_ms):
            items.append(("x-carbon-predicted-tpot-ms", f"{told.tpot_ms:.2f}"))
        items += _lengths(receipt)
    if receipt.marginal is not None and math.isfinite(receipt.marginal_gco2e):
        items.append(("x-carbon-marginal", _marginal(receipt.marginal, receipt.marginal_gco2e)))
    if receipt.carbon_budget is not None:
        items.append(("x-carbon-budget", _budget(receipt.carbon_budget)))
    if decision.variant is not None:
        items += _variant(decision.variant, predicted)
    if receipt.attempts > 1:
        items.append(("x-carbon-attempts", str(receipt.attempts)))
        if 0.0 < receipt.lost_gco2e < math.inf:
            items.append(("x-carbon-lost-attempts-gco2e", f"{receipt.lost_gco2e:.6g}"))
    if receipt.request.run_at_once is not None:
        items += _waiting(receipt, receipt.request.run_at_once)
    intensity = decision.intensity
    if intensity is not None:
        # Said only of a run that leaves the hour: each key costs a microsecond inside gRPC.
        if decision.run_g_per_kwh != intensity.g_per_kwh:
            items.append(("x-carbon-run-g-per-kwh", f"{decision.run_g_per_kwh:.6g}"))
        items += _intensity(intensity)
        age_s = receipt.finished_at - intensity.observed_at
        items.append(("x-carbon-intensity-age-s", f"{age_s:.0f}" if age_s > 0.0 else "0"))
    if decision.flags or receipt.doubts:
        items.append(("x-carbon-flags", ",".join(map(_ascii, (*decision.flags, *receipt.doubts)))))
    if decision.relaxed:
        items.append(("x-carbon-relaxed", ",".join(decision.relaxed)))
    if _is_all_known(receipt) and decision.latency_first_endpoint:
        return items
    return [item for item in items if item[1] not in _UNKNOWN]


_UNKNOWN = frozenset(("", "nan", "inf", "-inf"))


def _is_all_known(receipt: Receipt) -> bool:
    """Whether no figure that is always written is NaN or infinite: one sum tells, and quickly."""
    decision, predicted = receipt.decision, receipt.predicted
    return math.isfinite(
        receipt.energy_j
        + receipt.marginal_energy_j
        + receipt.facility_energy_j
        + receipt.gco2e
        + receipt.ttft_ms
        + receipt.e2e_ms
        + decision.run_g_per_kwh
        + decision.latency.ttft_ms
        + decision.latency.e2e_ms
        + predicted.gco2e
        + predicted.latency_first_gco2e
    )


def _waiting(receipt: Receipt, told: RunAtOnce) -> list[tuple[str, str]]:
    """What waiting saved, and against what."""
    at_once = receipt.at_once_gco2e
    items = [
        ("x-carbon-waited-s", f"{told.waited_s:.1f}"),
        ("x-carbon-at-once-region", _ascii(told.region)),
        ("x-carbon-at-once-g-per-kwh", f"{told.g_per_kwh:.6g}"),
        ("x-carbon-at-once-kind", told.kind),
        ("x-carbon-at-once-basis", told.basis),
    ]
    if math.isfinite(at_once + receipt.gco2e):
        items.append(("x-carbon-at-once-gco2e", f"{at_once:.6g}"))
        items.append(("x-carbon-saved-by-waiting-gco2e", f"{at_once - receipt.gco2e:.6g}"))
    return items


def _lengths(receipt: Receipt) -> list[tuple[str, str]]:
    """Tokens and how they are known; intervals where they or the joules are estimates."""
    if not math.isfinite(receipt.output_tokens):
        return []
    items = [
        ("x-carbon-output-tokens", f"{receipt.output_tokens:.0f}"),
        ("x-carbon-tokens-kind", receipt.tokens_kind),
    ]
    if math.isfinite(receipt.input_tokens):
        items.append(("x-carbon-input-tokens", f"{receipt.input_tokens:.0f}"))
    if math.isfinite(receipt.prompt_energy_j):
        items.append(("x-carbon-prompt-energy-j", f"{receipt.prompt_energy_j:.6g}"))
    if receipt.cached_tokens > 0.0:
        items.append(("x-carbon-cached-tokens", f"{receipt.cached_tokens:.0f}"))
        items.append(("x-carbon-cached-kind", receipt.cached_kind))
    if receipt.tokens_low < receipt.tokens_high < math.inf:
        interval = f"{receipt.tokens_low:.0f}-{receipt.tokens_high:.0f}"
        items.append(("x-carbon-output-tokens-interval", interval))
    if receipt.energy_low_j < receipt.energy_high_j < math.inf:
        interval = f"{receipt.energy_low_j:.6g}-{receipt.energy_high_j:.6g}"
        items.append(("x-carbon-energy-j-interval", interval))
    return items


# Of figures that are known differently, the whole is known as the worst of them.
_ENERGY_KINDS = tuple(Provenance)
_TOKENS_KINDS = tuple(TokensKind)
_CACHED_KINDS = tuple(CachedKind)


class StreamReceipts:
    """The receipts of one stream: grams, joules and tokens in total, known as the worst of them is;
    everything else of the last one."""

    __slots__ = ("_sum", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self._sum: Receipt | None = None

    def add(self, receipt: Receipt) -> None:
        """Count one request in."""
        self.requests += 1
        total = self._sum
        self._sum = receipt if total is None else _added(total, receipt)

    def as_metadata(self, whole: bool) -> list[tuple[str, str]]:
        """Metadata for the end of the stream; ``requests`` says how many it sums up.

        A total with a part that is not known has no key.
        """
        total = self._sum
        if whole:
            count = ("x-carbon-requests", str(self.requests))
            return [count] if total is None else [count, *trailers(total)]
        field = f"requests={self.requests}"
        if total is not None:
            field = f"{carbon_field(total.decision, total.decision_id, total)}, {field}"
        return [(NAME, field)]


def _added(total: Receipt, last: Receipt) -> Receipt:
    ahead, then = total.predicted, last.predicted
    return last._replace(
        output_tokens=total.output_tokens + last.output_tokens,
        tokens_low=total.tokens_low + last.tokens_low,
        tokens_high=total.tokens_high + last.tokens_high,
        tokens_kind=max(total.tokens_kind, last.tokens_kind, key=_TOKENS_KINDS.index),
        energy_j=total.energy_j + last.energy_j,
        energy_low_j=_low(total) + _low(last),
        energy_high_j=_high(total) + _high(last),
        energy_kind=max(total.energy_kind, last.energy_kind, key=_ENERGY_KINDS.index),
        prompt_energy_j=total.prompt_energy_j + last.prompt_energy_j,
        input_tokens=total.input_tokens + last.input_tokens,
        cached_tokens=total.cached_tokens + last.cached_tokens,
        cached_kind=max(total.cached_kind, last.cached_kind, key=_CACHED_KINDS.index),
        marginal_energy_j=total.marginal_energy_j + last.marginal_energy_j,
        facility_energy_j=total.facility_energy_j + last.facility_energy_j,
        gco2e=total.gco2e + last.gco2e,
        marginal_gco2e=total.marginal_gco2e + last.marginal_gco2e,
        predicted=Predicted(
            ahead.energy_j + then.energy_j,
            ahead.gco2e + then.gco2e,
            ahead.latency_first_gco2e + then.latency_first_gco2e,
            # Of several requests each may have had another variant.
            then.variants_gco2e if total is last else (),
        ),
        doubts=tuple(dict.fromkeys((*total.doubts, *last.doubts))),
    )


def _low(receipt: Receipt) -> float:
    """A figure without an interval is its own."""
    low_j = receipt.energy_low_j
    return low_j if low_j == low_j else receipt.energy_j


def _high(receipt: Receipt) -> float:
    high_j = receipt.energy_high_j
    return high_j if high_j == high_j else receipt.energy_j


def _budget(standing: BudgetStanding) -> str:
    """Which budget, and the share of its day's grams that is left."""
    return f"name={_ascii(standing.name)}; left={standing.left:.4f}"


def _variant(chosen: ChosenVariant, predicted: Predicted) -> list[tuple[str, str]]:
    """Which variant of an alias it was, and what the others would have emitted, as predicted."""
    items = [
        ("x-carbon-alias", _ascii(chosen.alias)),
        ("x-carbon-variant", _ascii(chosen.model)),
        ("x-carbon-quality", f"{chosen.quality:g}"),
    ]
    if chosen.floor:
        items.append(("x-carbon-quality-floor", f"{chosen.floor:g}"))
    others = variants_gco2e(chosen, predicted)
    if others:
        items.append(("x-carbon-other-variants", others[:_MOST_OTHERS]))
    return items


def variants_gco2e(chosen: ChosenVariant, predicted: Predicted) -> str:
    """Of each variant that it was not: name, quality and, where that is known, predicted grams."""
    told = []
    grams_of = predicted.variants_gco2e or (math.nan,) * len(chosen.others)
    for other, gco2e in zip(chosen.others, grams_of, strict=True):
        figure = f", gco2e={gco2e:.6g}" if math.isfinite(gco2e) else ""
        told.append(f"{_ascii(other.model)}: quality={other.quality:g}{figure}")
    return "; ".join(told)


def _marginal(intensity: Intensity, grams: float) -> str:
    """A consequential estimate, in one key: each costs a microsecond inside gRPC."""
    return (
        f"gco2e={grams:.6g}; g-per-kwh={intensity.g_per_kwh:.6g}; kind={intensity.kind}; "
        f"source={_ascii(intensity.source)}; estimate=consequential"
    )


@lru_cache(maxsize=1024)
def _intensity(intensity: Intensity) -> tuple[tuple[str, str], ...]:
    """The grid's figure and where it is from: the same for all requests until the next refresh."""
    return (
        ("x-carbon-g-per-kwh", f"{intensity.g_per_kwh:.6g}"),
        (
            "x-carbon-g-per-kwh-interval",
            f"{intensity.low_g_per_kwh:.6g}-{intensity.high_g_per_kwh:.6g}",
        ),
        ("x-carbon-basis", intensity.signal.basis),
        ("x-carbon-factors", intensity.signal.factors),
        ("x-carbon-intensity-kind", intensity.kind),
        ("x-carbon-intensity-source", _ascii(intensity.source)),
    )


@lru_cache(maxsize=4096)
def _place(policy: str, region: str, grid_zone: str, endpoint: str) -> tuple[tuple[str, str], ...]:
    return (
        ("x-carbon-policy", _ascii(policy)),
        ("x-carbon-region", _ascii(region)),
        ("x-carbon-grid-zone", _ascii(grid_zone)),
        ("x-carbon-endpoint", _ascii(endpoint)),
    )


@lru_cache(maxsize=4096)
def _ascii(text: str) -> str:
    """``text`` as a metadata value may be: what is not printable ASCII becomes ``?``."""
    safe = text if text.isascii() and text.isprintable() else "".join(map(_printable, text))
    return safe[:_MAX_TEXT].strip()


def _printable(character: str) -> str:
    return character if character.isascii() and character.isprintable() else "?"
