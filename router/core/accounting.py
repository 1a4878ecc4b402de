"""What a finished request emitted: from the decision, the clock and the backend's own report.

Receipts count attributional energy (SCIENCE, section 1): a request's share of what the replica
drew while it ran, at the load that there was. Predictions on receipts are made alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from router.contract import UNTIMED, AnswerSize, BackendReport, StatedTimes
from router.core.energy import Crowd, estimate_run, predict_run
from router.core.lengths import Expected
from router.core.reports import (
    Doubt,
    believed_cached,
    believed_energy,
    believed_input,
    believed_times,
    believed_tokens,
    energy_band,
    most_tokens,
)
from router.core.tokens import UNLEARNED, TokenBytes, TokenCount, estimate_tokens, known_count
from router.model import (
    Alternative,
    CachedKind,
    Decision,
    Intensity,
    Predicted,
    Profile,
    Provenance,
    Receipt,
    Region,
    Request,
    ServedModel,
    TaskProfile,
    TokenProfile,
    TokensKind,
)
from router.units import J_PER_KWH, MS_PER_S, grams

UNSIZED = AnswerSize(math.nan, math.nan)

# A round trip by the table is at most this share of a run, for tables are somewhat off and what is
# left must not come out at nothing. A run that is shorter than its round trip proves the table
# wrong: then all of it counts.
_MOST_ROUND_TRIP = 0.75
_LEAST_SERVICE_MS = 1.0
# Where the truth lies from an estimate at the right tokens, 5th to 95th percentile: the load at
# the ends of a run is not the load throughout. `benchmarks/receipts.py`, mean batch 0.05 to 64.
ENERGY_LOW, ENERGY_HIGH = 0.75, 1.5
_ONE_ANSWER = known_count(1.0, TokensKind.COUNTED)


class Run(NamedTuple):
    """How a request went, as the gateway saw it. ``messages``: streamed answers, 0 for a unary
    call; ``crowd``: what it met on the endpoint on the mean while it ran; ``rtt_ms``:
    between this gateway and the endpoint, part of the others; ``pace``: how many times longer than
    by its profile a token takes there, as learned; ``answer``: its size; ``share``: mean of
    1 / batch at its two ends, NaN for that of the mean batch.

    ``ttft_ms`` is NaN where the first token cannot be told from the last (a unary LLM call).
    """

    messages: int
    crowd: Crowd
    ttft_ms: float
    e2e_ms: float
    rtt_ms: float = 0.0
    pace: float = 1.0
    answer: AnswerSize = UNSIZED
    share: float = math.nan

    @property
    def service_ms(self) -> float:
        """What the endpoint took, round trip apart."""
        round_trip_ms = 0.0
        if self.rtt_ms < self.e2e_ms:
            round_trip_ms = min(self.rtt_ms, _MOST_ROUND_TRIP * self.e2e_ms)
        return max(self.e2e_ms - round_trip_ms, _LEAST_SERVICE_MS)

    @property
    def batch(self) -> float:
        """Mean requests on the endpoint while it ran, itself included."""
        return self.crowd.batch

    @property
    def sharing_crowd(self) -> Crowd:
        """The steady crowd in which a request would have had the share that it had."""
        if 0.0 < self.share <= 1.0:
            return Crowd(1.0 / self.share, self.crowd.prompts_ms, self.crowd.cached_tokens)
        return self.crowd


class AgreedSizes(NamedTuple):
    """What the endpoints of a model agree on of the size of a token (`core.token_sizes`), None
    where they do not: in the bytes of an answer, the pieces of a stream, the bytes of a prompt."""

    answer: TokenBytes | None = None
    stream: TokenBytes | None = None
    prompt: TokenBytes | None = None


NOTHING_AGREED = AgreedSizes()


class Account(NamedTuple):
    """Tokens and IT energy of a finished request, both ways of counting, and how they are known.

    ``prompt_energy_j``: the part of ``energy_j`` that reading the prompt took, by the profile.
    ``energy_low_j``, ``energy_high_j``: a 90 % interval of an estimate; NaN of anything else.
    ``doubts``: what the backend reported and was not believed. ``cached_tokens``: of the prompt,
    by the report where there is one, else as it was decided by. ``input_tokens``: of the prompt, as
    reported; NaN where nothing is.
    """

    tokens: TokenCount
    energy_j: float
    marginal_energy_j: float
    kind: Provenance
    energy_low_j: float = math.nan
    energy_high_j: float = math.nan
    doubts: tuple[Doubt, ...] = ()
    prompt_energy_j: float = math.nan
    cached_tokens: float = 0.0
    cached_kind: CachedKind = CachedKind.EXPECTED
    input_tokens: float = math.nan


class ReadPrompt(NamedTuple):
    """Tokens of a prompt, and those of them that were cached."""

    input_tokens: float
    cached_tokens: float


def account(
    request: Request,
    decision: Decision,
    run: Run,
    report: BackendReport,
    expected: Expected,
    bytes_per_token: TokenBytes = UNLEARNED,
    agreed: AgreedSizes = NOTHING_AGREED,
) -> Account:
    """The backend's own figures where it reports them and the run bears them out, else estimates.

    An emulated endpoint's joules are called emulated, whoever computed them.
    """
    profile = decision.served.profile
    tokens = _ONE_ANSWER
    doubts: tuple[Doubt, ...] = ()
    read, cached_kind = (
        ReadPrompt(expected.input_tokens, decision.cached_tokens),
        CachedKind.EXPECTED,
    )
    prompt = math.nan
    if isinstance(profile, TokenProfile):
        most = most_tokens(request, decision.served, profile, expected, run.e2e_ms)
        prompt, doubts = _told_input(request, decision.served, run, report, agreed.prompt)
        if prompt == prompt:
            read = ReadPrompt(prompt, min(decision.cached_tokens, max(0.0, prompt - 1.0)))
        told, more = _told_cached(request, run, report, read.input_tokens)
        doubts += more
        if told == told:
            read, cached_kind = ReadPrompt(read.input_tokens, told), CachedKind.REPORTED
        tokens, more = _count_tokens(
            profile, run, report.output_tokens, read, bytes_per_token, most, agreed
        )
        doubts += more
    if report.malformed:
        doubts = (*doubts, Doubt.MALFORMED)
    doubts += told_times(run, report)[1]
    energy_j, marginal_j = report.energy_j, report.marginal_energy_j
    if energy_j == energy_j or marginal_j == marginal_j:
        band = energy_band(profile, run.e2e_ms, run.service_ms, tokens.low)
        energy_j, marginal_j, found = believed_energy(report, band)
        doubts += found
    kind, low_j, high_j = Provenance.MEASURED, math.nan, math.nan
    n_in, cached = read
    crowd, service_s = run.sharing_crowd, run.service_ms / MS_PER_S
    estimate = estimate_run(profile, n_in, tokens.tokens, crowd, service_s, cached_tokens=cached)
    prompt_j = estimate.prompt_j
    if marginal_j != marginal_j:
        marginal_j = estimate.marginal_j
    if energy_j != energy_j:
        energy_j, kind = estimate.attributional_j, decision.endpoint.kind_by(profile)
        low_j, high_j = energy_interval(profile, crowd, service_s, read, tokens)
    else:
        # A meter tells no prompt from an answer: the profile's proportion of what it says. By the
        # profile's own times: what held a request up on its way would make its prompt look small.
        usual = predict_run(profile, n_in, tokens.tokens, crowd, cached)
        if usual.attributional_j > 0.0:
            prompt_j = energy_j * usual.prompt_j / usual.attributional_j
    if decision.endpoint.emulated:
        kind = Provenance.EMULATED
    return Account(
        tokens, energy_j, marginal_j, kind, low_j, high_j, doubts, prompt_j, read.cached_tokens,
        cached_kind, prompt,
    )  # fmt: skip


def answer_size(run: Run, agreed: AgreedSizes) -> tuple[float, TokenBytes | None]:
    """What was seen of an answer, and what a token is of that: bytes, or else pieces."""
    if run.answer.output_bytes > 0.0:
        return run.answer.output_bytes, agreed.answer
    return float(run.messages), agreed.stream


def decoding_of(
    profile: TokenProfile, read: ReadPrompt, crowd: Crowd, service_ms: float, pace: float
) -> tuple[float, float]:
    """What a token takes among ``crowd``, and for how long of ``service_ms`` there was time for
    tokens, both in ms. ``pace``: as of `Run`; the second may be below 0.
    """
    batch = max(crowd.batch, 1.0)
    running = min(batch, float(profile.max_batch))
    # Of those beyond max_batch each waits its turn.
    share = running / batch
    token_ms = profile.tpot_ms(running, crowd.cached_tokens * share, crowd.prompts_ms * share)
    return token_ms * pace, service_ms * share - profile.lone_ttft_ms(*read)


def told_times(run: Run, report: BackendReport) -> tuple[StatedTimes, tuple[Doubt, ...]]:
    """Where the time of a run went, by the report, else by the answer; UNTIMED: not known."""
    stated = run.answer.times if report.times is UNTIMED else report.times
    return (UNTIMED, ()) if stated is UNTIMED else believed_times(stated, run.e2e_ms)


def _told_input(
    request: Request,
    served: ServedModel,
    run: Run,
    report: BackendReport,
    agreed: TokenBytes | None,
) -> tuple[float, tuple[Doubt, ...]]:
    """Tokens of the prompt, by the report, else by the answer; NaN: not known."""
    told, doubts = believed_input(report.input_tokens, request, served, agreed)
    if told != told:
        told, more = believed_input(run.answer.input_tokens, request, served, agreed)
        doubts += more
    return told, doubts


def _told_cached(
    request: Request, run: Run, report: BackendReport, input_tokens: float
) -> tuple[float, tuple[Doubt, ...]]:
    """Tokens of the prompt that were cached, by the report, else by the answer; NaN: not known."""
    told, doubts = believed_cached(report.cached_tokens, input_tokens, request)
    if told != told:
        told, more = believed_cached(run.answer.cached_tokens, input_tokens, request)
        doubts += more
    return told, doubts


def _count_tokens(
    profile: TokenProfile,
    run: Run,
    reported: float,
    read: ReadPrompt,
    bytes_per_token: TokenBytes,
    most: float,
    agreed: AgreedSizes,
) -> tuple[TokenCount, tuple[Doubt, ...]]:
    """What the backend reports, else its answer states, else a stream shows, else an estimate."""
    size, of_token = answer_size(run, agreed)
    told, doubts = believed_tokens(reported, most, size, of_token)
    if told != told:
        told, more = believed_tokens(run.answer.output_tokens, most, size, of_token)
        doubts += more
    if told == told:
        return known_count(told, TokensKind.REPORTED), doubts
    if run.messages > 1:
        return known_count(min(float(run.messages), most), TokensKind.COUNTED), doubts
    token_ms, decoding_ms = decoding_of(profile, read, run.crowd, run.service_ms, run.pace)
    count = estimate_tokens(
        run.answer.output_bytes, bytes_per_token, token_ms, decoding_ms, run.e2e_ms, most
    )
    return count, doubts


def energy_interval(
    profile: Profile, crowd: Crowd, service_s: float, read: ReadPrompt, tokens: TokenCount
) -> tuple[float, float]:
    """Of an estimate's attributional J, a 90 % interval; NaN of a task's."""
    if isinstance(profile, TaskProfile):
        return math.nan, math.nan
    n_in, cached = read
    low_w, high_w = profile.prefill_w_low, profile.prefill_w_high
    low = estimate_run(profile, n_in, tokens.low, crowd, service_s, low_w, cached)
    high = estimate_run(profile, n_in, tokens.high, crowd, service_s, high_w, cached)
    return low.attributional_j * ENERGY_LOW, high.attributional_j * ENERGY_HIGH


def predict(
    decision: Decision,
    expected: Expected,
    crowd: Crowd,
    network_j: float,
    regions: Mapping[str, Region],
) -> Predicted:
    """What the receipt of a request will say, by its profile among ``crowd``.

    The same for the endpoint that latency-first would have taken, among the same crowd: so that the
    difference is where the request ran, and what of its prompt is cached here and there, not how
    full the one or the other happened to be. And for each variant of an alias that did not serve
    it, with an answer of the same length.
    """
    n_in, n_out = expected.input_tokens, expected.output_tokens
    network_kwh = network_j / J_PER_KWH
    profile, cached = decision.served.profile, decision.cached_tokens
    energy_j = predict_run(profile, n_in, n_out, crowd, cached).attributional_j
    kwh = energy_j * regions[decision.endpoint.region].pue / J_PER_KWH + network_kwh

    def elsewhere_g(other: Alternative | None) -> float:
        if other is None:
            return math.nan
        other_j = energy_j
        there, cached_there = other.served.profile, other.cached_tokens
        if there is not profile or cached_there != cached:
            other_j = predict_run(there, n_in, n_out, crowd, cached_there).attributional_j
        other_kwh = other_j * regions[other.endpoint.region].pue / J_PER_KWH + network_kwh
        return other_kwh * other.g_per_kwh

    grams_of_others: tuple[float, ...] = ()
    if decision.variant is not None:
        grams_of_others = tuple(elsewhere_g(one.place) for one in decision.variant.others)
    first_g = elsewhere_g(decision.latency_first)
    return Predicted(energy_j, kwh * decision.run_g_per_kwh, first_g, grams_of_others)


def build_receipt(
    decision_id: str,
    request: Request,
    decision: Decision,
    policy: str,
    region: Region,
    attempts: int,
    account: Account,
    predicted: Predicted,
    ttft_ms: float,
    e2e_ms: float,
    network_j: float,
    g_per_kwh: float,
    finished_at: float,
    run_s: float = math.nan,
) -> Receipt:
    """``g_per_kwh``: intensity averaged over the run; NaN (then so are the grams) if unknown.
    ``run_s``: from the attempt's departure to its end.

    ``ttft_ms``, ``e2e_ms``: from the request's arrival at the gateway.
    """
    facility_j = account.energy_j * region.pue + network_j
    tokens = account.tokens
    return Receipt(
        decision_id,
        request,
        decision,
        policy,
        region.name,
        region.grid_zone,
        attempts,
        tokens.tokens,
        account.energy_j,
        account.kind,
        account.marginal_energy_j,
        facility_j,
        grams(facility_j, g_per_kwh),
        ttft_ms,
        e2e_ms,
        finished_at,
        tokens_kind=tokens.kind,
        tokens_low=tokens.low,
        tokens_high=tokens.high,
        energy_low_j=account.energy_low_j,
        energy_high_j=account.energy_high_j,
        predicted=predicted,
        doubts=account.doubts,
        prompt_energy_j=account.prompt_energy_j,
        cached_tokens=account.cached_tokens,
        cached_kind=account.cached_kind,
        input_tokens=account.input_tokens,
        g_per_kwh=g_per_kwh,
        pue=region.pue,
        network_j=network_j,
        run_s=run_s,
    )


def with_marginal(receipt: Receipt, marginal: Intensity | None) -> Receipt:
    """``receipt`` with what its facility energy means at a ``marginal`` intensity, if known."""
    if marginal is None:
        return receipt
    marginal_g = grams(receipt.facility_energy_j, marginal.g_per_kwh)
    return receipt._replace(marginal=marginal, marginal_gco2e=marginal_g)
