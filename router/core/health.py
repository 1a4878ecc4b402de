"""Whether a model server is there: what its connections, its silence and its probes say.

Only definite evidence counts here, so no cap holds: a server that is dead is out, however many
others are. Whether one that is there answers as well as its peers do is the question of
`router.core.outlier`. Every mark expires; `now` is always an argument (seconds, monotonic).
"""

from __future__ import annotations

import math
from enum import StrEnum

from router.config.settings import HealthSettings
from router.contract import Probe

# Shares of ``detect_s``: quiet for so long with requests waiting, a server is probed; a probe may
# take so long. The rest is for the ticks between.
QUIET_SHARE = 0.25
PROBE_SHARE = 0.45
# The last server in service is given up for silence only after so many times ``detect_s``.
_LAST_SHARE = 2.0
# Between two probes of one that is out, s; the pause grows up to half of ``probe_s``.
_FIRST_PAUSE_S = 0.5
_PAUSE_GROWTH = 1.5
# One that stays in for so many base ejections is as good as new.
CALM_EJECTIONS = 6.0
_MAX_DOUBLINGS = 10
# It answers probes, but no request for so long, or so many predicted runs; longer where it never
# answered one and the prediction is but the profile's. Doubled each time that it happens without an
# answer between, so that a server that is only much slower gets the time to tell so.
_STUCK_S = 15.0
_STUCK_UNKNOWN_S = 30.0
_STUCK_RUNS = 20.0
_MAX_STUCK_DOUBLINGS = 6
# Longest silence that a server is forgiven after it came back from such silences.
_MAX_PATIENCE_S = 30.0


class State(StrEnum):
    """Whether an endpoint takes traffic; PROBING admits one request at a time."""

    HEALTHY = "healthy"
    EJECTED = "ejected"
    PROBING = "probing"


class Cause(StrEnum):
    """Why an endpoint takes no traffic, or less than others."""

    NONE = ""
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    NOT_READY = "not_ready"
    OUTLIER = "outlier"


class Health:
    """The reachability of one endpoint. All methods are O(1) and never raise.

    healthy -> ejected at a refused connection, a failed probe or silence; healthy -> probing when a
    connection broke, until a probe tells more. Back at the first ready answer to a probe; after
    repeated ejections not before a time that doubles, and then through one request at a time.
    """

    __slots__ = (
        "_asked_again_at", "_asked_at", "_busy_until", "_calm_from", "_ejected_at", "_ejections",
        "_event_at", "_held_back", "_mute_from", "_next_probe_at", "_not_before", "_patience_s",
        "_pause_s", "_probe_clears", "_quiet_from", "_rested_at", "_rested_turns", "_settings",
        "_signs", "_stuck", "_turns", "_turns_heard", "_unanswered_from", "_watched_at",
        "cause", "probe_out", "state",
    )  # fmt: skip

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self.state = State.HEALTHY
        self.cause = Cause.NONE
        self.probe_out = False
        self._asked_at = -math.inf
        self._asked_again_at: float | None = None
        self._busy_until = 0.0
        self._calm_from = -math.inf
        self._ejected_at = -math.inf
        self._ejections = 0
        self._event_at = -math.inf
        self._held_back = False
        self._mute_from: float | None = None
        self._next_probe_at = -math.inf
        self._not_before = 0.0
        self._patience_s = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._probe_clears = True
        self._quiet_from: float | None = None
        self._rested_at = -math.inf
        self._rested_turns: int | None = None
        self._signs = 0
        self._stuck = 0
        self._turns = 0
        self._turns_heard = 0
        # Since when probes go unanswered.
        self._unanswered_from: float | None = None
        self._watched_at: float | None = None

    @property
    def settled(self) -> bool:
        """True while nothing is pending that only the passing of time would change."""
        rests = self._busy_until > 0.0 or self._asked_again_at is not None
        return self.state is State.HEALTHY and not rests

    @property
    def is_there(self) -> bool:
        """Whether it is not ejected."""
        return self.state is not State.EJECTED

    @property
    def troubled_at(self) -> float:
        """When its connection broke, or it went out or came back on trial, last; -inf: never."""
        return self._ejected_at

    @property
    def busy(self) -> bool:
        """Whether it pushed back, and nothing has shown yet that it has room again."""
        return self._busy_until > 0.0 or self._rested_turns is not None

    def admits(self, in_flight: int, turns: int = 0) -> bool:
        """Whether the endpoint may take one more request, given its own requests in flight, and
        those ever sent there. After a rest one asks whether it has room.
        """
        if self._busy_until > 0.0 or self.state is State.EJECTED:
            return False
        if self._rested_turns is not None and turns > self._rested_turns:
            return False
        return self.state is State.HEALTHY or in_flight == 0

    def succeed(self, departed: float) -> None:
        """A request that left at ``departed`` came back well. What left before a connection broke
        or an ejection says nothing of now: old answers still arrive from a server that stops."""
        if self._rested_turns is not None and departed >= self._rested_at:
            self._rested_turns = self._asked_again_at = None
        if self.state is State.PROBING and departed > self._ejected_at:
            self._recover(departed)

    def lose(self, now: float) -> None:
        """A connection broke. Servers restart and age connections: a probe will tell which."""
        if self.state is State.HEALTHY:
            self._forgive(now)
            self.state, self.cause = State.PROBING, Cause.UNREACHABLE
            self._ejected_at = now
            self._probe_clears = True
            self._next_probe_at = now

    def refuse(self, now: float) -> bool:
        """No connection could be had: True when this ejects it."""
        return self._eject(now, Cause.UNREACHABLE)

    def new_event(self, departed: float, now: float) -> bool:
        """Whether the failure of a request that left at ``departed`` is the first of its event.

        What was under way when the first one failed fails for the same reason.
        """
        if departed <= self._event_at:
            return False
        self._event_at = now
        return True

    def had_event(self, since: float) -> bool:
        """Whether an event began at ``since`` or later."""
        return self._event_at >= since

    def mark_busy(self, now: float, retry_after_s: float | None) -> None:
        """The endpoint pushed back: rest it for as long as it asked, within ``max_busy_s``."""
        rest_s = self._settings.busy_s if retry_after_s is None else retry_after_s
        rest_s = min(max(rest_s, 0.0), self._settings.max_busy_s)
        self._busy_until = max(self._busy_until, now + rest_s)
        self._rested_turns = self._asked_again_at = None

    def end_rest(self) -> None:
        """Let it be asked again at once."""
        self._busy_until = 0.0
        self._rested_turns = self._asked_again_at = None

    def watch(self, now: float, in_flight: int, turns: int, signs: int) -> None:
        """Look at it, every tick. ``turns``: requests ever sent there; ``signs``: a count that
        every sign of life raises. Callers that give up are no sign.
        """
        before = self._watched_at
        if signs != self._signs or before is None:
            self._signs, self._stuck = signs, 0 if before is not None else self._stuck
            self._turns_heard = turns - in_flight if before is None else turns
            self._quiet_from = self._mute_from = self._unanswered_from = None
        elif in_flight == 0 and turns == self._turns_heard:
            self._quiet_from = None
        elif self._quiet_from is None:
            self._quiet_from = before
        if in_flight == 0 and turns == self._turns:
            self._mute_from = None
        elif self._mute_from is None and self._quiet_from is not None:
            self._mute_from = self._quiet_from
        self._turns, self._watched_at = turns, now
        self._watch_rest(now, turns)

    def _watch_rest(self, now: float, turns: int) -> None:
        if self._busy_until:
            if now >= self._busy_until:
                self._busy_until = 0.0
                self._rested_at, self._rested_turns = now, turns
        elif self._rested_turns is not None and turns > self._rested_turns:
            if self._asked_again_at is None:
                self._asked_again_at = now
            elif now - self._asked_again_at >= self._settings.busy_s:
                # Not pushed back for so long, the one that asks was taken in.
                self._rested_turns = self._asked_again_at = None

    def probe_due(self, now: float) -> bool:
        """Whether to probe it now: its turn has come, or requests wait there and it is quiet."""
        return not self.probe_out and self.overdue_s(now) >= 0.0

    def overdue_s(self, now: float) -> float:
        """Seconds since it should have been probed; negative until then."""
        quiet = self._quiet_from
        if quiet is not None and self.state is not State.EJECTED:
            since = max(quiet, self._asked_at) + QUIET_SHARE * self._settings.detect_s
            return now - min(since, self._next_probe_at)
        return now - self._next_probe_at

    def doubt(self, now: float) -> None:
        """Somebody else holds it for out of service: have it probed before its turn. A hint and no
        more, and not more often than one that is out is probed."""
        if self.state is not State.EJECTED:
            soon = max(now, self._asked_at + _FIRST_PAUSE_S)
            self._next_probe_at = min(self._next_probe_at, soon)

    def probe_begins(self, now: float) -> None:
        """A probe is on its way."""
        self.probe_out = True
        self._asked_at = now

    def probe_ends(
        self, now: float, answer: Probe, jitter: float, longest_s: float, last: bool = False
    ) -> bool:
        """Take in a probe's answer; True when it ejects the endpoint, or finds that requests are
        stuck there.

        ``jitter``: uniform in [0, 1), spreads the probes of a fleet. ``longest_s``: the longest
        run predicted for a request there now: a server that works on it may answer nothing else.
        ``last``: nobody else serves what it serves, so that to give up early gains nothing.
        """
        self.probe_out = self._held_back = False
        ejected = False
        if answer in (Probe.READY, Probe.UNKNOWN):
            self._answered(now, answer)
        elif answer is Probe.NOT_READY:
            ejected = self._eject(now, Cause.NOT_READY)
        elif answer is Probe.REFUSED:
            ejected = self._eject(now, Cause.UNREACHABLE)
        else:
            ejected = self._unanswered(now, self._silence_s(now, longest_s, last))
        if self._is_stuck(now, longest_s):
            self._eject(now, Cause.SILENT)
            ejected = True
        self._plan_probe(now, jitter)
        return ejected

    @property
    def held_back(self) -> bool:
        """Whether it says that it is ready, and is out for its repeated ejections alone."""
        return self._held_back

    def readmit(self, now: float) -> None:
        """Let one that is held back take requests again, before its time."""
        self._held_back = False
        self._calm_from = now
        self._recover(now)

    def probe_is_void(self, now: float) -> None:
        """A probe says nothing, since the gateway itself stood still: ask again."""
        self.probe_out = False
        self._next_probe_at = now

    def excuse(self, now: float) -> None:
        """The gateway itself stood still: what seemed silence was not heard."""
        if self._quiet_from is not None:
            self._quiet_from = now
        if self._mute_from is not None:
            self._mute_from = now
        self._unanswered_from = None

    def adopt(self, settings: HealthSettings) -> None:
        """Use new settings from here on; marks already made keep their expiry."""
        self._settings = settings

    def _plan_probe(self, now: float, jitter: float) -> None:
        pause_s = self._settings.probe_s
        if self._unanswered_from is not None:
            pause_s = _FIRST_PAUSE_S
        if self.state is State.EJECTED:
            pause_s = self._pause_s
            self._pause_s = min(self._pause_s * _PAUSE_GROWTH, self._settings.probe_s / 2.0)
        self._next_probe_at = now + pause_s * (0.9 + 0.2 * jitter)

    def _unanswered(self, now: float, silence_s: float) -> bool:
        """A probe had no answer: True when that is silence enough."""
        if self._unanswered_from is None:
            quiet = self._quiet_from
            self._unanswered_from = self._asked_at if quiet is None else min(quiet, self._asked_at)
        return now - self._unanswered_from >= silence_s and self._eject(now, Cause.SILENT)

    def _answered(self, now: float, answer: Probe) -> None:
        if self._asked_at < self._ejected_at:
            # It was asked before what happened since.
            return
        if self._quiet_from is not None:
            self._quiet_from = now
        self._turns_heard = self._turns
        self._unanswered_from = None
        if self.state is State.PROBING and self._probe_clears:
            self._recover(now)
        elif self.state is State.EJECTED:
            self._return(now, answer)

    def _return(self, now: float, answer: Probe) -> None:
        """Let an ejected one in again, unless it is too early."""
        if self.cause is Cause.SILENT and not self._stuck:
            # It may be a server that answers nothing while it works.
            silence_s = now - self._ejected_at + self._settings.detect_s
            self._patience_s = min(1.5 * silence_s, _MAX_PATIENCE_S)
        # One that said that it is not ready, and says nothing to that any more, shows it by a
        # request: what answers there may not be what answered then.
        untold = self.cause is Cause.NOT_READY and answer is Probe.UNKNOWN
        if now < self._not_before:
            self._held_back = not (self._stuck or untold)
            return
        self._calm_from = now
        if self._ejections > 1 or self._stuck or untold:
            self.state = State.PROBING
            self._ejected_at = now
            self._probe_clears = False
        else:
            self._recover(now)

    def _is_stuck(self, now: float, longest_s: float) -> bool:
        """Whether it answers probes, but for very long no request."""
        mute = self._mute_from
        if mute is None:
            return False
        least_s = _STUCK_S if self._signs else _STUCK_UNKNOWN_S
        patience_s = max(least_s, _STUCK_RUNS * longest_s)
        if now - mute < patience_s * 2.0 ** min(self._stuck, _MAX_STUCK_DOUBLINGS):
            return False
        self._stuck += 1
        self._mute_from = None
        return True

    def _recover(self, now: float) -> None:
        self.state = State.HEALTHY
        self.cause = Cause.NONE
        self._pause_s = _FIRST_PAUSE_S

    def _eject(self, now: float, cause: Cause) -> bool:
        if self.state is State.EJECTED:
            self.cause = cause
            return False
        self._forgive(now)
        before = self._ejections + (cause is Cause.SILENT and self._stuck > 0)
        wait_s = ejection_s(before - 1, self._settings) if before else 0.0
        self._ejections += 1
        self._ejected_at = now
        self._not_before = now + wait_s
        self._pause_s = _FIRST_PAUSE_S
        self._quiet_from = self._mute_from = self._unanswered_from = None
        if cause is Cause.SILENT:
            # What hangs there is given up with the ejection: one event.
            self._event_at = now
        self.state, self.cause = State.EJECTED, cause
        self._plan_probe(now, 0.5)
        return True

    def _silence_s(self, now: float, longest_s: float, last: bool) -> float:
        """How long it may be silent; 0: one probe without an answer is enough."""
        patience_s = 0.0 if self._is_calm(now) else min(self._patience_s, 2.0 * longest_s)
        return max(patience_s, _LAST_SHARE * self._settings.detect_s if last else 0.0)

    def _is_calm(self, now: float) -> bool:
        return now - self._calm_from > CALM_EJECTIONS * self._settings.base_ejection_s

    def _forgive(self, now: float) -> None:
        if self._is_calm(now):
            self._ejections = 0
            self._patience_s = 0.0


def ejection_s(before: int, settings: HealthSettings) -> float:
    """How long an ejection lasts after ``before`` recent ones: doubling, up to a limit (A50)."""
    doublings = min(before, _MAX_DOUBLINGS)
    return min(settings.base_ejection_s * 2.0**doublings, settings.max_ejection_s)
