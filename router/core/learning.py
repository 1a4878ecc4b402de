"""What a success teaches: how wrong the latency model is on its endpoint, how long answers are.

The round trip is known and not the endpoint's doing, so errors are taken of the rest. Nor is it the
model's error that others came or went while a request ran: its TPOT is held against the model's at
the load that there was. What later requests may add is limited by the batch cap of each. Where a
request had to queue for its place, its wait is mostly others' doing and teaches nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from router.core.accounting import Run
from router.core.energy import tpot_ms
from router.core.reports import FASTEST
from router.core.seat import LatencyErrors, Seat
from router.model import Decision, Request, TokenProfile

# Answers of so many tokens and more tell TPOT in full, shorter ones in proportion: one pause, or
# whether the first token counts, is all of a short answer's TPOT and little of a long one's.
TELLING_TOKENS = 64.0


class Prediction(NamedTuple):
    """The latency model's own figures, without its errors, ms: prefill as of the decision, NaN
    where the request had to queue or the prompt's length is not known; TPOT at the load while it
    ran.
    """

    prefill_ms: float
    tpot_ms: float


def prediction_of(
    decision: Decision,
    errors: LatencyErrors,
    batch: float,
    batch_at_start: float,
    prompt_known: bool = True,
) -> Prediction:
    """``errors``: at decision time, taken back out of the quantile.

    ``batch``: mean requests on the endpoint while it ran, itself included; ``batch_at_start``:
    those when it went there; ``prompt_known``: no false length of the prompt was decided by.
    """
    profile = decision.served.profile
    prefill_ms = math.nan
    if prompt_known and batch_at_start <= profile.max_batch:
        prefill_ms = (decision.ttft_ms - decision.rtt_ms - errors.delay_ms) / errors.ttft
    running_ms = 0.0
    if isinstance(profile, TokenProfile):
        running_ms = tpot_ms(profile, min(batch, float(profile.max_batch)))
    return Prediction(prefill_ms, running_ms)


def most_output_tokens(request: Request, decision: Decision, run: Run) -> float:
    """More cannot have come of ``request``, whatever is reported: its own limit, the context, and
    what a replica FASTEST times as quick as its profile makes in that time.
    """
    most = min(request.max_output_tokens, decision.served.context_tokens)
    profile = decision.served.profile
    if isinstance(profile, TokenProfile):
        quickest_ms = tpot_ms(profile, 1.0) / FASTEST
        most = min(most, 1.0 + run.e2e_ms / quickest_ms)
    return most


def teach_latency(seat: Seat, prediction: Prediction, run: Run, output_tokens: float) -> None:
    """Learn from one success.

    A stream tells TTFT and TPOT apart, and of TTFT what is delay and what is factor; a unary call
    teaches both by the ratio of the whole.
    """
    if not output_tokens >= 1.0:
        return
    share = min(1.0, output_tokens / TELLING_TOKENS)
    if run.ttft_ms == run.ttft_ms:
        seat.wait.observe(run.ttft_ms - run.rtt_ms, prediction.prefill_ms)
        if output_tokens > 1.0:
            pace_ms = (run.e2e_ms - run.ttft_ms) / (output_tokens - 1.0)
            seat.tpot_ratio.observe(pace_ms, prediction.tpot_ms, share)
    else:
        service_ms = run.e2e_ms - run.rtt_ms
        whole_ms = prediction.prefill_ms + output_tokens * prediction.tpot_ms
        seat.wait.observe(service_ms, whole_ms, divides=False)
        seat.tpot_ratio.observe(service_ms, whole_ms, share)
    seat.publish_latency()
