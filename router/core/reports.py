"""The gate for what servers report of a request: no figure passes that the run cannot bear out.

A report may correct a profile, which is what it is for, so the bands are wide: a server whose
profile is wrong threefold keeps its figures. They are there for what is no measurement of this
request at all: another unit, a counter that was never filled in or has wrapped, a lie.

    tokens   1 .. what the request and the context allow, a hundred of the model's long answers,
             and ten times the pace of a lone sequence (an answer from a cache comes at once:
             up to a thousand are believed whatever their time)
    input    tokens of the prompt: 1 .. what the context allows, and one a byte of the request with
             MOST_BESIDE more, for pictures that it but names
    both     a third .. three times what the text has by the size that tokens have at all
             endpoints of the model, where these agree (`router.core.token_sizes`)
    cached   tokens of the prompt: none .. all of it, where its length is stated
    times    what the request took by this gateway's clock, in all
    joules   a tenth of the least share of the replica's power .. five times its greatest power
             over the run (token profiles); a tenth .. five times the profile's joules, more where
             the run took longer than the profile says, less where shorter (task profiles)

A figure outside is ignored as a whole, not clipped: half of a wrong number is no better. What
takes its place is estimated, and the receipt says so.
"""

from __future__ import annotations

import math
import sys
from enum import StrEnum
from typing import NamedTuple

from router.contract import UNTIMED, BackendReport, StatedTimes
from router.core.claims import MAX_TOKENS
from router.core.energy import attributional_j_per_token, greatest_w
from router.core.lengths import Expected
from router.core.token_sizes import unlike
from router.core.tokens import TokenBytes
from router.model import Request, ServedModel, TaskProfile, TokenProfile
from router.units import MS_PER_S

# Three for a profile that is wrong, the rest for what no profile has: power supplies and fans, a
# prompt that runs at the power limit, an engine that charges the whole machine to each request.
MOST_POWERS = 5.0
# Three for a profile that is wrong, three for a replica that batches more than its profile or
# lets the request wait.
LEAST_SHARE = 0.1
# Times the profile's pace. Three for a profile that is wrong, three for speculative decoding.
FASTEST = 10.0
# The energy counters of A100 and H100 move every 100 ms (arXiv 2312.02741): a short run may be
# charged a whole tick.
COUNTER_TICK_S = 0.1
# Tokens of pictures that a request names by URL: one is read as 1,000 to 2,000, rarely 16,384
# (Qwen2.5-VL's most).
MOST_BESIDE = 16_384.0
# Of times by two clocks, and of their rounding.
_CLOCKS_MS = 1.0
# A model that has been terse so far may begin to talk.
LONGEST, LEAST_LIMIT = 100.0, 1000.0


class Doubt(StrEnum):
    """Why a reported figure was ignored: a flag of the receipt and a label of the metric."""

    MALFORMED = "report_malformed"
    TOKENS_LOW = "report_tokens_too_low"
    TOKENS_HIGH = "report_tokens_too_high"
    ENERGY_LOW = "report_energy_too_low"
    ENERGY_HIGH = "report_energy_too_high"
    MARGINAL_HIGH = "report_marginal_energy_too_high"
    CACHED_HIGH = "report_cached_tokens_too_high"
    INPUT_HIGH = "report_input_tokens_too_high"
    INPUT_LOW = "report_input_tokens_too_low"
    TIMES_HIGH = "report_times_too_long"


class EnergyBand(NamedTuple):
    """IT joules that a report of one run may state."""

    least_j: float
    most_j: float


def most_tokens(
    request: Request, served: ServedModel, profile: TokenProfile, expected: Expected, run_ms: float
) -> float:
    """The most output tokens that a request can have had in ``run_ms``; at least 1."""
    usual = max(expected.output_tokens, expected.output_tokens_quantile)
    return max(
        1.0,
        min(
            request.max_output_tokens,
            served.context_tokens,
            max(LONGEST * usual, LEAST_LIMIT),
            LEAST_LIMIT + FASTEST * run_ms / profile.tpot_ms(1.0),
        ),
    )


def energy_band(
    profile: TokenProfile | TaskProfile, run_ms: float, service_ms: float, tokens_low: float
) -> EnergyBand:
    """What a report may state of a run. ``service_ms``: ``run_ms`` less the round trip;
    ``tokens_low``: the fewest tokens that it can have had.
    """
    ticked_s = run_ms / MS_PER_S + COUNTER_TICK_S
    if isinstance(profile, TaskProfile):
        usual_s = profile.service_ms / MS_PER_S
        return EnergyBand(
            LEAST_SHARE * profile.energy_j * min(1.0, service_ms / profile.service_ms),
            MOST_POWERS
            * profile.energy_j
            * (1.0 + profile.host_fraction)
            * max(1.0, ticked_s / usual_s),
        )
    full = float(profile.max_batch)
    most_w = greatest_w(profile)
    # Whichever is less: a request may have waited long for few tokens.
    least_j = min(
        most_w / full * service_ms / MS_PER_S,
        attributional_j_per_token(profile, full) * tokens_low,
    )
    return EnergyBand(LEAST_SHARE * least_j, MOST_POWERS * most_w * ticked_s)


def believed_tokens(
    reported: float, most: float, size: float = math.nan, agreed: TokenBytes | None = None
) -> tuple[float, tuple[Doubt, ...]]:
    """A reported count, NaN where it says nothing or is not believed (then with the reason).

    ``size``: of the answer, in what is ``agreed`` of tokens at all endpoints.
    """
    if reported > most:
        return math.nan, (Doubt.TOKENS_HIGH,)
    if reported >= 1.0:
        off = unlike(reported, size, agreed)
        if not off:
            return reported, ()
        return math.nan, (Doubt.TOKENS_HIGH if off > 0 else Doubt.TOKENS_LOW,)
    # A zero is a counter that nobody filled in.
    return math.nan, (Doubt.TOKENS_LOW,) if reported < 1.0 and reported != 0.0 else ()


def prompt_size(request: Request) -> float:
    """By what prompts are compared with their tokens: bytes of text, else of the request."""
    return float(request.prompt_bytes or request.payload_bytes)


def believed_input(
    reported: float, request: Request, served: ServedModel, agreed: TokenBytes | None = None
) -> tuple[float, tuple[Doubt, ...]]:
    """Reported tokens of a prompt, NaN where nothing is said or it is not believed. ``agreed``: of
    tokens of prompts at all endpoints."""
    if not reported >= 1.0:
        return math.nan, ()
    # Where nothing bounds it, still a count that figures can be made of.
    most = min(served.context_tokens, (request.payload_bytes or MAX_TOKENS) + MOST_BESIDE)
    off = 1 if reported > most else unlike(reported, prompt_size(request), agreed)
    if not off:
        return reported, ()
    return math.nan, (Doubt.INPUT_HIGH if off > 0 else Doubt.INPUT_LOW,)


def believed_cached(
    reported: float, input_tokens: float, request: Request
) -> tuple[float, tuple[Doubt, ...]]:
    """Reported tokens of a prompt that were cached, NaN where nothing is said or it is not
    believed. All but one of ``input_tokens``, as far as those are known, at most; and where the
    caller does not say them, what the request's bytes cannot hold, of at least one a token, is not
    believed either."""
    if not reported >= 0.0:
        return math.nan, ()
    most = request.input_tokens
    if math.isnan(most):
        most = request.payload_bytes or sys.float_info.max
    if reported > most:
        return math.nan, (Doubt.CACHED_HIGH,)
    return min(reported, max(0.0, input_tokens - 1.0)), ()


def believed_times(stated: StatedTimes, run_ms: float) -> tuple[StatedTimes, tuple[Doubt, ...]]:
    """Where a server says that the time of a run went, which took ``run_ms`` by this gateway's
    clock; UNTIMED where that cannot be: what happens there happens within it."""
    told_ms = sum(one_ms for one_ms in stated if one_ms == one_ms)
    if told_ms > run_ms + _CLOCKS_MS:
        return UNTIMED, (Doubt.TIMES_HIGH,)
    return stated, ()


def believed_energy(
    report: BackendReport, band: EnergyBand
) -> tuple[float, float, tuple[Doubt, ...]]:
    """(attributional J, marginal J, reasons): NaN where nothing is said or it is not believed."""
    energy_j, marginal_j = report.energy_j, report.marginal_energy_j
    doubts: tuple[Doubt, ...] = ()
    if energy_j < band.least_j:
        energy_j, doubts = math.nan, (Doubt.ENERGY_LOW,)
    elif energy_j > band.most_j:
        energy_j, doubts = math.nan, (Doubt.ENERGY_HIGH,)
    if marginal_j > band.most_j:
        marginal_j, doubts = math.nan, (*doubts, Doubt.MARGINAL_HIGH)
    elif marginal_j < 0.0:
        marginal_j, doubts = math.nan, (*doubts, Doubt.MALFORMED)
    return energy_j, marginal_j, doubts
