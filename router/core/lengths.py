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
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.jit import entry
from router.core.latency import Z95, z_of
from router.core.learned import MOST_LESSONS, LengthsLearned, all_within, is_keepable
from router.model import LengthPrior

_WEIGHT = 0.02  # a memory of about 50 requests
# How fast the longest answer is forgotten: two thirds of the way to the mean in 220 requests.
_FORGETTING = 0.005
# Before any request the prior's quantile is to be believed, whichever is asked for.
_PRIOR_TOP_SD = 4.0
# An answer in 2 million of a log-normal lies beyond. Of what unknown tenants start from, one in 22:
# there it is better to know less than to believe one of them. The least spread is for priors
# without any.
REACH_SDS = 5.0
SHARED_REACH_SDS = 2.0
_LEAST_SD = 0.5
# A prompt counts for so many times the usual one at most, or at least for one part in so many.
_INPUT_REACH = 4.0
# Of one answer, in means of its model.
MOST_PRIORS = 100.0
# So many requests of each tenant teach what unknown tenants start from.
SHARED_LESSONS = 4
# How far one refusal goes back: half of the way in 14.
_DOUBT = 0.05
_MAX_TENANTS = 4096
# What may come back of what was kept: more tokens than any request has.
_MOST_TOKENS = 1e8
_MOST_LOG = 40.0

# Columns of the state of learned lengths: of output tokens, but for one.
MEAN, LOG_MEAN, LOG_VARIANCE, LOG_TOP, INPUT_MEAN, LENGTHS = range(6)


class Expected(NamedTuple):
    """Tokens to expect of one request: input, output (mean), output at the policy's quantile."""

    input_tokens: float
    output_tokens: float
    output_tokens_quantile: float


def length_prior(prior: LengthPrior) -> NDArray[np.float64]:
    """The state (LENGTHS,) before any answer: a log-normal of the prior's mean m and 95 % quantile
    q, log q = log m - s^2/2 + 1.645 s.
    """
    spread = math.log(max(prior.output_tokens_p95 / prior.output_tokens, 1.0))
    sd = Z95 - math.sqrt(max(Z95**2 - 2.0 * spread, 0.0))
    state = np.empty(LENGTHS)
    state[MEAN], state[INPUT_MEAN] = prior.output_tokens, prior.input_tokens
    state[LOG_VARIANCE] = sd * sd
    state[LOG_MEAN] = math.log(prior.output_tokens) - state[LOG_VARIANCE] / 2.0
    state[LOG_TOP] = state[LOG_MEAN] + _PRIOR_TOP_SD * sd
    return state


@entry("void(f8[::1], f8, f8, f8)")
def observe_length(state, input_tokens, output_tokens, reach_sds):  # type: ignore[no-untyped-def]
    """Take in one answer; ``input_tokens`` NaN where unknown. Of ``output_tokens`` no more counts
    than lies within ``reach_sds``. Also called by the compiled simulation.
    """
    log_tokens = math.log(output_tokens)
    error = log_tokens - state[LOG_MEAN]
    reach = reach_sds * max(math.sqrt(state[LOG_VARIANCE]), _LEAST_SD)
    if abs(error) > reach:
        error = math.copysign(reach, error)
        log_tokens = state[LOG_MEAN] + error
        output_tokens = math.exp(log_tokens)
    state[MEAN] += _WEIGHT * (output_tokens - state[MEAN])
    if input_tokens == input_tokens:
        usual = state[INPUT_MEAN]
        clipped = min(max(input_tokens, usual / _INPUT_REACH), usual * _INPUT_REACH)
        state[INPUT_MEAN] += _WEIGHT * (clipped - usual)
    state[LOG_MEAN] += _WEIGHT * error
    state[LOG_VARIANCE] = (1.0 - _WEIGHT) * (state[LOG_VARIANCE] + _WEIGHT * error * error)
    top = state[LOG_TOP]
    state[LOG_TOP] = max(log_tokens, top - _FORGETTING * (top - state[LOG_MEAN]))


@entry("f8(f8[::1], f8)")
def length_quantile(state, z):  # type: ignore[no-untyped-def]
    """Output tokens at the quantile whose standard normal deviate is ``z``."""
    return math.exp(min(state[LOG_MEAN] + z * math.sqrt(state[LOG_VARIANCE]), state[LOG_TOP]))


class _Learned:
    """Lengths of one model, or of one tenant's use of it. ``lessons``: answers taken in."""

    __slots__ = ("_state", "_usual", "lessons")

    def __init__(self, state: NDArray[np.float64], lessons: int = 0) -> None:
        self._state = state
        self._usual: Expected | None = None
        self.lessons = lessons

    def told(self, model: str, tenant: str | None) -> LengthsLearned:
        """As it is kept."""
        return LengthsLearned(model, tenant, tuple(self._state.tolist()), self.lessons)

    def usual(self, z: float) -> Expected:
        """Of a request that says nothing of itself; worked out once between two changes."""
        if self._usual is None:
            state = self._state
            self._usual = Expected(
                float(state[INPUT_MEAN]), float(state[MEAN]), length_quantile(state, z)
            )
        return self._usual

    def forget_usual(self) -> None:
        """Another quantile is aimed at."""
        self._usual = None

    def copy(self) -> _Learned:
        return _Learned(self._state.copy())

    def observe(self, input_tokens: float, output_tokens: float, reach_sds: float) -> None:
        """As `observe_length`."""
        observe_length(self._state, input_tokens, output_tokens, reach_sds)
        self._usual = None
        self.lessons += 1

    def shrink(self, towards: _Learned) -> None:
        """One step towards shorter lengths; what is shorter already stays."""
        self._state -= _DOUBT * np.maximum(self._state - towards._state, 0.0)
        self._usual = None


class LengthModel:
    """Learned lengths of every (model, tenant); tenants beyond a bound start anew.

    Requests without a tenant are one tenant's. `expect` and `prior` change nothing.
    """

    def __init__(self, priors: Mapping[str, LengthPrior], quantile: float) -> None:
        self._priors = dict(priors)
        self._z = z_of(quantile)
        # What a tenant unknown so far starts from, by model.
        self._shared = {model: _Learned(length_prior(prior)) for model, prior in priors.items()}
        self._known: OrderedDict[tuple[str, str], _Learned] = OrderedDict()

    def expect(
        self, model: str, tenant: str, input_tokens: float, max_output_tokens: float
    ) -> Expected:
        """What to expect of a request; its own figures win where it states them (not NaN)."""
        lengths = self._known.get((model, tenant)) or self._shared[model]
        return self._expected(lengths, input_tokens, max_output_tokens)

    def prior(self, model: str, input_tokens: float, max_output_tokens: float) -> Expected:
        """As `expect`, had nothing been learned."""
        prior = _Learned(length_prior(self._priors[model]))
        return self._expected(prior, input_tokens, max_output_tokens)

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
        if lengths.lessons < SHARED_LESSONS:
            shared.observe(input_tokens, output_tokens, SHARED_REACH_SDS)
        lengths.observe(input_tokens, output_tokens, REACH_SDS)

    def doubt(self, model: str, tenant: str) -> None:
        """Take in one refusal that the prior would not have given."""
        if model not in self._priors:
            return
        shared = self._shared[model]
        shared.shrink(_Learned(length_prior(self._priors[model])))
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
            else _Learned(length_prior(prior))
            for model, prior in priors.items()
        }
        for learned in (*self._shared.values(), *self._known.values()):
            learned.forget_usual()
        for key in [key for key in self._known if key[0] not in self._priors]:
            del self._known[key]

    def learned(self) -> tuple[LengthsLearned, ...]:
        """All that was learned, to be kept, but for tenants whose names cannot be."""
        shared = (one.told(model, None) for model, one in self._shared.items() if one.lessons)
        known = (
            one.told(model, tenant)
            for (model, tenant), one in self._known.items()
            if is_keepable(tenant)
        )
        return (*shared, *known)

    def restorable(self, learned: Iterable[LengthsLearned]) -> tuple[LengthsLearned, ...]:
        """Of what others learned, what can be."""
        return tuple(
            one
            for one in learned
            if one.model in self._priors and _can_be(one, self._priors[one.model])
        )

    def restore(self, learned: Iterable[LengthsLearned]) -> None:
        """Go on from what was learned before; entries that cannot be are left out."""
        for one in self.restorable(learned):
            lengths = _Learned(np.array(one.lengths), one.lessons)
            if one.tenant is None:
                self._shared[one.model] = lengths
                continue
            self._known[one.model, one.tenant] = lengths
            self._known.move_to_end((one.model, one.tenant))
            if len(self._known) > _MAX_TENANTS:
                self._known.popitem(last=False)

    def take_up(self, learned: Iterable[LengthsLearned]) -> None:
        """Go on from what others learned while this process served. Tenants that it does not know
        are the first to go, and there is no room for them where it is full."""
        for one in self.restorable(learned):
            lengths, key = _Learned(np.array(one.lengths), one.lessons), (one.model, one.tenant)
            if one.tenant is None:
                self._shared[one.model] = lengths
            elif key in self._known or len(self._known) < _MAX_TENANTS:
                is_new = key not in self._known
                self._known[one.model, one.tenant] = lengths
                if is_new:
                    self._known.move_to_end((one.model, one.tenant), last=False)

    def _expected(
        self, lengths: _Learned, input_tokens: float, max_output_tokens: float
    ) -> Expected:
        usual_input, mean, quantile = lengths.usual(self._z)
        return Expected(
            input_tokens if input_tokens == input_tokens else usual_input,
            min(mean, max_output_tokens),
            min(quantile, max_output_tokens),
        )

    def _of(self, model: str, tenant: str) -> _Learned:
        key = (model, tenant)
        lengths = self._known.get(key)
        if lengths is not None:
            self._known.move_to_end(key)
        else:
            lengths = self._shared[model].copy()
            while len(self._known) >= _MAX_TENANTS:
                self._known.popitem(last=False)
            self._known[key] = lengths
        return lengths


def _can_be(learned: LengthsLearned, prior: LengthPrior) -> bool:
    """Whether answers of a model with this prior may have taught it."""
    ranges = (
        (1.0, MOST_PRIORS * max(prior.output_tokens, 1.0)),
        (-_MOST_LOG, _MOST_LOG),
        (0.0, _MOST_LOG**2),
        (-_MOST_LOG, _MOST_LOG),
        (min(1.0, prior.input_tokens), max(_MOST_TOKENS, prior.input_tokens)),
    )
    return 1 <= learned.lessons <= MOST_LESSONS and all_within(learned.lengths, ranges)
