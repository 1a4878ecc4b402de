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
from router.core.energy import Crowd
from router.core.reports import FASTEST
from router.core.seat import Seat
from router.model import Decision, Request, TokenProfile

# Answers of so many tokens and more tell TPOT in full, shorter ones in proportion: one pause, or
# whether the first token counts, is all of a short answer's TPOT and little of a long one's.
TELLING_TOKENS = 64.0


class Prediction(NamedTuple):
    """The latency model's own figures, without its errors, ms: prefill and queue as of the
    decision, NaN where the request had to wait for a place or the prompt's length is not known;
    TPOT at the load while it ran.
    """

    prefill_ms: float
    queue_ms: float
    tpot_ms: float


def prediction_of(
    decision: Decision,
    crowd: Crowd,
    batch_at_start: float,
    prompt_known: bool = True,
    read_share: float = 1.0,
) -> Prediction:
    """``crowd``: what it met there on the mean while it ran; ``batch_at_start``: requests there
    when it came; ``prompt_known``: no false length of the prompt was decided by; ``read_share``: of
    the tokens that were to be read of it, those that were, since others were cached.
    """
    profile = decision.served.profile
    prefill_ms = queue_ms = math.nan
    if prompt_known and batch_at_start <= profile.max_batch:
        prefill_ms, queue_ms = decision.prefill_ms, decision.queue_ms
        prefill_ms += (read_share - 1.0) * decision.burden.prompt_ms
    running_ms = 0.0
    if isinstance(profile, TokenProfile):
        running = min(crowd.batch, float(profile.max_batch))
        share = running / max(crowd.batch, 1.0)
        # Of its own prompt and answer it knows; those of the others while it ran slow it too.
        cached = crowd.cached_tokens * share
        running_ms = profile.tpot_ms(running, cached, crowd.prompts_ms * share)
    return Prediction(prefill_ms, queue_ms, running_ms)


def most_output_tokens(request: Request, decision: Decision, run: Run) -> float:
    """More cannot have come of ``request``, whatever is reported: its own limit, the context, and
    what a replica FASTEST times as quick as its profile makes in that time.
    """
    most = min(request.max_output_tokens, decision.served.context_tokens)
    profile = decision.served.profile
    if isinstance(profile, TokenProfile):
        quickest_ms = profile.tpot_ms(1.0) / FASTEST
        most = min(most, 1.0 + run.e2e_ms / quickest_ms)
    return most


def borne_out(
    seat: Seat, prediction: Prediction, run: Run, output_tokens: float, by_size: float
) -> float:
    """``output_tokens`` as far as they may teach a pace: of a count that makes the endpoint quicker
    than its twins no more than ``by_size``, what was seen of the answer has by the size that tokens
    have at all endpoints; NaN where these do not agree, and 0 where they soon may.

    A server is quicker by its clock, not by its word. NaN of a count that teaches nothing.
    """
    if not by_size < output_tokens or not prediction.tpot_ms > 0.0:
        return output_tokens
    if run.ttft_ms == run.ttft_ms:
        decoding_ms, first = run.e2e_ms - run.ttft_ms, 1.0
    else:
        decoding_ms, first = run.e2e_ms - run.rtt_ms - prediction.prefill_ms, 0.0
        decoding_ms -= prediction.queue_ms
    at_twins = first + decoding_ms / (prediction.tpot_ms * seat.latency.twins_pace)
    if at_twins != at_twins:
        # Nothing is known of its prompt, and nothing will be learned.
        return by_size
    if not by_size and output_tokens > FASTEST * max(at_twins, 0.0):
        return math.nan
    return max(1.0, by_size, min(at_twins, output_tokens))


def decoding_ms_of(
    seat: Seat, prediction: Prediction, run: Run, output_tokens: float, stated_ms: float
) -> float:
    """What of a unary call's time its tokens after the first took, by its server's word: NaN where
    that tells nothing.

    The word divides what this gateway's clock measured, and neither part may look quicker by it
    than the whole did by the clock, or than such a part is at the endpoint's twins.
    """
    wait_ms = prediction.prefill_ms + prediction.queue_ms
    service_ms, decoding_ms = run.e2e_ms - run.rtt_ms, (output_tokens - 1.0) * prediction.tpot_ms
    if not (0.0 <= stated_ms < service_ms and decoding_ms > 0.0 and wait_ms > 0.0):
        return math.nan
    latency = seat.latency
    slowness = service_ms / (wait_ms + decoding_ms)
    least_ms = min(slowness, latency.twins_pace) * decoding_ms
    most_ms = service_ms - min(slowness, latency.slowness) * wait_ms
    return min(max(stated_ms, least_ms), most_ms)


def teach_latency(
    seat: Seat,
    prediction: Prediction,
    run: Run,
    output_tokens: float,
    by_size: float = math.nan,
    stated_decoding_ms: float = math.nan,
) -> None:
    """Learn from one success.

    A stream tells TTFT and TPOT apart, and of TTFT what is delay and what is factor. So does a
    unary call whose server says what of its time was decoding, ``stated_decoding_ms``; else it
    teaches both by the ratio of the whole. ``by_size``: as of `borne_out`.
    """
    output_tokens = borne_out(seat, prediction, run, output_tokens, by_size)
    if not output_tokens >= 1.0:
        return
    if run.ttft_ms != run.ttft_ms:
        decoding_ms = decoding_ms_of(seat, prediction, run, output_tokens, stated_decoding_ms)
        run = run._replace(ttft_ms=run.e2e_ms - decoding_ms)
    share = min(1.0, output_tokens / TELLING_TOKENS)
    if run.ttft_ms == run.ttft_ms:
        seat.wait.observe(run.ttft_ms - run.rtt_ms, prediction.prefill_ms, prediction.queue_ms)
        if output_tokens > 1.0:
            pace_ms = (run.e2e_ms - run.ttft_ms) / (output_tokens - 1.0)
            seat.tpot_ratio.observe(pace_ms, prediction.tpot_ms, share)
    else:
        service_ms = run.e2e_ms - run.rtt_ms
        own_ms = prediction.prefill_ms + output_tokens * prediction.tpot_ms
        whole_ms = own_ms + prediction.queue_ms
        seat.wait.observe(service_ms, own_ms, prediction.queue_ms, divides=False)
        seat.tpot_ratio.observe(service_ms, whole_ms, share)
    seat.publish_latency()
