"""Outlier ejection: whether an endpoint answers, of one model, what its peers answer.

A failure alone does not tell whether the endpoint or the request is at fault. What tells is the
same request tried elsewhere: answered there, the failure is *proven* against the endpoint; failed
there too, it is the request's and counts for nobody. Where it cannot be tried elsewhere (an answer
had begun, a sequence is bound to the endpoint), only a row of failures counts, and a cap holds.

One caller's failures weigh as one caller: an endpoint that fails one and serves others well is
avoided for that one alone (`Avoidance`); it is ejected when most callers that it lately met find
it broken, or several in a row and none is served. Times after gRFC A50: an ejection doubles, and
ends by time, or before it where no other endpoint is left.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from router.config.settings import HealthSettings
from router.core.health import CALM_EJECTIONS, State, ejection_s

_MAX_CALLERS = 256
# Of one more outcome in a caller's share of failures: a memory of about 50 requests.
_KEPT = 0.98
# Of decayed failures: a next one begins a trouble of its own.
_FORGOTTEN = 0.5
# Avoided by one caller for longer than an ejection lasts, so that it is not this caller alone who
# tries a probing endpoint for everybody.
_AVOIDED_EJECTIONS = 2.0


class _Caller:
    """What one caller met of late: failures in a row, and decayed counts of proven ones and all."""

    __slots__ = (
        "broken",
        "failures",
        "in_a_row",
        "ok_at",
        "outcomes",
        "row_since",
        "since",
        "struck_at",
    )

    def __init__(self) -> None:
        self.in_a_row = 0
        self.failures = 0.0
        self.outcomes = 0.0
        self.ok_at = -math.inf
        self.row_since = math.inf
        self.since = math.inf
        self.struck_at = -math.inf
        self.broken = False


class OutlierEjection:
    """One model on one endpoint: healthy -> ejected -> probing -> healthy. O(callers) at most.

    ``ready``: whether the server says that it has the model; set from outside.
    """

    __slots__ = (
        "_blamed", "_blamed_at", "_callers", "_ejections", "_probing_from", "_settings", "_until",
        "in_flight", "ready", "state",
    )  # fmt: skip

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self.state = State.HEALTHY
        self.in_flight = 0
        self.ready = True
        self._callers: OrderedDict[str, _Caller] = OrderedDict()
        # The first request that it blamed since it answered anybody well.
        self._blamed = b""
        self._blamed_at = 0.0
        self._ejections = 0
        self._probing_from = 0.0
        self._until = 0.0

    @property
    def admits(self) -> bool:
        """Whether it may take one more request of this model."""
        if self.state is State.HEALTHY:
            return self.ready
        return self.ready and self.state is State.PROBING and self.in_flight == 0

    def succeed(self, caller: str, departed: float) -> None:
        """A request that left at ``departed`` was answered well."""
        row = self._callers.get(caller) or self._meet(caller)
        row.ok_at = max(row.ok_at, departed)
        if row.outcomes:
            row.in_a_row = 0
            row.failures *= _KEPT
            row.outcomes = _KEPT * row.outcomes + 1.0
            row.broken = row.broken and self._is_broken(row)
        if self.state is State.PROBING and departed >= self._probing_from:
            self.state = State.HEALTHY
            self._callers.clear()

    def rejects(self, caller: str, now: float, request: bytes) -> bool:
        """It blames a request of this caller, known by its fingerprint; whether that is to be
        doubted: it lately answered the caller well, or was shown to be at fault, or there is nobody
        whom it answered well, and it blames another request, or has for as long as an ejection.
        """
        lately = now - self._memory_s
        row = self._callers.get(caller)
        if row is not None and max(row.ok_at, row.struck_at) > lately:
            return True
        served_at = max((row.ok_at for row in self._callers.values()), default=-math.inf)
        if served_at > lately:
            return False
        if not self._blamed or served_at > self._blamed_at:
            self._blamed, self._blamed_at = request, now
        return request != self._blamed or now - self._blamed_at >= self._settings.base_ejection_s

    def strike(self, now: float, caller: str, proven: bool) -> bool:
        """A failure is the endpoint's: True when this caller finds it broken.

        ``proven``: the same request was answered elsewhere.
        """
        row = self._callers.get(caller) or self._meet(caller)
        if row.in_a_row == 0:
            row.row_since = now
            if row.failures < _FORGOTTEN:
                row.since = now
        row.struck_at = now
        row.in_a_row += 1
        row.failures = _KEPT * row.failures + proven
        row.outcomes = _KEPT * row.outcomes + 1.0
        row.broken = self._is_broken(row)
        return row.broken

    def should_eject(self, now: float) -> bool:
        """Whether most callers that it met since the trouble began find it broken, or so many
        failed as make a row, and none was served since.
        """
        if self.state is State.PROBING:
            return True
        a_row = self._settings.consecutive_failures
        lately = now - self._memory_s
        rows = self._callers.values()
        failing = [row for row in rows if row.in_a_row and row.struck_at > lately]
        broken = [row for row in rows if row.broken and row.struck_at > lately]
        if not broken and len(failing) < a_row:
            return False
        began = min(
            row.row_since if row.in_a_row >= a_row else row.since for row in broken or failing
        )
        well = sum(row.ok_at > max(began, row.struck_at, lately) for row in rows)
        return len(broken) > well if broken else well == 0

    def is_stale(self, departed: float) -> bool:
        """Whether a failure of a request that left at ``departed`` says nothing any more: the
        endpoint is out, or was meanwhile.
        """
        if self.state is State.EJECTED:
            return True
        return self.state is State.PROBING and departed < self._probing_from

    def eject(self, now: float) -> None:
        """Take it out for a while; for longer each time."""
        if now - self._until > CALM_EJECTIONS * self._settings.base_ejection_s:
            self._ejections = 0
        self._until = now + ejection_s(self._ejections, self._settings)
        self._ejections += 1
        self.state = State.EJECTED

    def recall(self, now: float) -> bool:
        """Let it prove itself before its time; False when it is not out."""
        if self.state is not State.EJECTED:
            return False
        self.state = State.PROBING
        self._probing_from = now
        return True

    def avoided_until(self, now: float) -> float:
        """Until when a caller that finds it broken should go elsewhere."""
        return now + _AVOIDED_EJECTIONS * ejection_s(max(self._ejections - 1, 0), self._settings)

    def tick(self, now: float) -> bool:
        """Let an ejection turn into probing; True when it does."""
        return now >= self._until and self.recall(now)

    def adopt(self, settings: HealthSettings) -> None:
        """Use new settings from here on."""
        self._settings = settings

    @property
    def _memory_s(self) -> float:
        return 3.0 * self._settings.base_ejection_s

    def _is_broken(self, row: _Caller) -> bool:
        settings = self._settings
        if row.in_a_row >= settings.consecutive_failures:
            return True
        share = 100.0 * row.failures
        return (
            row.outcomes >= settings.min_requests
            and share >= settings.failure_percentage * row.outcomes
        )

    def _meet(self, caller: str) -> _Caller:
        while len(self._callers) >= _MAX_CALLERS:
            self._callers.popitem(last=False)
        row = self._callers[caller] = _Caller()
        return row


class Avoidance:
    """Which endpoints which caller goes round, by (model, caller); bounded, and it expires."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, str], dict[str, float]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._until)

    def add(self, model: str, caller: str, endpoint: str, until: float) -> None:
        """Let the caller go round the endpoint."""
        self._until.setdefault((model, caller), {})[endpoint] = until
        while len(self._until) > _MAX_CALLERS:
            self._until.popitem(last=False)

    def of(self, model: str, caller: str, now: float) -> tuple[str, ...]:
        """The endpoints that the caller goes round now."""
        marked = self._until.get((model, caller))
        if marked is None:
            return ()
        return tuple(name for name, until in marked.items() if now < until)

    def tick(self, now: float) -> None:
        """Forget what has expired."""
        for key, marked in list(self._until.items()):
            left = {name: until for name, until in marked.items() if now < until}
            if left:
                self._until[key] = left
            else:
                del self._until[key]
