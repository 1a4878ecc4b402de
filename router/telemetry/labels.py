"""Bounds on label values: what a caller can invent must never become a time series."""

from __future__ import annotations

from collections.abc import Iterable

from router.errors import CarbonRouterError

OTHER = "other"


def error_reasons() -> frozenset[str]:
    """Every ``reason`` of the error tree."""
    reasons: set[str] = set()
    waiting: list[type[CarbonRouterError]] = [CarbonRouterError]
    while waiting:
        error = waiting.pop()
        reasons.add(error.reason)
        waiting.extend(error.__subclasses__())
    return frozenset(reasons)


class LabelGuard:
    """Lets known values through and calls the rest OTHER.

    Values stay known across reloads, because their series stay; past ``limit`` of them, new ones
    are OTHER too.
    """

    def __init__(self, known: Iterable[str] = (), limit: int = 1_000) -> None:
        self._known: set[str] = set()
        self._limit = limit
        self.learn(known)

    def learn(self, values: Iterable[str]) -> None:
        """Let ``values`` through from now on, as far as the limit allows."""
        for value in values:
            if len(self._known) >= self._limit:
                return
            self._known.add(value)

    def __call__(self, value: str) -> str:
        """``value`` when it is known, else OTHER."""
        return value if value in self._known else OTHER
