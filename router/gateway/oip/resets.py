"""Which connection resets its calls as fast as it makes them (HTTP/2 rapid reset). Pure.

Such calls cost the client a few bytes and the server all the work up to the reset, and are not
bound by a limit on concurrent streams (CVE-2023-44487). The rule is Envoy's
(overload.premature_reset_total_stream_count and premature_reset_min_stream_lifetime_seconds).
"""

from __future__ import annotations

# A call that the client takes back earlier than this counts as premature.
MIN_LIFETIME_S = 1.0
# Enough calls to tell an attack from a client that gives up on a few.
JUDGED_AFTER = 500


class ResetCount:
    """The calls of one connection, recent ones above all."""

    __slots__ = ("_calls", "_premature")

    def __init__(self) -> None:
        self._calls = 0
        self._premature = 0

    def ended(self, lifetime_s: float, *, reset: bool) -> bool:
        """Count one call; whether to close the connection now: most are premature resets.

        Counting begins anew then: what was sent before is worked off without being judged again.
        """
        if self._calls >= 2 * JUDGED_AFTER:
            self._calls //= 2
            self._premature //= 2
        self._calls += 1
        if not reset or lifetime_s >= MIN_LIFETIME_S:
            return False
        self._premature += 1
        if self._calls < JUDGED_AFTER or 2 * self._premature <= self._calls:
            return False
        self._calls = self._premature = 0
        return True
