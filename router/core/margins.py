"""What callers are told of a request's latency: its prediction, moved until it holds as often as
the policy's quantile says.

A decision compares candidates at the load that there is; what later requests may add, budgets bound
and nothing predicts. So a prediction is exceeded more often than its quantile says, above all by
the pace of answers: whoever is sent to the replica that has least to do meets, on the mean, a
fuller one before the answer ends. And where it has to wait for a place, what others' ends take has
no spread. Neither moves where requests go. But a figure that is told ought to mean what it says: so
each endpoint has a margin for each of the three, apart for those that have to wait:

    told = predicted * exp(log)
    log -> middle + (z + shift) * above

``middle`` and ``above`` (``below``, where the deviate is negative) are mean and one-sided spreads
of log(came / predicted), with a memory of 1 / WEIGHT outcomes; so a profile that is far off, either
way, is made good within some fifty of them, and so is a load that changes. ``shift``, in spreads,
is what makes the share right whatever the errors look like:

    shift += STEP * (1 - share missed)     where what came was beyond what was told
    shift -= STEP * share missed           where it was within

the quantile tracker of adaptive conformal inference (Gibbs and Candes 2021) upon a forecast of
where the errors are, as in conformal PID control (Angelopoulos, Candes and Tibshirani 2023): of n
requests the share missed is that of the quantile within (the range that shift took) / (STEP * n).
Where an outcome was told at its bounds, which cannot go on, shift does not either.

One outcome moves what is told by exp(MOST_STEP), 22 %, at most: so no caller and no server far.

What was learned is kept over a restart and told to other gateways (`router.core.learned`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from router.core.latency import PACE_TOKENS, miss_of
from router.core.learned import MOST_LESSONS, MarginsLearned, all_within
from router.model import Decision, ToldLatency

# Of shift, in spreads: where answers spread by a tenth, 1.9 % at a miss of the 95 % quantile.
STEP: Final = 0.2
MOST_STEP: Final = 0.2
# Paces of answers that are all shorter than PACE_TOKENS are a few percent of what is predicted.
LEAST: Final = math.log(0.01)
MOST: Final = math.log(10.0)

# Of one outcome in middle and spreads: at first, when it is one of nine, and in the long run.
FIRST_WEIGHT: Final = 1.0 / 9.0
WEIGHT: Final = 0.05
# Of the log of what came over what was predicted, before any outcome.
FIRST_SPREAD: Final = 0.5
_SPREADS: Final = (0.05, 1.0)
_ROUNDING: Final = 1e-9
# So many spreads off is as far as an outcome counts.
_CLIP_SPREADS: Final = 4.0
# Of the log of a pace over what was predicted, before any outcome: from its own quantile to the
# one that is told.
_PACE_SD = 0.10

# What is kept of one figure, in this order.
FIGURE_STATES: Final = ("weight", "middle", "below", "above", "shift", "log")
_OF_MIDDLE: Final = (LEAST - 2.0, MOST + 2.0)
# In the smallest spreads, from one end of what can be told to the other.
_MOST_SHIFT: Final = 2.0 * (_OF_MIDDLE[1] - _OF_MIDDLE[0]) / _SPREADS[0]
_RANGES: Final = (
    (WEIGHT, FIRST_WEIGHT), _OF_MIDDLE, _SPREADS, _SPREADS, (-_MOST_SHIFT, _MOST_SHIFT),
    (LEAST, MOST),
)  # fmt: skip

# After so many outcomes a margin is where it belongs.
MEMORY: Final = 50.0

_TTFT, _PACE, _E2E = range(3)
# By whether requests have to wait.
_BOTH: Final = (False, True)


class Margin:
    """Of one figure: ``log``, by which its prediction is moved, and what that was learned from."""

    __slots__ = ("_z", "above", "below", "log", "middle", "shift", "weight")

    def __init__(self, z: float, log: float = 0.0) -> None:
        """At the quantile of the deviate ``z``; ``log`` before any outcome."""
        self._z = z
        self.weight = FIRST_WEIGHT
        self.middle = min(max(log - z * FIRST_SPREAD, _OF_MIDDLE[0]), _OF_MIDDLE[1])
        self.below = self.above = FIRST_SPREAD
        self.shift = 0.0
        self.log = log

    def learn(self, ratio_log: float, told_log: float, was_missed: bool, missed: float) -> None:
        """Take in one outcome: the logs of what came and of what was told, as it was decided, over
        what was predicted; whether it was beyond that, and the share of those that ought to be."""
        before = self.log
        # By what was told then: many are under way that were told less than what is told by now.
        if told_log < MOST - _ROUNDING if was_missed else told_log > LEAST + _ROUNDING:
            shift = self.shift + STEP * (was_missed - missed)
            self.shift = min(max(shift, -_MOST_SHIFT), _MOST_SHIFT)
        self._spread(_bounded(ratio_log) - self.middle)
        deviate = self._z + self.shift
        log = _bounded(self.middle + deviate * (self.above if deviate > 0.0 else self.below))
        self.log = min(max(log, before - MOST_STEP), before + MOST_STEP)

    def _spread(self, off: float) -> None:
        weight = self.weight
        off = min(max(off, -_CLIP_SPREADS * self.below), _CLIP_SPREADS * self.above)
        self.above = _spread_with(self.above, max(off, 0.0), weight)
        self.below = _spread_with(self.below, min(off, 0.0), weight)
        middle = self.middle + weight * off
        self.middle = min(max(middle, _OF_MIDDLE[0]), _OF_MIDDLE[1])
        self.weight = max(weight / (1.0 + weight), WEIGHT)

    def learned(self) -> tuple[float, ...]:
        """By FIGURE_STATES."""
        return tuple(getattr(self, name) for name in FIGURE_STATES)

    def restore(self, states: Sequence[float]) -> None:
        """Go on from what was learned before: `learned`, and within _RANGES."""
        for name, state in zip(FIGURE_STATES, states, strict=True):
            setattr(self, name, state)


class Margins:
    """Of one endpoint."""

    __slots__ = ("_figures", "_lessons", "_missed", "_pace", "_z")

    def __init__(self) -> None:
        self._z, self._missed, self._pace = 0.0, 0.5, 0.0
        # By whether they wait; lessons: of its own, since it began.
        self._figures = (self._untaught(), self._untaught())
        self._lessons = [0, 0]

    def aim(self, z: float, tpot_z: float) -> None:
        """At the policy's quantile, whose standard normal deviate is ``z``; decisions predict the
        pace at that of ``tpot_z``. What was learned of another quantile is forgotten."""
        missed = miss_of(z)
        if missed != self._missed:
            self._z, self._missed = z, missed
            self._pace = _bounded((z - tpot_z) * _PACE_SD)
            self._figures = (self._untaught(), self._untaught())
            self._lessons = [0, 0]

    def told(self, decision: Decision, waits: bool) -> ToldLatency:
        """What is told of ``decision``; ``waits``: others have to end before it begins."""
        figures = self._figures[waits]
        return ToldLatency(
            decision.ttft_ms * math.exp(figures[_TTFT].log),
            decision.tpot_ms * math.exp(figures[_PACE].log),
            decision.e2e_ms * math.exp(figures[_E2E].log),
            waits,
        )

    def learn(
        self, decision: Decision, ttft_ms: float, e2e_ms: float, output_tokens: float
    ) -> None:
        """What came of a decision of whose latency something was told, from its departure on; NaN
        of what is not known."""
        told = decision.told
        if told is None:
            return
        gaps = max(output_tokens, PACE_TOKENS) - 1.0
        pace_ms = (e2e_ms - ttft_ms) / gaps if output_tokens > 1.0 else math.nan
        came = (ttft_ms, pace_ms, e2e_ms)
        predicted = (decision.ttft_ms, decision.tpot_ms, decision.e2e_ms)
        self._lessons[told.waits] += 1
        figures = self._figures[told.waits]
        for margin, actual, stated, base in zip(figures, came, told, predicted, strict=False):
            if 0.0 <= actual < math.inf and 0.0 < stated < math.inf and 0.0 < base < math.inf:
                ratio_log = math.log(actual / base) if actual > base * 1e-9 else LEAST
                told_log = math.log(stated / base)
                margin.learn(ratio_log, told_log, actual > stated, self._missed)

    def _untaught(self) -> tuple[Margin, Margin, Margin]:
        return Margin(self._z), Margin(self._z, self._pace), Margin(self._z)

    def learned(self, endpoint: str, kind: str) -> tuple[MarginsLearned, ...]:
        """What was learned, to be kept under the endpoint's name; nothing of what nothing was."""
        return tuple(
            MarginsLearned(
                endpoint,
                kind,
                waits,
                self._z,
                tuple(state for margin in self._figures[waits] for state in margin.learned()),
                self._lessons[waits],
            )
            for waits in _BOTH
            if self._lessons[waits]
        )

    def can_restore(self, learned: MarginsLearned) -> bool:
        """Whether it can be what was learned before, at the same quantile."""
        return (
            learned.z == self._z
            and 0 < learned.lessons <= MOST_LESSONS
            and all_within(learned.logs, 3 * _RANGES)
        )

    def restore(self, learned: MarginsLearned) -> None:
        """Go on from what was learned before, or by others, if it can be."""
        if not self.can_restore(learned):
            return
        size = len(FIGURE_STATES)
        for place, margin in enumerate(self._figures[learned.waits]):
            margin.restore(learned.logs[place * size : (place + 1) * size])
        self._lessons[learned.waits] = learned.lessons


def _spread_with(spread: float, off: float, weight: float) -> float:
    """Twice the mean square on one side, so that both are the standard deviation where errors are
    symmetric; and one that nothing came of for long is forgotten."""
    square = (1.0 - weight) * (spread * spread + 2.0 * weight * off * off)
    return min(max(math.sqrt(square), _SPREADS[0]), _SPREADS[1])


def _bounded(log: float) -> float:
    return min(max(log, LEAST), MOST)
