"""A receipt, or a refusal, as the cells of a row: the columns of `router.ledger.columns` but for
the first two, which the writer adds.

Never a payload. Whoever reads a row can reckon its grams anew from its own cells, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from router.ledger.columns import G_QUANTUM, J_QUANTUM, RECEIPT_COLUMNS
from router.model import UNLIMITED, Receipt, Request, RowOutcome, TaskProfile
from router.units import grams

Cells: TypeAlias = tuple[Any, ...]
_US: Final = 1e6
_PER_J: Final = 1.0 / J_QUANTUM
_PER_G: Final = 1.0 / G_QUANTUM
# Of what had no decision, what follows its policy.
_NOWHERE: Final = (None,) * 4


def ended_cells(
    receipt: Receipt, outcome: RowOutcome, reason: str, tenant: Callable[[str], str]
) -> Cells:
    """Of an attempt that ended. ``tenant``: as it is to be kept, "" for not at all."""
    request, decision = receipt.request, receipt.decision
    profile = decision.served.profile
    is_task = isinstance(profile, TaskProfile)
    energy_j, network_j = in_steps(receipt.energy_j, _PER_J), in_steps(receipt.network_j, _PER_J)
    g_per_kwh = _known(receipt.g_per_kwh)
    gco2e = None
    if energy_j is not None and network_j is not None and g_per_kwh is not None:
        gco2e = in_steps(grams(energy_j * receipt.pue + network_j, g_per_kwh), _PER_G)
    tokens = receipt.output_tokens
    input_tokens, input_kind = _input(receipt)
    return (
        receipt.decision_id or None,
        round(receipt.finished_at * _US),
        _known(receipt.run_s),
        _known(receipt.ttft_ms),
        _known(receipt.e2e_ms),
        outcome,
        reason or None,
        receipt.attempts,
        *_asked(request, tenant),
        receipt.policy,
        decision.endpoint.name,
        receipt.region,
        receipt.grid_zone,
        profile.name,
        *_limits(request),
        input_tokens,
        input_kind,
        None if is_task else _count(receipt.cached_tokens),
        None if is_task else receipt.cached_kind,
        None if is_task else _count(tokens),
        None if is_task or tokens != tokens else receipt.tokens_kind,
        _count(receipt.tokens_low) if receipt.tokens_low < receipt.tokens_high else None,
        _count(receipt.tokens_high) if receipt.tokens_low < receipt.tokens_high else None,
        energy_j,
        receipt.energy_kind if energy_j is not None else None,
        _known(receipt.energy_low_j),
        _known(receipt.energy_high_j),
        _known(receipt.prompt_energy_j),
        _known(receipt.marginal_energy_j),
        network_j,
        _known(receipt.pue),
        g_per_kwh,
        *_intensity(receipt),
        gco2e,
        *_marginal(receipt),
        _known(receipt.predicted.gco2e),
        _known(receipt.predicted.latency_first_gco2e),
        ";".join((*decision.flags, *receipt.doubts)) or None,
    )


def turned_away_cells(
    request: Request,
    outcome: RowOutcome,
    reason: str,
    policy: str,
    finished_at: float,
    e2e_ms: float,
    tenant: Callable[[str], str],
) -> Cells:
    """Of a request that ended before it went anywhere."""
    told = (
        None,
        round(finished_at * _US),
        None,
        None,
        _known(e2e_ms),
        outcome,
        reason or None,
        0,
        *_asked(request, tenant),
        policy,
        *_NOWHERE,
        *_limits(request),
        _count(request.input_tokens),
        "stated" if _known(request.input_tokens) is not None else None,
    )
    return told + (None,) * (_CELLS - len(told))


_CELLS: Final = len(RECEIPT_COLUMNS) - 2


def in_steps(value: float, per_unit: float) -> float | None:
    """The nearest multiple of 1 / ``per_unit``, a power of two; None of what is not known."""
    return round(value * per_unit) / per_unit if math.isfinite(value) else None


def _asked(request: Request, tenant: Callable[[str], str]) -> Cells:
    return (
        request.client_retries,
        request.model,
        request.version or None,
        (tenant(request.tenant) or None) if request.tenant else None,
        request.origin or None,
        ";".join(sorted(request.residency)) or None,
    )


def _limits(request: Request) -> Cells:
    budget, most = request.budget, request.max_output_tokens
    return (
        _known(budget.ttft_ms),
        _known(budget.tpot_ms),
        _known(budget.e2e_ms),
        _count(most) if most < UNLIMITED else None,
    )


def _input(receipt: Receipt) -> tuple[int | None, str | None]:
    if receipt.input_tokens > 0.0:
        return _count(receipt.input_tokens), "reported"
    stated = receipt.request.input_tokens
    return (_count(stated), "stated") if stated > 0.0 else (None, None)


def _intensity(receipt: Receipt) -> Cells:
    intensity = receipt.decision.intensity
    if intensity is None:
        return (None,) * 7
    # The interval is of the slot that was decided by; the run may lie in others.
    part = receipt.g_per_kwh / intensity.g_per_kwh if intensity.g_per_kwh > 0.0 else 1.0
    return (
        _known(intensity.low_g_per_kwh * part),
        _known(intensity.high_g_per_kwh * part),
        intensity.signal.basis,
        intensity.signal.factors,
        intensity.kind,
        intensity.source,
        round(intensity.observed_at * _US),
    )


def _marginal(receipt: Receipt) -> Cells:
    marginal = receipt.marginal
    if marginal is None:
        return (None,) * 3
    return marginal.g_per_kwh, marginal.kind, marginal.source


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _count(value: float) -> int | None:
    return round(value) if math.isfinite(value) else None
