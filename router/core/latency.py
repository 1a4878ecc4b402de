"""How wrong the latency model is on one endpoint: actual over predicted, learned from outcomes.

The log of the ratio is tracked by an exponentially weighted mean and variance; the factor at a
quantile is exp(mean + z * sd), so that "meets the budget" is a probability (SCIENCE, section 3).
Only successes teach: a fast failure must not make an endpoint look quick.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_PRIOR_SD = 0.10  # of the log ratio; p95 over p50 inter-token latency is 1.1-1.3 in ML.ENERGY v3
_WEIGHT = 0.05  # of one observation: a memory of about 20 requests
_RATIO_BOUNDS = (0.02, 50.0)


def z_of(quantile: float) -> float:
    """Standard normal deviate of ``quantile`` in (0, 1)."""
    return NormalDist().inv_cdf(quantile)


class RatioTracker:
    """Distribution of actual / predicted for one figure (TTFT or TPOT) of one endpoint."""

    __slots__ = ("_mean", "_variance")

    def __init__(self) -> None:
        self._mean = 0.0
        self._variance = _PRIOR_SD**2

    def observe(self, actual_ms: float, predicted_ms: float, share: float = 1.0) -> None:
        """Take in one success. Unusable figures (not positive, not finite) teach nothing.

        ``share``: how much of a full observation it is, 0..1.
        """
        if not (0.0 < actual_ms < math.inf and 0.0 < predicted_ms < math.inf):
            return
        low, high = _RATIO_BOUNDS
        error = math.log(min(max(actual_ms / predicted_ms, low), high)) - self._mean
        weight = _WEIGHT * share
        self._mean += weight * error
        self._variance = (1.0 - weight) * (self._variance + weight * error * error)

    def factor(self, z: float) -> float:
        """The ratio at the quantile whose standard normal deviate is ``z``."""
        return math.exp(self._mean + z * math.sqrt(self._variance))
