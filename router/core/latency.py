# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""How wrong the latency model is on one endpoint, learned from outcomes.

TPOT: the log of actual over predicted is tracked by an exponentially weighted mean and variance;
the factor at a quantile is exp(mean + z * sd), so that "meets the budget" is a probability
(SCIENCE, section 3). Only successes teach: a fast failure must not make an endpoint look quick.

The wait for the first token, less the round trip, has two errors, which only requests of different
prompts can tell apart, and a spread:

    wait ~ (delay + factor * (prefill + queue)) * exp(level) + unit * spread * noise
    unit = factor * exp(level) * (0.1 * prefill + queue)

``prefill``: what the request itself takes, and the prompts that are known to be read before it;
``queue``: the mean wait for the running iteration and for prompts that are not known. The delay is
the path's (an RTT table that is off, TLS, a proxy), the factor the hardware's. The level follows
quickly, just as for TPOT. How the wait divides into delay and factor follows slowly, by least
squares of relative errors; the level takes up what the division gains or loses, so that a new
division alone moves no prediction of such a request as taught it. What is uncertain is the queue,
and only a little what is read: so the spread is counted in those, and a long prompt on an idle
replica is predicted as well as a short one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from router.core.jit import entry
from router.core.learned import all_within

_PRIOR_SD = 0.10  # of the log ratio; p95 over p50 inter-token latency is 1.1-1.3 in ML.ENERGY v3
_WEIGHT = 0.05  # of one observation: a memory of about 20 requests
_RATIO_BOUNDS = (0.02, 50.0)

# The prior of the division. Requests that are all alike leave it at that: of their surplus a share
# of 10**2 / (10**2 + (0.2 * prefill_ms)**2) is taken for a delay. Of a prefill of 50 ms that is
# half; of shorter ones it is mostly delay, of longer ones mostly factor.
_DELAY_SD_MS = 10.0
_FACTOR_SD = 0.2
_DIVISION_WEIGHT = 0.005  # a memory of about 400 requests, of which half divide
# An observation moves the division by as much as its error is likely, at most: robust, not deaf.
_CLIP_SDS = 2.5
# Doubt in the first observations, beside the noise's variance: as the level, they count for 1/20.
_DOUBT = 1.6
_DOUBT_LEFT = 0.95
_LEAST_NOISE = 0.01**2
# Beyond, a prefill is a mistake, and its square no number.
_PREFILL_BOUNDS_MS = (1e-3, 1e9)
# A delay is never negative: predictions stay above the round trip, and a prefill that grows faster
# than the prompt would pass for one.
_MOST_DELAY_MS = 1000.0
# Every second observation divides, which is enough. Which one follows the golden ratio, so that
# it cannot fall in step with the requests (long and short prompts by turns, say).
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
# Errors are not normal: the deviate of the quantile is moved until its share of the outcomes holds.
_SHIFT_WEIGHT = 0.03
SHIFT_BOUNDS = (-3.0, 5.0)
# So many units off is a mistake, or something that no queue explains.
_MOST_OFF = 10.0
# A low quantile of the queue, or of the prefill, is a share of its mean, not less than none.
_MOST_BELOW = 0.9

# A budget on TPOT bounds a pace: the mean over an answer, or over so many tokens if it has fewer.
# The gaps between tokens are short but where a prompt is read, and then as long as that takes: one
# such gap is all of a short answer's mean (docs/decisions/a-pace-is-over-tokens.md).
PACE_TOKENS = 32.0

# Columns of the state of a wait's errors. *_SUM: of least squares over 1 and prefill, each relative
# to the wait that was predicted; *_HIT: their products with what came.
(
    DELAY_MS, FACTOR, LEVEL, VARIANCE, SPREAD2, SHIFT, DOUBT, ONE_SUM, BOTH_SUM, PREFILL_SUM,
    ONE_HIT, PREFILL_HIT, PHASE, WAIT_ERRORS,
) = range(14)  # fmt: skip

# Columns of the state of a ratio's errors: of the log of actual over predicted.
RATIO_MEAN, RATIO_VARIANCE, RATIO_ERRORS = range(3)

_LOW, _HIGH = _RATIO_BOUNDS
_LOG_HIGH = math.log(_HIGH)
_PER_DELAY_VARIANCE = 1.0 / _DELAY_SD_MS**2
_PER_FACTOR_VARIANCE = 1.0 / _FACTOR_SD**2
_MOST_VARIANCE = (2.0 * _LOG_HIGH) ** 2
# Of the least squares: relative to a wait, with a memory of 1 / _DIVISION_WEIGHT.
_MOST_SUM = 1e12
# What the states may be, for those that come from outside.
WAIT_RANGES = (
    (0.0, _MOST_DELAY_MS), (_LOW, _HIGH), (-_LOG_HIGH, _LOG_HIGH), (0.0, _MOST_VARIANCE),
    (0.0, _MOST_OFF**2), SHIFT_BOUNDS, (0.0, _DOUBT), *5 * ((0.0, _MOST_SUM),), (0.0, 1.0),
)  # fmt: skip
RATIO_RANGES = ((-_LOG_HIGH, _LOG_HIGH), (0.0, _MOST_VARIANCE))
# Of the 95 % quantile.
Z95 = 1.6448536269514722


def z_of(quantile: float) -> float:
    """Standard normal deviate of ``quantile`` in (0, 1)."""
    return NormalDist().inv_cdf(quantile)


def miss_of(z: float) -> float:
    """The share of a normal distribution beyond the deviate ``z``."""
    return 0.5 * math.erfc(z * math.sqrt(0.5))


def ratio_prior() -> NDArray[np.float64]:
    """The state (RATIO_ERRORS,) before any outcome, as `wait_prior`."""
    state = np.zeros(RATIO_ERRORS)
    state[RATIO_VARIANCE] = _PRIOR_SD**2
    return state


@entry("b1(f8[::1], f8, f8, f8)")
def observe_ratio(state, actual_ms, predicted_ms, share):
    """Take in one success, and say whether it taught anything; see `RatioTracker.observe`. Also
    called by the compiled simulation."""
    if not (0.0 < actual_ms < np.inf and 0.0 < predicted_ms < np.inf):
        return False
    error = math.log(min(max(actual_ms / predicted_ms, _LOW), _HIGH)) - state[RATIO_MEAN]
    weight = _WEIGHT * share
    state[RATIO_MEAN] += weight * error
    state[RATIO_VARIANCE] = (1.0 - weight) * (state[RATIO_VARIANCE] + weight * error * error)
    return True


@entry("f8(f8[::1], f8)")
def ratio_factor(state, z):
    """The ratio at the quantile whose standard normal deviate is ``z``."""
    return math.exp(state[RATIO_MEAN] + z * math.sqrt(state[RATIO_VARIANCE]))


class RatioTracker:
    """Distribution of actual / predicted for one figure of one endpoint. ``lessons``: of its own,
    since it began."""

    __slots__ = ("_state", "lessons")

    def __init__(self) -> None:
        self._state = ratio_prior()
        self.lessons = 0

    @property
    def state(self) -> NDArray[np.float64]:
        """What was learned, by RATIO_*; to read."""
        return self._state

    def begin(self, start: NDArray[np.float64], lessons: int = 0) -> None:
        """Forget what was learned, and start from a state that others learned."""
        self._state[:] = start
        self.lessons = lessons

    def observe(self, actual_ms: float, predicted_ms: float, share: float = 1.0) -> None:
        """Take in one success. Unusable figures (not positive, not finite) teach nothing.

        ``share``: how much of a full observation it is, 0..1.
        """
        self.lessons += observe_ratio(self._state, actual_ms, predicted_ms, share)

    def relax(self, kept: float, towards: NDArray[np.float64] | None = None) -> None:
        """Keep a share of what was learned, and believe ``towards`` for the rest; None: the
        profile."""
        prior = ratio_prior() if towards is None else towards
        self._state[:] = prior + kept * (self._state - prior)

    def factor(self, z: float) -> float:
        """The ratio at the quantile whose standard normal deviate is ``z``."""
        factor: float = ratio_factor(self._state, z)
        return factor


def wait_prior() -> NDArray[np.float64]:
    """The state (WAIT_ERRORS,) before any outcome: the profile is right within the prior spread."""
    state = np.zeros(WAIT_ERRORS)
    state[FACTOR], state[VARIANCE], state[DOUBT] = 1.0, _PRIOR_SD**2, _DOUBT
    # A queue that is met at any moment is about as uncertain as it is long.
    state[SPREAD2] = 1.0
    return state


def is_wait(state: Sequence[float]) -> bool:
    """Whether ``state`` can be that of a wait's errors: what comes from outside may be anything."""
    if not all_within(state, WAIT_RANGES):
        return False
    # Sums of products, of the least squares.
    return state[BOTH_SUM] ** 2 <= state[ONE_SUM] * state[PREFILL_SUM] * (1.0 + 1e-9)


@entry("void(f8[::1], f8, f8, f8)")
def _divide(state, clipped, one, prefill):
    """Take an observation into the least squares, and divide the wait anew.

    Relative to what delay and factor alone predicted: the wait, 1 and the prefill.
    """
    kept = 1.0 - _DIVISION_WEIGHT
    state[ONE_SUM] = kept * state[ONE_SUM] + one * one
    state[BOTH_SUM] = kept * state[BOTH_SUM] + one * prefill
    state[PREFILL_SUM] = kept * state[PREFILL_SUM] + prefill * prefill
    state[ONE_HIT] = kept * state[ONE_HIT] + one * clipped
    state[PREFILL_HIT] = kept * state[PREFILL_HIT] + prefill * clipped
    noise = max(state[VARIANCE], _LEAST_NOISE) + state[DOUBT]
    state[DOUBT] *= _DOUBT_LEFT
    both, one_hit = state[BOTH_SUM], state[ONE_HIT]
    ones = state[ONE_SUM] + noise * _PER_DELAY_VARIANCE
    prefills = state[PREFILL_SUM] + noise * _PER_FACTOR_VARIANCE
    hits = state[PREFILL_HIT] + noise * _PER_FACTOR_VARIANCE
    scale = 1.0 / (ones * prefills - both * both)
    delay_ms = (one_hit * prefills - both * hits) * scale
    factor = (hits * ones - both * one_hit) * scale
    if not 0.0 <= delay_ms <= _MOST_DELAY_MS:
        delay_ms = min(max(delay_ms, 0.0), _MOST_DELAY_MS)
        factor = (hits - both * delay_ms) / prefills
    if factor < _LOW:
        factor = _LOW
        delay_ms = min(max((one_hit - both * factor) / ones, 0.0), _MOST_DELAY_MS)
    state[DELAY_MS], state[FACTOR] = delay_ms, min(factor, _HIGH)


@entry("b1(f8[::1], f8, f8, f8, f8, f8, b1)")
def observe_wait(state, actual_ms, prefill_ms, queue_ms, z, miss, divides):
    """Take in one success, and say whether it taught anything; see `WaitTracker.observe`. Also
    called by the compiled simulation.

    ``miss``: the share of outcomes beyond the quantile of ``z``.
    """
    usable = _PREFILL_BOUNDS_MS[0] <= prefill_ms <= _PREFILL_BOUNDS_MS[1]
    if not (usable and 0.0 < actual_ms < np.inf and 0.0 <= queue_ms < np.inf):
        return False
    unit_ms = state[FACTOR] * math.exp(state[LEVEL]) * (_PRIOR_SD * prefill_ms + queue_ms)
    # To the division and the level, what is read and what is waited for are alike.
    prefill_ms += queue_ms
    actual_ms = min(max(actual_ms, _LOW * prefill_ms), _HIGH * prefill_ms + _MOST_DELAY_MS)
    predicted_ms = state[DELAY_MS] + state[FACTOR] * prefill_ms
    one = 1.0 / predicted_ms
    ratio = min(max(actual_ms * one, _LOW), _HIGH)
    error, sd = math.log(ratio) - state[LEVEL], math.sqrt(state[VARIANCE])
    off = (actual_ms - predicted_ms * math.exp(state[LEVEL])) / unit_ms
    spread = math.sqrt(state[SPREAD2])
    if divides:
        missed = 1.0 if off > (z + state[SHIFT]) * spread else 0.0
        shift = state[SHIFT] + _SHIFT_WEIGHT * (missed - miss)
        state[SHIFT] = min(max(shift, SHIFT_BOUNDS[0]), SHIFT_BOUNDS[1])
        phase = state[PHASE] + _GOLDEN
        state[PHASE] = phase - 1.0 if phase >= 1.0 else phase
        if state[PHASE] >= 0.5:
            limit = _CLIP_SDS * sd
            if abs(error) > limit:
                ratio = math.exp(state[LEVEL] + math.copysign(limit, error))
            _divide(state, ratio, one, prefill_ms * one)
            state[LEVEL] -= math.log((state[DELAY_MS] + state[FACTOR] * prefill_ms) * one)
    off = min(max(off, -_MOST_OFF), _MOST_OFF)
    state[SPREAD2] = (1.0 - _WEIGHT) * (state[SPREAD2] + _WEIGHT * off * off)
    level = state[LEVEL] + _WEIGHT * error
    state[LEVEL] = min(max(level, -_LOG_HIGH), _LOG_HIGH)
    state[VARIANCE] = (1.0 - _WEIGHT) * (state[VARIANCE] + _WEIGHT * error * error)
    return True


@entry("f8(f8[::1])")
def slowness(state):
    """The factor of the hardware, in the middle: how much longer than by the profile it reads."""
    return state[FACTOR] * math.exp(state[LEVEL])


@entry("UniTuple(f8, 3)(f8[::1], f8)")
def wait_errors(state, z):
    """(delay_ms, factor of the prefill, factor of the queue) at the quantile whose standard normal
    deviate is ``z``."""
    level = math.exp(state[LEVEL])
    above = (z + state[SHIFT]) * math.sqrt(state[SPREAD2])
    factor = state[FACTOR] * level
    of_prefill = 1.0 + max(_PRIOR_SD * above, -_MOST_BELOW)
    return state[DELAY_MS] * level, factor * of_prefill, factor * (1.0 + max(above, -_MOST_BELOW))


class WaitTracker:
    """Distribution of the wait for the first token of one endpoint, round trip and queue apart.

    One quantile is aimed at, that of ``z``; what was learned stays when it changes. ``lessons``: of
    its own, since it began.
    """

    __slots__ = ("_miss", "_state", "_z", "lessons")

    def __init__(self, z: float = 0.0) -> None:
        self._state = wait_prior()
        self._z, self._miss = z, miss_of(z)
        self.lessons = 0

    @property
    def state(self) -> NDArray[np.float64]:
        """What was learned, by the columns of a wait's errors; to read."""
        return self._state

    @property
    def z(self) -> float:
        """The standard normal deviate of the quantile that is aimed at."""
        return self._z

    def begin(self, start: NDArray[np.float64]) -> None:
        """Forget what was learned of the hardware, and start from a state that others learned; the
        delay of the path stays."""
        state = self._state
        delay_ms = state[DELAY_MS] * math.exp(state[LEVEL] - start[LEVEL])
        state[:PHASE] = start[:PHASE]
        state[DELAY_MS] = min(delay_ms, _MOST_DELAY_MS)
        self.lessons = 0

    def restore(self, state: Sequence[float], lessons: int, z: float) -> None:
        """Go on from what was learned before, of the quantile of ``z``; see `is_wait`."""
        self._state[:] = state
        self.lessons = lessons
        if z != self._z:
            self._state[SHIFT] = 0.0

    def aim(self, z: float) -> None:
        """Tell from now on what holds at the quantile whose standard normal deviate is ``z``."""
        if z != self._z:
            self._z, self._miss, self._state[SHIFT] = z, miss_of(z), 0.0

    def observe(
        self, actual_ms: float, prefill_ms: float, queue_ms: float = 0.0, divides: bool = True
    ) -> None:
        """Take in one success: ``prefill_ms`` and ``queue_ms`` by the model. Unusable figures (not
        positive, not finite, no prefill at all) teach nothing.

        ``divides``: whether it tells delay and factor apart; else it moves level and spread alone.
        """
        self.lessons += observe_wait(
            self._state, actual_ms, prefill_ms, queue_ms, self._z, self._miss, divides
        )

    def relax(self, kept: float, towards: NDArray[np.float64] | None = None) -> None:
        """Keep a share of what was learned, and believe ``towards`` for the rest; None: the
        profile."""
        prior = wait_prior() if towards is None else towards
        self._state[:PHASE] = prior[:PHASE] + kept * (self._state[:PHASE] - prior[:PHASE])

    def errors(self) -> tuple[float, float, float]:
        """(delay_ms, factor, factor of the queue): what a wait is at most, at the quantile."""
        delay_ms, factor, of_queue = wait_errors(self._state, self._z)
        return delay_ms, factor, of_queue

    @property
    def slowness(self) -> float:
        """How much longer than by the profile prompts are read, in the middle."""
        factor: float = slowness(self._state)
        return factor

    def middle(self) -> tuple[float, float]:
        """(delay_ms, factor) in the middle of the distribution, as far as it is lognormal."""
        delay_ms = float(self._state[DELAY_MS]) * math.exp(self._state[LEVEL])
        return delay_ms, self.slowness
