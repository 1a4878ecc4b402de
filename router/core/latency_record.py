"""How wrong the latency model is on one endpoint: what was learned, from whom, and since when not.

An endpoint begins as its twins are and learns from its own outcomes. One that looks slow gets no
requests, and without requests it would look slow for ever: so when nothing was learned of it for
QUIET_S, it is believed to be as its twins are, or as its profile says. Half of the excess is
forgotten every HALF_LIFE_S, until a request goes there and tells. While it is slow indeed that is
about one request a minute.
"""

from __future__ import annotations

import math

import numpy as np

from router.core.latency import (
    RATIO_MEAN,
    RATIO_RANGES,
    RatioTracker,
    WaitTracker,
    is_wait,
    slowness,
)
from router.core.learned import MOST_LESSONS, LatencyLearned, all_within
from router.core.twins import (
    Kind,
    LatencyErrors,
    Start,
    Voter,
    kind_key,
    prior_latency_errors,
    profile_start,
)

QUIET_S = 60.0
HALF_LIFE_S = 60.0
RELAX_EVERY_S = 1.0
RELAX_KEEPS = 0.5 ** (RELAX_EVERY_S / HALF_LIFE_S)
# A prefill, and a queue, by which a wait's errors are compared with those of the prior, ms.
_USUAL_PREFILL_MS = 100.0


class LatencyRecord:
    """``kind``: that of its twins. ``slowness``: of that hardware, in the middle, by the
    profile. ``errors``: as last worked out; methods that say True have worked them out anew.
    """

    __slots__ = (
        "_prior", "_quiet_since", "_start", "_tpot_z", "errors", "kind", "slowness", "tpot_ratio",
        "wait",
    )  # fmt: skip

    def __init__(self) -> None:
        self.wait = WaitTracker()
        self.tpot_ratio = RatioTracker()
        self.kind: Kind | None = None
        self.errors = self._prior = LatencyErrors(1.0, 1.0, 1.0, 0.0)
        self.slowness = 1.0
        self._start = profile_start()
        self._quiet_since = math.nan
        self._tpot_z = 0.0

    @property
    def twins_pace(self) -> float:
        """How many times longer than by the profile a token takes at its twins, in the middle."""
        return math.exp(float(self._start.ratio[RATIO_MEAN]))

    def told(self) -> None:
        """Something was learned."""
        self._quiet_since = math.nan
        self._work_out()

    def aim(self, z: float, tpot_z: float, start: Start | None) -> None:
        """At the quantiles of these standard normal deviates from now on. ``start``: what its twins
        learned; None: what they last had."""
        self._tpot_z = tpot_z
        self.wait.aim(z)
        self.share(start or self._start, z)
        self.told()

    def relax(self, now: float) -> bool:
        """Once every RELAX_EVERY_S: forget some of what makes a quiet endpoint look slow."""
        if not self._quiet_since <= now:
            self._quiet_since = now
        if now - self._quiet_since < QUIET_S:
            return False
        errors, prior = self.errors, self._prior
        # With nobody there, or with a queue.
        alone_ms = errors.delay_ms + errors.ttft * _USUAL_PREFILL_MS
        slow_to_begin = (
            alone_ms > prior.ttft * _USUAL_PREFILL_MS
            or alone_ms + errors.queue * _USUAL_PREFILL_MS
            > (prior.ttft + prior.queue) * _USUAL_PREFILL_MS
        )
        slow_to_go_on = errors.tpot > prior.tpot
        if slow_to_begin:
            self.wait.relax(RELAX_KEEPS, self._start.wait)
        if slow_to_go_on:
            self.tpot_ratio.relax(RELAX_KEEPS, self._start.ratio)
        return (slow_to_begin or slow_to_go_on) and self._work_out()

    def voter(self, now: float) -> Voter | None:
        """What it says of its kind at ``now``: None where nothing was learned of it lately."""
        if now - self._quiet_since >= QUIET_S or not (self.wait.lessons or self.tpot_ratio.lessons):
            return None
        return Voter(self.wait, self.tpot_ratio)

    def share(self, start: Start, z: float) -> bool:
        """What its twins learned has changed: of what nothing was learned here, believe them.

        ``z``: standard normal deviate of the policy's quantile.
        """
        self._start, self._prior = start, prior_latency_errors(z, self._tpot_z, start)
        # Of its kind: what one endpoint shows is its queue as much as its hardware.
        self.slowness = slowness(start.wait)
        if self.wait.lessons and self.tpot_ratio.lessons:
            return False
        if not self.wait.lessons:
            self.wait.begin(start.wait)
        if not self.tpot_ratio.lessons:
            self.tpot_ratio.begin(start.ratio)
        return self._work_out()

    def begin_anew(self) -> None:
        """It may be another machine by now: believe its twins of all but the path's delay."""
        self.wait.begin(self._start.wait)
        self.tpot_ratio.begin(self._start.ratio)
        self._work_out()

    def learned(self, endpoint: str) -> LatencyLearned | None:
        """What was learned, to be kept under the endpoint's name; None where nothing was."""
        wait, ratio = self.wait, self.tpot_ratio
        if self.kind is None or not (wait.lessons or ratio.lessons):
            return None
        return LatencyLearned(
            endpoint, kind_key(self.kind), wait.z,
            tuple(wait.state.tolist()), wait.lessons, tuple(ratio.state.tolist()), ratio.lessons,
        )  # fmt: skip

    def can_restore(self, learned: LatencyLearned) -> bool:
        """Whether it can be what was learned before, and of this profile."""
        lessons = (learned.wait_lessons, learned.tpot_lessons)
        return (
            self.kind is not None
            and learned.kind == kind_key(self.kind)
            and math.isfinite(learned.z)
            and all(0 <= count <= MOST_LESSONS for count in lessons)
            and is_wait(learned.wait)
            and all_within(learned.tpot, RATIO_RANGES)
        )

    def restore(self, learned: LatencyLearned) -> bool:
        """Go on from what was learned before, if it can be."""
        if not self.can_restore(learned):
            return False
        self.wait.restore(learned.wait, learned.wait_lessons, learned.z)
        self.tpot_ratio.begin(np.array(learned.tpot), learned.tpot_lessons)
        return self._work_out()

    def take_up(self, learned: LatencyLearned) -> bool:
        """Go on from what others learned, if it can be; a part without lessons stays as it is."""
        if not self.can_restore(learned):
            return False
        if learned.wait_lessons:
            self.wait.restore(learned.wait, learned.wait_lessons, learned.z)
        if learned.tpot_lessons:
            self.tpot_ratio.begin(np.array(learned.tpot), learned.tpot_lessons)
        return self._work_out()

    def _work_out(self) -> bool:
        delay_ms, ttft, queue = self.wait.errors()
        self.errors = LatencyErrors(ttft, queue, self.tpot_ratio.factor(self._tpot_z), delay_ms)
        return True
