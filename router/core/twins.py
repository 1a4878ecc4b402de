"""What endpoints that serve the same models with the same profiles learned of it in common.

How wrong a profile is lies mostly in the profile: servers that are all 1.5 times as slow as it says
are so for everybody. So an endpoint that nothing was learned of yet starts from what its *twins*
learned, else it would look quicker than all of them (or slower) until it is tried; and one that was
slow and is quiet is believed to be as they are, not as the profile says. The path's delay is each
endpoint's own and is never shared.

Shared is the median, figure by figure, of those twins that were learned of within the last minute,
each with a weight that grows to 1 over its first lessons; the profile has half a vote, which breaks
ties. One odd endpoint among three moves nobody, one of two no more than its twin does; alone it is
believed within `_LONE_REACH`. What was learned of an endpoint itself is not moved by its twins,
but for the slow and quiet. While nobody is learned of, the profile is believed again by and by.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from router.core.latency import (
    FACTOR,
    LEVEL,
    RATIO_MEAN,
    RATIO_VARIANCE,
    SHIFT,
    SHIFT_BOUNDS,
    SPREAD2,
    VARIANCE,
    RatioTracker,
    WaitTracker,
    ratio_factor,
    ratio_prior,
    wait_errors,
    wait_prior,
)
from router.core.learned import StartLearned, all_within
from router.model import Endpoint, Profile, TaskProfile

# Whether it is emulated; then by model its name, and what of its profile latency is predicted by.
Kind: TypeAlias = tuple[bool | tuple[str, tuple[float | str, ...]], ...]

# After so many lessons an endpoint's vote is whole: the memory of its level.
FULL_VOTE = 20.0
_PROFILE_VOTE = 0.5
# Fewer whole votes than these have no majority that one of them could not make: what they say of
# the hardware is believed up to this factor of the profile, either way.
_MAJORITY = 2.5
_LONE_REACH = math.log(4.0)
# A median of so many is as good as one of thousands, which would take milliseconds.
_MOST_VOTERS = 64
# Of a log (and of a deviate): a start that differs by less is not worth telling.
_TELLING = 0.01
_LEAST_SQUARE = 1e-6
# What may come back of what was kept, as logs: of factors, and of squares.
_LEVELS = (-math.log(50.0), math.log(50.0))
_SPREADS = (math.log(_LEAST_SQUARE) - 1e-9, math.log(100.0))


class Start(NamedTuple):
    """The state of a wait's and of a ratio's errors before any lesson of the endpoint's own."""

    wait: NDArray[np.float64]
    ratio: NDArray[np.float64]


class Voter(NamedTuple):
    """What one twin learned, and learned of late."""

    wait: WaitTracker
    ratio: RatioTracker


def kind_of(endpoint: Endpoint) -> Kind:
    """What endpoints have in common whose latency errors ought to be alike."""
    kind = {(served.name, _figures(served.profile)) for served in endpoint.models}
    return (endpoint.emulated, *sorted(kind))


def kind_key(kind: Kind) -> str:
    """``kind`` as a short text that is the same in every process: a digest of its figures."""
    return hashlib.blake2b(repr(kind).encode(), digest_size=12).hexdigest()


def profile_start() -> Start:
    """Of endpoints of which nobody has learned."""
    return Start(wait_prior(), ratio_prior())


class LatencyErrors(NamedTuple):
    """How wrong the latency model is, at the policy's quantile: factors of what TTFT takes of the
    request's own and of its queue, and of TPOT; and a delay of TTFT.
    """

    ttft: float
    queue: float
    tpot: float
    delay_ms: float


def prior_latency_errors(z: float, tpot_z: float, start: Start | None = None) -> LatencyErrors:
    """Before any outcome, at the quantiles whose standard normal deviates are ``z`` and, of TPOT,
    ``tpot_z``. ``start``: in the middle as twins learned; the spread is the prior's even then.
    """
    wait, ratio = profile_start()
    if start is not None:
        wait[LEVEL], ratio[RATIO_MEAN] = start.wait[LEVEL], start.ratio[RATIO_MEAN]
    delay_ms, ttft, queue = wait_errors(wait, z)
    return LatencyErrors(ttft, queue, ratio_factor(ratio, tpot_z), delay_ms)


class Twins:
    """What endpoints of one kind start from. ``start`` is replaced, never changed."""

    __slots__ = ("_ratio", "_wait", "start")

    def __init__(self) -> None:
        self.start = profile_start()
        self._wait, self._ratio = _of_wait(self.start.wait), _of_ratio(self.start.ratio)

    def learned(self, kind: str) -> StartLearned:
        """What is known, to be kept."""
        return StartLearned(kind, tuple(self._wait.tolist()), tuple(self._ratio.tolist()))

    def restore(self, learned: StartLearned) -> None:
        """Go on from what was known before, if it can be."""
        if is_start(learned):
            self._wait, self._ratio = np.array(learned.wait), np.array(learned.tpot)
            self._tell()

    def learn(self, voters: Sequence[Voter], kept: float) -> bool:
        """Take the median of those that were learned of lately; without any, keep a share ``kept``
        of what is known and believe the profile for the rest. Whether ``start`` has changed.
        """
        voters = voters[:: math.ceil(len(voters) / _MOST_VOTERS)] if voters else voters
        nothing, told = profile_start(), self.start
        self._wait = _common(
            [(_of_wait(one.wait.state), one.wait.lessons) for one in voters],
            _of_wait(nothing.wait), self._wait, kept,
        )  # fmt: skip
        self._ratio = _common(
            [(_of_ratio(one.ratio.state), one.ratio.lessons) for one in voters],
            _of_ratio(nothing.ratio), self._ratio, kept,
        )  # fmt: skip
        wait_off = np.abs(self._wait - _of_wait(told.wait)).max()
        ratio_off = np.abs(self._ratio - _of_ratio(told.ratio)).max()
        if max(wait_off, ratio_off) < _TELLING:
            return False
        self._tell()
        return True

    def _tell(self) -> None:
        start = profile_start()
        start.wait[LEVEL], start.wait[SHIFT] = self._wait[0], self._wait[3]
        start.wait[VARIANCE], start.wait[SPREAD2] = np.exp(self._wait[1:3])
        start.ratio[RATIO_MEAN] = self._ratio[0]
        start.ratio[RATIO_VARIANCE] = math.exp(self._ratio[1])
        self.start = start


def is_start(learned: StartLearned) -> bool:
    """Whether it can be what is known of a kind: what comes from outside may be anything."""
    wait_ranges = (_LEVELS, _SPREADS, _SPREADS, SHIFT_BOUNDS)
    return all_within(learned.wait, wait_ranges) and all_within(learned.tpot, (_LEVELS, _SPREADS))


def _figures(profile: Profile) -> tuple[float | str, ...]:
    """What latency is predicted by, of a profile."""
    if isinstance(profile, TaskProfile):
        return (
            "task", profile.service_ms, profile.service_ms_per_in_flight, profile.max_batch,
        )  # fmt: skip
    return (
        "tokens", profile.tpot_base_ms, profile.tpot_ms_per_sequence,
        profile.tpot_ms_per_cached_token, profile.prefill_base_ms, profile.prefill_ms_per_token,
        profile.prefill_ms_per_piece, profile.prefill_ms_per_token2, profile.max_batch,
        profile.max_batched_tokens,
    )  # fmt: skip


def _of_wait(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """The hardware's factor, then variance, spread and shift; logs of all that multiplies."""
    return np.array([
        min(max(math.log(state[FACTOR]) + state[LEVEL], _LEVELS[0]), _LEVELS[1]),
        math.log(max(state[VARIANCE], _LEAST_SQUARE)),
        math.log(max(state[SPREAD2], _LEAST_SQUARE)),
        state[SHIFT],
    ])  # fmt: skip


def _of_ratio(state: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([state[RATIO_MEAN], math.log(max(state[RATIO_VARIANCE], _LEAST_SQUARE))])


def _common(
    told: Sequence[tuple[NDArray[np.float64], int]],
    profile: NDArray[np.float64],
    before: NDArray[np.float64],
    kept: float,
) -> NDArray[np.float64]:
    """The weighted median of each figure of those that ``told`` it, with so many lessons each."""
    weights = [min(1.0, lessons / FULL_VOTE) for _, lessons in told]
    whole = sum(weights)
    if whole < _PROFILE_VOTE:
        return profile + kept * (before - profile)
    votes = np.array([profile, *(figures for figures, _ in told)])
    shares = np.array([_PROFILE_VOTE, *weights])
    order = np.argsort(votes, axis=0, kind="stable")
    # The first at which half of all votes are reached.
    reached = np.cumsum(shares[order], axis=0) >= (whole + _PROFILE_VOTE) / 2.0
    columns = np.arange(votes.shape[1])
    median: NDArray[np.float64] = votes[order[reached.argmax(axis=0), columns], columns]
    if whole < _MAJORITY:
        median[0] = min(max(median[0], profile[0] - _LONE_REACH), profile[0] + _LONE_REACH)
    return median
