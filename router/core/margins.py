"""What callers are told of a request's latency: its prediction, moved until it holds as often as
the policy's quantile says.

A decision compares candidates at the load that there is; what later requests may add, budgets bound
and nothing predicts. So a prediction is exceeded more often than its quantile says, above all by
the pace of answers: whoever is sent to the replica that has least to do meets, on the mean, a
fuller one before the answer ends. And where it has to wait for a place, what others' ends take has
no spread. Neither moves where requests go. But a figure that is told ought to mean what it says: so
each endpoint has a margin for each of the three, apart for those that have to wait, and

    told = predicted * exp(margin)
    margin += STEP * (1 - share missed)    where what came was beyond what was told
    margin -= STEP * share missed          where it was within

which is the quantile tracker of adaptive conformal inference (Gibbs and Candes 2021): whatever the
errors look like, of n requests the share missed is that of the quantile within
(MOST - LEAST) / (STEP * n). No outcome moves it by more than STEP, so no caller and no server far.

Where a profile is far off, the prediction itself is learned meanwhile, and what the margins took up
of that is wrong soon: they would shrink by STEP * share missed an answer, for a thousand answers.
So they begin anew once, when the prediction is learned: with the outcome KNOWN_AFTER of those that
did not have to wait, which are what it is learned by.

What was learned is kept over a restart and told to other gateways (`router.core.learned`).
"""

from __future__ import annotations

import math
from typing import Final

from router.core.latency import PACE_TOKENS, miss_of
from router.core.learned import MOST_LESSONS, MarginsLearned, all_within
from router.model import Decision, ToldLatency

STEP: Final = 0.03
# Paces of answers that are all shorter than PACE_TOKENS are a few percent of what is predicted.
LEAST: Final = math.log(0.01)
MOST: Final = math.log(10.0)
# Three memories of what predictions are learned by: of an error of ten times 1.1 are left.
KNOWN_AFTER: Final = 60
# Of the log of a pace over what was predicted, before any outcome: from its own quantile to the
# one that is told.
_PACE_SD = 0.10

# After so many outcomes a margin is where it belongs, if that is within a factor of ten.
MEMORY: Final = 50.0

_TTFT, _PACE, _E2E = range(3)
# By whether requests have to wait.
_BOTH: Final = (False, True)


class Margins:
    """Of one endpoint."""

    __slots__ = ("_lessons", "_logs", "_missed", "_pace", "_z")

    def __init__(self) -> None:
        self._z, self._missed, self._pace = 0.0, 0.5, 0.0
        # By whether they wait; lessons: of its own, since it began.
        self._logs = ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
        self._lessons = [0, 0]

    def aim(self, z: float, tpot_z: float) -> None:
        """At the policy's quantile, whose standard normal deviate is ``z``; decisions predict the
        pace at that of ``tpot_z``. What was learned of another quantile is forgotten."""
        missed = miss_of(z)
        if missed != self._missed:
            self._z, self._missed = z, missed
            self._pace = _bounded((z - tpot_z) * _PACE_SD)
            self._logs = (self._untaught(), self._untaught())
            self._lessons = [0, 0]

    def told(self, decision: Decision, waits: bool) -> ToldLatency:
        """What is told of ``decision``; ``waits``: others have to end before it begins."""
        logs = self._logs[waits]
        return ToldLatency(
            decision.ttft_ms * math.exp(logs[_TTFT]),
            decision.tpot_ms * math.exp(logs[_PACE]),
            decision.e2e_ms * math.exp(logs[_E2E]),
            waits,
        )

    def learn(self, told: ToldLatency, ttft_ms: float, e2e_ms: float, output_tokens: float) -> None:
        """What came of it, from its departure on; NaN of what is not known."""
        logs = self._logs[told.waits]
        gaps = max(output_tokens, PACE_TOKENS) - 1.0
        pace_ms = (e2e_ms - ttft_ms) / gaps if output_tokens > 1.0 else math.nan
        came = (ttft_ms, pace_ms, e2e_ms)
        self._lessons[told.waits] += 1
        for figure, (actual, stated) in enumerate(zip(came, told, strict=False)):
            if 0.0 <= actual < math.inf and 0.0 < stated < math.inf:
                missed = 1.0 if actual > stated else 0.0
                logs[figure] = _bounded(logs[figure] + STEP * (missed - self._missed))
        if not told.waits and self._lessons[False] == KNOWN_AFTER:
            self._logs = (self._untaught(), self._untaught())

    def _untaught(self) -> list[float]:
        return [0.0, self._pace, 0.0]

    def learned(self, endpoint: str, kind: str) -> tuple[MarginsLearned, ...]:
        """What was learned, to be kept under the endpoint's name; nothing of what nothing was."""
        return tuple(
            MarginsLearned(
                endpoint, kind, waits, self._z, tuple(self._logs[waits]), self._lessons[waits]
            )
            for waits in _BOTH
            if self._lessons[waits]
        )

    def can_restore(self, learned: MarginsLearned) -> bool:
        """Whether it can be what was learned before, at the same quantile."""
        return (
            learned.z == self._z
            and 0 < learned.lessons <= MOST_LESSONS
            and all_within(learned.logs, 3 * ((LEAST, MOST),))
        )

    def restore(self, learned: MarginsLearned) -> None:
        """Go on from what was learned before, or by others, if it can be."""
        if self.can_restore(learned):
            self._logs[learned.waits][:] = learned.logs
            self._lessons[learned.waits] = learned.lessons


def _bounded(log: float) -> float:
    return min(max(log, LEAST), MOST)
