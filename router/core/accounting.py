"""What a finished request emitted: from the decision, the clock and the backend's own report."""

from __future__ import annotations

import math
from typing import NamedTuple

from router.contract import BackendReport
from router.core.energy import J_PER_KWH, estimate_run
from router.model import Decision, Intensity, Provenance, Receipt, Region, Request, TaskProfile


class Run(NamedTuple):
    """How a request went, as the gateway saw it. ``messages``: streamed answers, 0 for a unary
    call; ``batch``: mean requests on the endpoint while it ran, itself included.

    ``ttft_ms`` is NaN where the first token cannot be told from the last (a unary LLM call).
    """

    messages: int
    batch: float
    ttft_ms: float
    e2e_ms: float


def output_tokens(decision: Decision, run: Run, report: BackendReport) -> float:
    """Output tokens of a finished request; NaN when neither backend nor stream tells."""
    if isinstance(decision.served.profile, TaskProfile):
        return 1.0
    if report.output_tokens >= 1.0:
        return report.output_tokens
    return float(run.messages) if run.messages > 1 else math.nan


class Account(NamedTuple):
    """IT energy of a finished request, both ways of counting, and how it is known."""

    output_tokens: float
    energy_j: float
    marginal_energy_j: float
    kind: Provenance


def account(
    decision: Decision, run: Run, report: BackendReport, expected_output_tokens: float
) -> Account:
    """The backend's own joules where it reports them, else the profile's estimate.

    An emulated endpoint's figures are called emulated, whoever computed them.
    """
    tokens = output_tokens(decision, run, report)
    energy_j, marginal_j = report.energy_j, report.marginal_energy_j
    kind = Provenance.MEASURED
    if energy_j != energy_j or marginal_j != marginal_j:
        counted = tokens if tokens == tokens else expected_output_tokens
        estimate = estimate_run(decision.served.profile, counted, run.batch, run.e2e_ms / 1000.0)
        if energy_j != energy_j:
            energy_j, kind = estimate.attributional_j, Provenance.ESTIMATED
        if marginal_j != marginal_j:
            marginal_j = estimate.marginal_j
    if decision.endpoint.emulated:
        kind = Provenance.EMULATED
    return Account(tokens, energy_j, marginal_j, kind)


def build_receipt(
    decision_id: str,
    request: Request,
    decision: Decision,
    policy: str,
    region: Region,
    attempts: int,
    account: Account,
    ttft_ms: float,
    e2e_ms: float,
    network_j: float,
    g_per_kwh: float,
    finished_at: float,
) -> Receipt:
    """``g_per_kwh``: intensity averaged over the run; NaN (then so are the grams) if unknown.

    ``ttft_ms``, ``e2e_ms``: from the request's arrival at the gateway.
    """
    facility_j = account.energy_j * region.pue + network_j
    return Receipt(
        decision_id,
        request,
        decision,
        policy,
        region.name,
        region.grid_zone,
        attempts,
        account.output_tokens,
        account.energy_j,
        account.kind,
        account.marginal_energy_j,
        facility_j,
        facility_j / J_PER_KWH * g_per_kwh,
        ttft_ms,
        e2e_ms,
        finished_at,
    )


def with_marginal(receipt: Receipt, marginal: Intensity | None) -> Receipt:
    """``receipt`` with what its facility energy means at a ``marginal`` intensity, if known."""
    if marginal is None:
        return receipt
    grams = receipt.facility_energy_j / J_PER_KWH * marginal.g_per_kwh
    return receipt._replace(marginal=marginal, marginal_gco2e=grams)
