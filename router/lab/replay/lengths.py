"""Output lengths as a model's prior describes them: log-normal, drawn with the caller's rng."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from router.contract import Rng
from router.model import LengthPrior

_UNIT = NormalDist()
_Z95 = _UNIT.inv_cdf(0.95)
# A log-normal's p95 is at most exp(z95^2 / 2) = 3.87 times its mean, reached at sigma = z95.
_MAX_LOG_RATIO = _Z95 * _Z95 / 2.0


class LogNormal(NamedTuple):
    """Parameters of ln(tokens)."""

    mu: float
    sigma: float

    @classmethod
    def of(cls, prior: LengthPrior) -> LogNormal:
        """The log-normal with the prior's mean and 95th percentile of output tokens.

        A p95 beyond 3.87 times the mean is no log-normal's: the widest one stands in.
        """
        ratio = math.log(prior.output_tokens_p95 / prior.output_tokens)
        sigma = _Z95 - math.sqrt(_Z95 * _Z95 - 2.0 * min(max(ratio, 0.0), _MAX_LOG_RATIO))
        return cls(math.log(prior.output_tokens) - sigma * sigma / 2.0, sigma)

    def draw(self, rng: Rng, at_most: float = math.inf) -> int:
        """Whole tokens, from 1 to ``at_most``."""
        u = min(max(rng.random(), 1e-12), 1.0 - 1e-12)
        tokens = math.exp(self.mu + self.sigma * _UNIT.inv_cdf(u))
        return int(max(1.0, min(round(tokens), at_most)))
