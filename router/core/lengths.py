"""Expected tokens per model and tenant: unknown at arrival, learned from what came.

The mean is an exponentially weighted average (it prices energy); the quantile is log-normal, by
the weighted mean and variance of log n (it guards end-to-end budgets), but not above the longest
answer lately seen. ``max_tokens`` bounds both.

Real lengths have short and long clusters, not one log-normal: on ServeGen's m-large the log-normal
alone puts the 95 % quantile at 1,585 tokens, this at 610, and 498 is true. Log-normal lengths lose
2 % of theirs at most.

Nobody's word moves much. An answer counts for no more than 100 times the prior, nor than a few
standard deviations from what is usual. Tenants learn apart; of each, only the first few requests
teach what a tenant unknown so far starts from. Too long an expectation refuses requests, and what
is refused teaches nothing: so a refusal that the prior would not have given is a doubt, and moves
what was learned a step back towards the prior.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from copy import copy
from typing import NamedTuple

from router.core.latency import Z95, z_of
from router.model import LengthPrior

_WEIGHT = 0.02  # a memory of about 50 requests
# How fast the longest answer is forgotten: two thirds of the way to the mean in 220 requests.
_FORGETTING = 0.005
# Before any request the prior's quantile is to be believed, whichever is asked for.
_PRIOR_TOP_SD = 4.0
# An answer in 2 million of a log-normal lies beyond. Of what unknown tenants start from, one in 22:
# there it is better to know less than to believe one of them. The least spread is for priors
# without any.
_REACH_SDS = 5.0
_SHARED_REACH_SDS = 2.0
_LEAST_SD = 0.5
# A prompt counts for so many times the usual one at most, or at least for one part in so many.
_INPUT_REACH = 4.0
# Of one answer, in means of its model.
MOST_PRIORS = 100.0
# So many requests of each tenant teach what unknown tenants start from.
_SHARED_LESSONS = 4
# How far one refusal goes back: half of the way in 14.
_DOUBT = 0.05
_MAX_TENANTS = 4096


class Expected(NamedTuple):
    """Tokens to expect of one request: input, output (mean), output at the policy's quantile."""

    input_tokens: float
    output_tokens: float
    output_tokens_quantile: float


class _Lengths:
    __slots__ = ("input_mean", "lessons", "log_mean", "log_top", "log_variance", "mean")

    def __init__(self, prior: LengthPrior) -> None:
        # A log-normal of the given mean m and 95 % quantile q: log q = log m - s^2/2 + 1.645 s.
        self.mean = prior.output_tokens
        self.input_mean = prior.input_tokens
        spread = math.log(max(prior.output_tokens_p95 / prior.output_tokens, 1.0))
        sd = Z95 - math.sqrt(max(Z95**2 - 2.0 * spread, 0.0))
        self.log_variance = sd * sd
        self.log_mean = math.log(prior.output_tokens) - self.log_variance / 2.0
        self.log_top = self.log_mean + _PRIOR_TOP_SD * sd
        self.lessons = 0

    def observe(
        self, input_tokens: float, output_tokens: float, reach_sds: float = _REACH_SDS
    ) -> None:
        """Take in one answer; ``input_tokens`` NaN where unknown."""
        log_tokens = math.log(output_tokens)
        error = log_tokens - self.log_mean
        reach = reach_sds * max(math.sqrt(self.log_variance), _LEAST_SD)
        if abs(error) > reach:
            error = math.copysign(reach, error)
            log_tokens = self.log_mean + error
            output_tokens = math.exp(log_tokens)
        self.mean += _WEIGHT * (output_tokens - self.mean)
        if input_tokens == input_tokens:
            usual = self.input_mean
            clipped = min(max(input_tokens, usual / _INPUT_REACH), usual * _INPUT_REACH)
            self.input_mean += _WEIGHT * (clipped - usual)
        self.log_mean += _WEIGHT * error
        self.log_variance = (1.0 - _WEIGHT) * (self.log_variance + _WEIGHT * error * error)
        self.log_top = max(log_tokens, self.log_top - _FORGETTING * (self.log_top - self.log_mean))

    def shrink(self, towards: _Lengths) -> None:
        """One step towards shorter lengths; what is shorter already stays."""
        for name in ("mean", "input_mean", "log_mean", "log_variance", "log_top"):
            excess = getattr(self, name) - getattr(towards, name)
            if excess > 0.0:
                setattr(self, name, getattr(self, name) - _DOUBT * excess)

    def log_quantile(self, z: float) -> float:
        return min(self.log_mean + z * math.sqrt(self.log_variance), self.log_top)


class LengthModel:
    """Learned lengths of every (model, tenant); tenants beyond a bound start anew.

    Requests without a tenant are one tenant's. `expect` and `prior` change nothing.
    """

    def __init__(self, priors: Mapping[str, LengthPrior], quantile: float) -> None:
        self._priors = dict(priors)
        self._z = z_of(quantile)
        # What a tenant unknown so far starts from, by model.
        self._shared = {model: _Lengths(prior) for model, prior in priors.items()}
        self._known: OrderedDict[tuple[str, str], _Lengths] = OrderedDict()

    def expect(
        self, model: str, tenant: str, input_tokens: float, max_output_tokens: float
    ) -> Expected:
        """What to expect of a request; its own figures win where it states them (not NaN)."""
        lengths = self._known.get((model, tenant)) or self._shared[model]
        return self._expected(lengths, input_tokens, max_output_tokens)

    def prior(self, model: str, input_tokens: float, max_output_tokens: float) -> Expected:
        """As `expect`, had nothing been learned."""
        return self._expected(_Lengths(self._priors[model]), input_tokens, max_output_tokens)

    def observe(
        self,
        model: str,
        tenant: str,
        input_tokens: float,
        output_tokens: float,
        at_most: float = math.inf,
    ) -> None:
        """Take in one finished request; counts below one token teach nothing, nor do requests of
        a model that a reload took away. ``at_most``: more output than that cannot have been.
        """
        if not 1.0 <= output_tokens < math.inf or model not in self._priors:
            return
        most = max(1.0, min(at_most, MOST_PRIORS * self._priors[model].output_tokens))
        output_tokens = min(output_tokens, most)
        lengths, shared = self._of(model, tenant), self._shared[model]
        lengths.observe(input_tokens, output_tokens)
        if lengths.lessons < _SHARED_LESSONS:
            lengths.lessons += 1
            shared.lessons += 1
            shared.observe(input_tokens, output_tokens, _SHARED_REACH_SDS)

    def doubt(self, model: str, tenant: str) -> None:
        """Take in one refusal that the prior would not have given."""
        if model not in self._priors:
            return
        shared = self._shared[model]
        shared.shrink(_Lengths(self._priors[model]))
        lengths = self._known.get((model, tenant))
        if lengths is not None:
            lengths.shrink(shared)

    def adopt(self, priors: Mapping[str, LengthPrior], quantile: float) -> None:
        """Use a reloaded fleet's priors for models not seen yet; what was learned stays."""
        self._priors = dict(priors)
        self._z = z_of(quantile)
        self._shared = {
            model: shared
            if (shared := self._shared.get(model)) and shared.lessons
            else _Lengths(prior)
            for model, prior in priors.items()
        }
        for key in [key for key in self._known if key[0] not in self._priors]:
            del self._known[key]

    def _expected(
        self, lengths: _Lengths, input_tokens: float, max_output_tokens: float
    ) -> Expected:
        quantile = math.exp(lengths.log_quantile(self._z))
        return Expected(
            input_tokens if input_tokens == input_tokens else lengths.input_mean,
            min(lengths.mean, max_output_tokens),
            min(quantile, max_output_tokens),
        )

    def _of(self, model: str, tenant: str) -> _Lengths:
        key = (model, tenant)
        lengths = self._known.get(key)
        if lengths is not None:
            self._known.move_to_end(key)
        else:
            lengths = copy(self._shared[model])
            lengths.lessons = 0
            while len(self._known) >= _MAX_TENANTS:
                self._known.popitem(last=False)
            self._known[key] = lengths
        return lengths
