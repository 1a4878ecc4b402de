"""Retry throttling (gRFC A6): retries stop while too many requests fail, so they cannot pile on."""

from __future__ import annotations


class RetryThrottle:
    """A bucket of ``tokens``: a failure takes one, a success returns ``token_ratio`` of one.

    Retries are allowed while more than half of the tokens are left.
    """

    __slots__ = ("_max", "_ratio", "_tokens")

    def __init__(self, tokens: float, token_ratio: float) -> None:
        self._max = tokens
        self._ratio = token_ratio
        self._tokens = tokens

    @property
    def allows(self) -> bool:
        """Whether one more retry may be made now."""
        return self._tokens > self._max / 2.0

    def succeed(self) -> None:
        """A call succeeded."""
        self._tokens = min(self._max, self._tokens + self._ratio)

    def fail(self) -> None:
        """A call failed in a way that could be retried."""
        self._tokens = max(0.0, self._tokens - 1.0)
