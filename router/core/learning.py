"""What a success teaches: how wrong the latency model is on its endpoint, how long answers are.

The round trip is known and not the endpoint's doing, so ratios are taken of the rest.
"""

from __future__ import annotations

from typing import NamedTuple

from router.core.accounting import Run
from router.core.board import Seat
from router.model import Decision


class Prediction(NamedTuple):
    """The latency model's own figures at decision time, without the error factors, ms."""

    wait_ms: float
    tpot_ms: float


def prediction_of(decision: Decision, factors: tuple[float, float]) -> Prediction:
    """Take the error factors (TTFT, TPOT) of decision time back out of the quantiles."""
    ttft_factor, tpot_factor = factors
    return Prediction(
        (decision.ttft_ms - decision.rtt_ms) / ttft_factor, decision.tpot_ms / tpot_factor
    )


def teach_latency(
    seat: Seat, prediction: Prediction, run: Run, output_tokens: float, seen_rtt_ms: float
) -> None:
    """Learn from one success. ``seen_rtt_ms``: round trip between this gateway and the endpoint.

    A stream tells TTFT and TPOT apart; a unary call teaches both by the ratio of the whole.
    """
    service_ms = run.e2e_ms - seen_rtt_ms
    if run.ttft_ms == run.ttft_ms and output_tokens > 1.0:
        seat.ttft_ratio.observe(run.ttft_ms - seen_rtt_ms, prediction.wait_ms)
        seat.tpot_ratio.observe(
            (run.e2e_ms - run.ttft_ms) / (output_tokens - 1.0), prediction.tpot_ms
        )
    elif output_tokens == output_tokens:
        whole_ms = prediction.wait_ms + output_tokens * prediction.tpot_ms
        seat.ttft_ratio.observe(service_ms, whole_ms)
        seat.tpot_ratio.observe(service_ms, whole_ms)
    else:
        return
    seat.publish_latency()
