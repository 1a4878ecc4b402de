"""A receipt as bytes, for whoever did not write it: other workers, other gateways.

MessagePack, version 1: an array of what `router.gateway.receipts` tells, in the order of `_Row`. On
the hot path, so flat. What is read was outside: types, lengths and names are held here.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec

from router.errors import DataError
from router.model import (
    UNBURDENED,
    UNLIMITED,
    Basis,
    BudgetStanding,
    CachedKind,
    ChosenVariant,
    Decision,
    Endpoint,
    Factors,
    Intensity,
    Kind,
    OtherVariant,
    Predicted,
    Provenance,
    Receipt,
    Relax,
    Request,
    RunAtOnce,
    ServedModel,
    Signal,
    TaskProfile,
    TokenProfile,
    TokensKind,
)

# Of the order of `_Row`, and what is meant: another number is another format.
VERSION: Final = 1
# No more of a row is looked at.
MOST_ROW_BYTES: Final = 8192

_Name = Annotated[str, msgspec.Meta(max_length=512)]
_Names = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=64)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
_IntensityRow = tuple[float, float, float, Basis, Factors, Kind, _Name, float, float]


_OtherRow = tuple[_Name, float, float]
_OtherRows = Annotated[tuple[_OtherRow, ...], msgspec.Meta(max_length=16)]
_VariantRow = tuple[_Name, float, float, _OtherRows]


class _Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    version: int
    decision_id: _Name
    owner: _Name
    model: _Name
    policy: _Name
    region: _Name
    grid_zone: _Name
    endpoint: _Name
    latency_first_endpoint: _Name
    attempts: _Count
    flags: _Names
    relaxed: Annotated[tuple[Relax, ...], msgspec.Meta(max_length=8)]
    doubts: _Names
    is_task: bool
    intensity: _IntensityRow | None
    marginal: _IntensityRow | None
    carbon_budget: tuple[_Name, float] | None
    energy_kind: Provenance
    tokens_kind: TokensKind
    cached_kind: CachedKind
    run_g_per_kwh: float
    predicted_ttft_ms: float
    predicted_e2e_ms: float
    predicted_gco2e: float
    latency_first_gco2e: float
    output_tokens: float
    tokens_low: float
    tokens_high: float
    input_tokens: float
    cached_tokens: float
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    prompt_energy_j: float
    marginal_energy_j: float
    facility_energy_j: float
    gco2e: float
    marginal_gco2e: float
    ttft_ms: float
    e2e_ms: float
    finished_at: float
    # Not of those that earlier gateways wrote.
    lost_gco2e: float = 0.0
    # What the grams are made of.
    g_per_kwh: float = math.nan
    pue: float = math.nan
    network_j: float = math.nan
    run_s: float = math.nan
    run_at_once: tuple[float, _Name, float, _Name, _Name, float] | None = None
    predicted_tpot_ms: float = math.nan
    # Of an alias: the variant, its quality, the floor, and the others with theirs and their grams.
    variant: _VariantRow | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Row)
# Nothing of an endpoint but its name is told, and of a profile whether it has tokens.
_TOKENS: Final = TokenProfile(
    "", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1, 1, 0.0, Provenance.ESTIMATED, ""
)
_TASK: Final = TaskProfile("", 0.0, 0.0, 0.0, 1, 0.0, Provenance.ESTIMATED, "")


def encode_receipt(receipt: Receipt) -> bytes:
    """What is told of ``receipt``."""
    decision, predicted = receipt.decision, receipt.predicted
    intensity, marginal = decision.intensity, receipt.marginal
    return _encoder.encode(
        _Row(
            VERSION,
            receipt.decision_id,
            receipt.request.receipt_owner,
            receipt.request.model,
            receipt.policy,
            receipt.region,
            receipt.grid_zone,
            decision.endpoint.name,
            decision.latency_first_endpoint,
            receipt.attempts,
            decision.flags,
            decision.relaxed,
            receipt.doubts,
            isinstance(decision.served.profile, TaskProfile),
            None if intensity is None else _of_intensity(intensity),
            None if marginal is None else _of_intensity(marginal),
            receipt.carbon_budget,
            receipt.energy_kind,
            receipt.tokens_kind,
            receipt.cached_kind,
            decision.run_g_per_kwh,
            decision.latency.ttft_ms,
            decision.latency.e2e_ms,
            predicted.gco2e,
            predicted.latency_first_gco2e,
            receipt.output_tokens,
            receipt.tokens_low,
            receipt.tokens_high,
            receipt.input_tokens,
            receipt.cached_tokens,
            receipt.energy_j,
            receipt.energy_low_j,
            receipt.energy_high_j,
            receipt.prompt_energy_j,
            receipt.marginal_energy_j,
            receipt.facility_energy_j,
            receipt.gco2e,
            receipt.marginal_gco2e,
            receipt.ttft_ms,
            receipt.e2e_ms,
            receipt.finished_at,
            receipt.lost_gco2e,
            receipt.g_per_kwh,
            receipt.pue,
            receipt.network_j,
            receipt.run_s,
            receipt.request.run_at_once,
            decision.latency.tpot_ms,
            _of_variant(decision.variant, predicted),
        )
    )


def decode_receipt(data: bytes) -> Receipt:
    """The receipt again, as far as it is told. Raises DataError for anything else."""
    if len(data) > MOST_ROW_BYTES:
        raise DataError(f"a receipt of {len(data)} bytes")
    try:
        row = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise DataError(f"not a receipt: {error}") from None
    if row.version != VERSION:
        raise DataError(f"a receipt of version {row.version}, and this gateway reads {VERSION}")
    budget = row.carbon_budget
    return Receipt(
        decision_id=row.decision_id,
        request=Request(
            row.model,
            tenant=row.owner,
            run_at_once=None if row.run_at_once is None else RunAtOnce(*row.run_at_once),
        ),
        decision=_decision(row),
        policy=row.policy,
        region=row.region,
        grid_zone=row.grid_zone,
        attempts=row.attempts,
        output_tokens=row.output_tokens,
        energy_j=row.energy_j,
        energy_kind=row.energy_kind,
        marginal_energy_j=row.marginal_energy_j,
        facility_energy_j=row.facility_energy_j,
        gco2e=row.gco2e,
        ttft_ms=row.ttft_ms,
        e2e_ms=row.e2e_ms,
        finished_at=row.finished_at,
        marginal=_intensity(row.marginal),
        marginal_gco2e=row.marginal_gco2e,
        tokens_kind=row.tokens_kind,
        tokens_low=row.tokens_low,
        tokens_high=row.tokens_high,
        energy_low_j=row.energy_low_j,
        energy_high_j=row.energy_high_j,
        predicted=Predicted(
            math.nan, row.predicted_gco2e, row.latency_first_gco2e, _variants_gco2e(row.variant)
        ),
        doubts=row.doubts,
        prompt_energy_j=row.prompt_energy_j,
        cached_tokens=row.cached_tokens,
        cached_kind=row.cached_kind,
        input_tokens=row.input_tokens,
        carbon_budget=None if budget is None else BudgetStanding(*budget),
        lost_gco2e=row.lost_gco2e,
        g_per_kwh=row.g_per_kwh,
        pue=row.pue,
        network_j=row.network_j,
        run_s=row.run_s,
    )


def _decision(row: _Row) -> Decision:
    profile = _TASK if row.is_task else _TOKENS
    return Decision(
        endpoint=Endpoint(row.endpoint, row.region, "", "", (), 1, "", "", False),
        served=ServedModel(row.model, "", profile, UNLIMITED),
        intensity=_intensity(row.intensity),
        run_g_per_kwh=row.run_g_per_kwh,
        rtt_ms=math.nan,
        ttft_ms=row.predicted_ttft_ms,
        tpot_ms=row.predicted_tpot_ms,
        e2e_ms=row.predicted_e2e_ms,
        energy_j=math.nan,
        gco2e=math.nan,
        latency_first_endpoint=row.latency_first_endpoint,
        latency_first_gco2e=math.nan,
        prefill_ms=math.nan,
        queue_ms=math.nan,
        burden=UNBURDENED,
        relaxed=row.relaxed,
        flags=row.flags,
        variant=_variant(row),
    )


def _of_variant(chosen: ChosenVariant | None, predicted: Predicted) -> _VariantRow | None:
    if chosen is None:
        return None
    grams = predicted.variants_gco2e or (math.nan,) * len(chosen.others)
    others = tuple(
        (one.model, one.quality, gco2e) for one, gco2e in zip(chosen.others, grams, strict=True)
    )
    return chosen.model, chosen.quality, chosen.floor, others


def _variant(row: _Row) -> ChosenVariant | None:
    if row.variant is None:
        return None
    model, quality, floor, others = row.variant
    told = tuple(OtherVariant(name, score, None) for name, score, _ in others)
    return ChosenVariant(row.model, model, quality, floor, told)


def _variants_gco2e(variant: _VariantRow | None) -> tuple[float, ...]:
    return () if variant is None else tuple(gco2e for *_, gco2e in variant[3])


def _of_intensity(value: Intensity) -> _IntensityRow:
    signal = value.signal
    return (
        value.g_per_kwh,
        value.low_g_per_kwh,
        value.high_g_per_kwh,
        signal.basis,
        signal.factors,
        value.kind,
        value.source,
        value.observed_at,
        value.expires_at,
    )


def _intensity(row: _IntensityRow | None) -> Intensity | None:
    if row is None:
        return None
    g_per_kwh, low, high, basis, factors, kind, source, observed_at, expires_at = row
    return Intensity(
        g_per_kwh, low, high, Signal(basis, factors), kind, source, observed_at, expires_at
    )
