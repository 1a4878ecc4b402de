"""What concerns who calls and what they may, whose word was not taken, and what is in force: one
line an event, and a count.

A line holds names that an operator gave, or that a verified credential did, and the caller's
address: no payload, and nothing of a credential that is not public. Strangers make the most of
these events, so lines that repeat are held back and counted; the metric counts them all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from router.telemetry.logs import sanitised
from router.telemetry.throttle import LineThrottle

SECURITY: Final = "router.security"
_MOST_SEEN: Final = 65_536


class SecurityEvent(StrEnum):
    """What happened."""

    UNAUTHENTICATED = "unauthenticated"
    NOT_PERMITTED = "not_permitted"
    RATE_LIMITED = "rate_limited"
    FIRST_USE = "first_use"
    KEYS_LOADED = "keys_loaded"
    KEYS_REFUSED = "keys_refused"
    ISSUER_LOADED = "issuer_keys_loaded"
    ISSUER_FAILED = "issuer_keys_failed"
    REPORT_REJECTED = "report_rejected"
    RELOADED = "reloaded"
    RELOAD_REFUSED = "reload_refused"


_LEVELS: Final = {
    SecurityEvent.UNAUTHENTICATED: logging.WARNING,
    SecurityEvent.NOT_PERMITTED: logging.WARNING,
    SecurityEvent.RATE_LIMITED: logging.INFO,
    SecurityEvent.FIRST_USE: logging.INFO,
    SecurityEvent.KEYS_LOADED: logging.INFO,
    SecurityEvent.KEYS_REFUSED: logging.ERROR,
    SecurityEvent.ISSUER_LOADED: logging.INFO,
    SecurityEvent.ISSUER_FAILED: logging.WARNING,
    SecurityEvent.REPORT_REJECTED: logging.WARNING,
    SecurityEvent.RELOADED: logging.INFO,
    SecurityEvent.RELOAD_REFUSED: logging.ERROR,
}


class SecurityLog:
    """Of one process. ``monotonic``: seconds."""

    def __init__(
        self,
        registry: CollectorRegistry,
        monotonic: Callable[[], float],
        throttle: LineThrottle | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._throttle = throttle or LineThrottle()
        self._log = logging.getLogger(SECURITY)
        self._seen: set[str] = set()
        counter = Counter(
            "carbon_router_security_events_total",
            "What concerns who calls and what they may, servers' reports and reloads, by event.",
            ("event",),
            registry=registry,
        )
        self._counts = {event: counter.labels(event).inc for event in SecurityEvent}

    def tell(self, event: SecurityEvent, why: str = "", **fields: str) -> None:
        """Count it, and log it unless it repeats too soon. ``why``: one word of a few, or names
        that an operator gave; ``fields``: what else is known, left out where empty."""
        self._counts[event]()
        # Not by the id of a key that was tried: a stranger makes up as many as lines are wanted.
        who = fields.get("principal") or fields.get("endpoint", "")
        kind = (event, why, who, _host(fields.get("peer", "")))
        suppressed = self._throttle.admit(kind, self._monotonic())
        if suppressed is None:
            return
        told: dict[str, object] = {"event": str(event)}
        if why:
            told["why"] = sanitised(why)
        told |= {name: sanitised(text) for name, text in fields.items() if text}
        if suppressed:
            told["suppressed"] = suppressed
        self._log.log(_LEVELS[event], "security", extra=told)

    def used(self, credential: str, principal: str, peer: str) -> None:
        """A credential was used; told of the first time in this process."""
        if credential in self._seen or len(self._seen) >= _MOST_SEEN:
            return
        self._seen.add(credential)
        self.tell(SecurityEvent.FIRST_USE, principal=principal, credential=credential, peer=peer)

    def close(self) -> None:
        """Say how many lines were held back and not yet accounted for."""
        pending = self._throttle.pending()
        if pending:
            self._log.warning("repeated lines held back", extra={"suppressed": pending})


def _host(peer: str) -> str:
    """Of ``ipv4:10.0.0.7:40122``: without the port, which each connection has its own of."""
    return peer.rpartition(":")[0] if ":" in peer else peer
