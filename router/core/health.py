"""Outlier ejection of one endpoint: healthy -> ejected -> probing -> healthy.

A fault counts, a success clears, backpressure only marks the endpoint busy for a while, and what
is the caller's doing (4xx, client abort) never reaches this module. Every mark expires. Defaults
after gRFC A50 and Envoy's outlier detection; `now` is always an argument.
"""

from __future__ import annotations

from enum import StrEnum

from router.config.settings import HealthSettings

_WINDOW_S = 30.0
_MAX_DOUBLINGS = 10


class State(StrEnum):
    """Whether an endpoint takes traffic; PROBING admits one request at a time."""

    HEALTHY = "healthy"
    EJECTED = "ejected"
    PROBING = "probing"


class Health:
    """The ejection state of one endpoint. All methods are O(1) and never raise."""

    __slots__ = (
        "_busy_until", "_ejected_until", "_ejections", "_failures", "_settings",
        "_streak", "_total", "_window_from", "state",
    )  # fmt: skip

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self.state = State.HEALTHY
        self._streak = 0
        self._failures = 0
        self._total = 0
        self._window_from = 0.0
        self._ejections = 0
        self._ejected_until = 0.0
        self._busy_until = 0.0

    @property
    def settled(self) -> bool:
        """True while nothing is pending that only the passing of time would change."""
        return self.state is State.HEALTHY and self._busy_until == 0.0

    def admits(self, in_flight: int) -> bool:
        """Whether the endpoint may take one more request, given its own requests in flight."""
        if self._busy_until > 0.0 or self.state is State.EJECTED:
            return False
        return self.state is State.HEALTHY or in_flight == 0

    def succeed(self, now: float) -> None:
        """A request came back well: a probe that succeeds makes the endpoint healthy again."""
        self._count(now)
        self._streak = 0
        if self.state is State.PROBING:
            self.state = State.HEALTHY
            self._ejections = max(0, self._ejections - 1)
            self._failures = self._total = 0

    def fail(self, now: float, may_eject: bool, answered: bool = False) -> bool:
        """A request failed by the endpoint's fault; True when this ejects it.

        ``answered``: the server itself said INTERNAL or UNKNOWN. Some servers say so of a caller's
        bad tensor, so this counts towards the failure percentage but not as a streak: one caller
        must not take a fleet down. ``may_eject``: whether the fleet can spare one more endpoint; a
        probe that fails ejects again in any case.
        """
        self._count(now)
        self._failures += 1
        self._streak += 0 if answered else 1
        settings = self._settings
        ratio_broken = (
            self._total >= settings.min_requests
            and 100.0 * self._failures >= settings.failure_percentage * self._total
        )
        outlier = self._streak >= settings.consecutive_failures or ratio_broken
        if self.state is State.PROBING or (self.state is State.HEALTHY and outlier and may_eject):
            self._eject(now)
            return True
        return False

    def mark_busy(self, now: float, retry_after_s: float | None) -> None:
        """The endpoint pushed back: rest it for as long as it asked, within bounds."""
        rest_s = self._settings.busy_s if retry_after_s is None else retry_after_s
        rest_s = min(max(rest_s, 0.0), self._settings.max_ejection_s)
        self._busy_until = max(self._busy_until, now + rest_s)

    def readiness(self, now: float, ready: bool, may_eject: bool) -> bool:
        """Take in an active readiness probe; True when it ejects the endpoint."""
        if ready:
            if self.state is State.EJECTED:
                self.state = State.PROBING
            return False
        if self.state is not State.EJECTED and (may_eject or self.state is State.PROBING):
            self._eject(now)
            return True
        if self.state is State.EJECTED:
            self._ejected_until = max(self._ejected_until, now + self._settings.base_ejection_s)
        return False

    def tick(self, now: float) -> None:
        """Let marks expire: busy ends, an ejection turns into probing."""
        if self._busy_until and now >= self._busy_until:
            self._busy_until = 0.0
        if self.state is State.EJECTED and now >= self._ejected_until:
            self.state = State.PROBING

    def adopt(self, settings: HealthSettings) -> None:
        """Use new settings from here on; marks already made keep their expiry."""
        self._settings = settings

    def _count(self, now: float) -> None:
        if now - self._window_from >= _WINDOW_S:
            self._window_from = now
            self._failures = self._total = 0
        self._total += 1

    def _eject(self, now: float) -> None:
        settings = self._settings
        doublings = min(self._ejections, _MAX_DOUBLINGS)
        self._ejected_until = now + min(
            settings.base_ejection_s * 2.0**doublings, settings.max_ejection_s
        )
        self._ejections += 1
        self._streak = 0
        self.state = State.EJECTED
