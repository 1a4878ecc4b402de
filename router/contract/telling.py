"""Who is told of what happens to requests."""

from __future__ import annotations

from typing import Protocol

from router.contract.judging import Verdict
from router.contract.metadata import Metadata
from router.model import Decision, Receipt, Request, RowOutcome


class Ledger(Protocol):
    """Where it is kept what every attempt, and every request, came to. Must not block, and never
    raises: called on the hot path."""

    def ended(self, receipt: Receipt, outcome: RowOutcome, reason: str = "") -> None:
        """An attempt ended. ``reason``: from the error tree, of what is not answered."""
        ...

    def turned_away(
        self,
        request: Request,
        outcome: RowOutcome,
        reason: str,
        policy: str,
        finished_at: float,
        e2e_ms: float,
    ) -> None:
        """A request ended before it went anywhere, at this unix time; ``policy``: that decided."""
        ...


class RequestTrace(Protocol):
    """One request, as a trace tells of it: each attempt departs and ends, then the request ends,
    once. Never raises and never blocks: called on the hot path.

    ``trace_id``, ``span_id``: hexadecimal, "" where nothing of it is kept.
    """

    trace_id: str
    span_id: str

    def departs(self, decision: Decision, metadata: Metadata) -> Metadata:
        """An attempt goes to its endpoint; what ``metadata`` of the call is to be there, so that
        what the endpoint does is part of it."""
        ...

    def moved(self, receipt: Receipt, reason: str) -> None:
        """It failed, for a reason of the error tree, and another follows."""
        ...

    def ended(self, receipt: Receipt | None, outcome: RowOutcome, reason: str, policy: str) -> None:
        """The request ended, and with it the attempt under way; ``receipt``: of that, None where
        there was none. ``policy``: that decided."""
        ...


class Tracer(Protocol):
    """Makes traces of requests; its answer is random, and depends on what the caller does."""

    def begin(
        self, request: Request, metadata: Metadata, protocol: str, streamed: bool
    ) -> RequestTrace | None:
        """``metadata``, ``protocol``: of the call that it came by; ``streamed``: it has any number
        of answers. None where nothing is to be told of it, and its headers stay as they are."""
        ...


class Observer(Protocol):
    """Who is told of what happens to requests. Must not block: called on the hot path."""

    def decided(self, seconds: float, trace_id: str = "") -> None:
        """A decision took ``seconds``. ``trace_id``: of its request, "" where none is kept."""
        ...

    def finished(self, receipt: Receipt, added_latency_s: float, trace_id: str = "") -> None:
        """A request was answered; ``added_latency_s``: from its arrival until it went upstream."""
        ...

    def retried(self, reason: str) -> None:
        """A request moves on to another endpoint because of an error with this reason."""
        ...

    def ejected(self, endpoint: str) -> None:
        """An endpoint was taken out."""
        ...

    def judged(self, alias: str, verdict: Verdict) -> None:
        """Something was said, or was to be said, of an answer of one of its variants."""
        ...
