"""A receipt, or a refusal, as the cells of a row: the columns of `router.ledger.columns` but for
the first two, which the writer adds.

Never a payload. Whoever reads a row can reckon its grams anew from its own cells, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from router.ledger.columns import G_QUANTUM, J_QUANTUM, RECEIPT_COLUMNS
from router.model import (
    ChosenVariant,
    Intensity,
    Predicted,
    Receipt,
    Request,
    RowOutcome,
    RunAtOnce,
    TaskProfile,
)
from router.units import grams

Cells: TypeAlias = tuple[Any, ...]
_US: Final = 1e6
_PER_J: Final = 1.0 / J_QUANTUM
_PER_G: Final = 1.0 / G_QUANTUM
# Of what had no decision, what follows its policy.
_NOWHERE: Final = (None,) * 4
_NO_INTENSITY: Final = (None,) * 7
_NO_VARIANT: Final = (None,) * 4
_NO_WAIT: Final = (None,) * 6


def ended_cells(
    receipt: Receipt, outcome: RowOutcome, reason: str, tenant: Callable[[str], str]
) -> Cells:
    """Of an attempt that ended. ``tenant``: as it is to be kept, "" for not at all.

    On the way of every request, if not while it waits: NaN stays, which becomes null in its table.
    """
    request, decision = receipt.request, receipt.decision
    profile, intensity = decision.served.profile, decision.intensity
    budget, predicted, marginal = request.budget, receipt.predicted, receipt.marginal
    energy_j, network_j = in_steps(receipt.energy_j, _PER_J), in_steps(receipt.network_j, _PER_J)
    g_per_kwh, gco2e = receipt.g_per_kwh, None
    if energy_j is not None and network_j is not None:
        gco2e = in_steps(grams(energy_j * receipt.pue + network_j, g_per_kwh), _PER_G)
    told, stated = receipt.input_tokens, request.input_tokens
    low, high = receipt.tokens_low, receipt.tokens_high
    if not low < high:
        low = high = math.nan
    if isinstance(profile, TaskProfile):
        tokens: Cells = (None,) * 6
    else:
        tokens = (
            receipt.cached_tokens,
            receipt.cached_kind,
            receipt.output_tokens,
            receipt.tokens_kind if receipt.output_tokens == receipt.output_tokens else None,
            low,
            high,
        )
    return (
        receipt.decision_id or None,
        round(receipt.finished_at * _US),
        receipt.run_s,
        receipt.ttft_ms,
        receipt.e2e_ms,
        outcome,
        reason or None,
        receipt.attempts,
        request.client_retries,
        request.model,
        request.version or None,
        _kept(request, tenant),
        request.origin or None,
        ";".join(sorted(request.residency)) if request.residency else None,
        receipt.policy,
        decision.endpoint.name,
        receipt.region,
        receipt.grid_zone,
        profile.name,
        budget.ttft_ms,
        budget.tpot_ms,
        budget.e2e_ms,
        request.max_output_tokens,
        told if told > 0.0 else stated,
        "reported" if told > 0.0 else "stated" if stated > 0.0 else None,
        *tokens,
        energy_j,
        None if energy_j is None else receipt.energy_kind,
        receipt.energy_low_j,
        receipt.energy_high_j,
        receipt.prompt_energy_j,
        receipt.marginal_energy_j,
        network_j,
        receipt.pue,
        g_per_kwh,
        *(_NO_INTENSITY if intensity is None else _told(intensity, g_per_kwh)),
        gco2e,
        None if marginal is None else marginal.g_per_kwh,
        None if marginal is None else marginal.kind,
        None if marginal is None else marginal.source,
        predicted.gco2e,
        predicted.latency_first_gco2e,
        ";".join((*decision.flags, *receipt.doubts)) if decision.flags or receipt.doubts else None,
        *(_NO_VARIANT if decision.variant is None else _variant(decision.variant, predicted)),
        *(
            _NO_WAIT
            if request.run_at_once is None
            else _waited(request.run_at_once, energy_j, network_j)
        ),
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
    budget, stated = request.budget, request.input_tokens
    told = (
        None,
        round(finished_at * _US),
        None,
        None,
        e2e_ms,
        outcome,
        reason or None,
        0,
        request.client_retries,
        request.model,
        request.version or None,
        _kept(request, tenant),
        request.origin or None,
        ";".join(sorted(request.residency)) or None,
        policy,
        *_NOWHERE,
        budget.ttft_ms,
        budget.tpot_ms,
        budget.e2e_ms,
        request.max_output_tokens,
        stated,
        "stated" if stated > 0.0 else None,
    )
    return told + (None,) * (_CELLS - len(told))


_CELLS: Final = len(RECEIPT_COLUMNS) - 2


def _kept(request: Request, tenant: Callable[[str], str]) -> str | None:
    """Whose row it is, as that is kept: who may ask for it."""
    owner = request.receipt_owner
    return (tenant(owner) or None) if owner else None


def in_steps(value: float, per_unit: float) -> float | None:
    """The nearest multiple of 1 / ``per_unit``, a power of two; None of what is not known."""
    return round(value * per_unit) / per_unit if math.isfinite(value) else None


def _variant(chosen: ChosenVariant, predicted: Predicted) -> Cells:
    others = []
    for other, gco2e in zip(chosen.others, predicted.variants_gco2e, strict=False):
        figure = f" gco2e={gco2e:.6g}" if math.isfinite(gco2e) else ""
        others.append(f"{other.model} quality={other.quality:g}{figure}")
    return chosen.model, chosen.quality, chosen.floor or None, ";".join(others) or None


def _waited(told: RunAtOnce, energy_j: float | None, network_j: float | None) -> Cells:
    gco2e = None
    if energy_j is not None and network_j is not None:
        # Of the cells as they are kept, so that a reader finds the same.
        gco2e = in_steps(grams(energy_j * told.pue + network_j, told.g_per_kwh), _PER_G)
    return told.waited_s, told.region, told.g_per_kwh, told.kind, told.basis, gco2e


def _told(intensity: Intensity, g_per_kwh: float) -> Cells:
    # The interval is of the slot that was decided by; the run may lie in others.
    part = g_per_kwh / intensity.g_per_kwh if intensity.g_per_kwh > 0.0 else 1.0
    return (
        intensity.low_g_per_kwh * part,
        intensity.high_g_per_kwh * part,
        intensity.signal.basis,
        intensity.signal.factors,
        intensity.kind,
        intensity.source,
        round(intensity.observed_at * _US),
    )
