"""How a request ended, and what it emitted."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

from router.model.decision import Decision
from router.model.intensity import Intensity
from router.model.profiles import Provenance
from router.model.request import Request
from router.units import grams


class Outcome(StrEnum):
    """How a lease ended. IGNORED says nothing about the endpoint (client abort, 4xx)."""

    SUCCEEDED = "succeeded"
    IGNORED = "ignored"
    DROPPED = "dropped"


class RowOutcome(StrEnum):
    """How an attempt, or a request, ended. All but ``MOVED`` end the request."""

    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    # It failed here, or its answer was not accepted, and it went on elsewhere.
    MOVED = "moved"


class TokensKind(StrEnum):
    """How a count of output tokens came to be, from the best known to the least.

    REPORTED by the server; COUNTED messages of a stream; ESTIMATED from the answer's bytes, which
    its time bears out; ASSUMED from its time alone.
    """

    REPORTED = "reported"
    COUNTED = "counted"
    ESTIMATED = "estimated"
    ASSUMED = "assumed"


class CachedKind(StrEnum):
    """How it is known what of a prompt was cached: the server REPORTED it, or it was EXPECTED."""

    REPORTED = "reported"
    EXPECTED = "expected"


class Predicted(NamedTuple):
    """What a request was predicted to be receipted with, attributional as the receipt is, at the
    load that it met: IT joules, grams, and the grams of the same request, at the same load, on the
    endpoint that latency-first would have taken. NaN where not known. ``variants_gco2e``: likewise
    with each of `ChosenVariant.others`.
    """

    energy_j: float
    gco2e: float
    latency_first_gco2e: float
    variants_gco2e: tuple[float, ...] = ()


UNPREDICTED = Predicted(math.nan, math.nan, math.nan)


class BudgetStanding(NamedTuple):
    """Of a carbon budget: the share of its day's limit that is left, 0 to 1."""

    name: str
    left: float


class Receipt(NamedTuple):
    """What one answered request emitted; both energies, GPU plus host, before and after PUE.

    ``energy_j`` is attributional IT energy (GPU and host); ``facility_energy_j`` includes PUE;
    ``gco2e`` counts facility energy at the intensity of the run. ``ttft_ms`` and ``e2e_ms`` are
    measured at the gateway. NaN where not known.

    ``marginal``: marginal intensity of the hour in which the run began, None where none is asked
    for or known; ``marginal_gco2e``: facility energy at it, an estimate of what the request caused,
    never to be added to ``gco2e``.

    ``output_tokens`` lies between ``tokens_low`` and ``tokens_high``, ``energy_j`` between
    ``energy_low_j`` and ``energy_high_j``; ``prompt_energy_j`` of it took reading the prompt, an
    estimate by the profile where ``energy_j`` is measured. Bounds that are NaN are not known or
    not needed.
    ``doubts``: what the server reported and was not believed, by reason. ``cached_tokens``: of the
    prompt, not read because they were cached; ``input_tokens``: of all of it, as the server says.
    ``carbon_budget``: of those that it falls under the one with least left, None where there is
    none. ``g_per_kwh``: mean over the run, ``pue`` of the region and ``network_j`` of the payload:
    what the grams are made of. ``run_s``: of the attempt that ended here. ``lost_gco2e``: of the
    others, whose answers its caller did not get: not part of ``gco2e``.
    """

    decision_id: str
    request: Request
    decision: Decision
    policy: str
    region: str
    grid_zone: str
    attempts: int
    output_tokens: float
    energy_j: float
    energy_kind: Provenance
    marginal_energy_j: float
    facility_energy_j: float
    gco2e: float
    ttft_ms: float
    e2e_ms: float
    finished_at: float
    marginal: Intensity | None = None
    marginal_gco2e: float = math.nan
    tokens_kind: TokensKind = TokensKind.REPORTED
    tokens_low: float = math.nan
    tokens_high: float = math.nan
    energy_low_j: float = math.nan
    energy_high_j: float = math.nan
    predicted: Predicted = UNPREDICTED
    doubts: tuple[str, ...] = ()
    prompt_energy_j: float = math.nan
    cached_tokens: float = 0.0
    cached_kind: CachedKind = CachedKind.EXPECTED
    input_tokens: float = math.nan
    carbon_budget: BudgetStanding | None = None
    g_per_kwh: float = math.nan
    pue: float = math.nan
    network_j: float = math.nan
    run_s: float = math.nan
    lost_gco2e: float = 0.0

    @property
    def at_once_gco2e(self) -> float:
        """What the same joules would have emitted where, and when, it would have run had it not
        waited; NaN where it did not, or that is not known."""
        told = self.request.run_at_once
        if told is None:
            return math.nan
        return grams(self.energy_j * told.pue + self.network_j, told.g_per_kwh)
