"""Rate limit for repeated log lines, so that an overload does not also flood the log. Pure."""

from __future__ import annotations

from collections import OrderedDict


class LineThrottle:
    """Lets the first line of a kind through, then one per ``interval_s``, counting the others.

    On top of that, all kinds together share a token bucket of ``burst`` lines that refills at
    ``per_s``: a caller who makes every line look new must not flood either. At most ``max_kinds``
    kinds are remembered, the ones seen last.
    """

    def __init__(
        self,
        interval_s: float = 10.0,
        burst: float = 100.0,
        per_s: float = 20.0,
        max_kinds: int = 1_024,
    ) -> None:
        self._interval_s = interval_s
        self._burst = burst
        self._per_s = per_s
        self._max_kinds = max_kinds
        # kind -> (when its last line passed, lines suppressed since)
        self._kinds: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        self._tokens = burst
        self._filled_at: float | None = None
        self._forgotten = 0

    def admit(self, kind: tuple[str, ...], now: float) -> int | None:
        """None to suppress the line, else how many of its kind were suppressed before it.

        ``now``: seconds on a clock that does not step back.
        """
        seen = self._kinds.get(kind)
        if seen is not None and now - seen[0] < self._interval_s:
            self._note(kind, seen[0], seen[1] + 1)
            return None
        suppressed = 0 if seen is None else seen[1]
        if not self._take_token(now):
            if seen is None:
                self._forgotten += 1
            else:
                self._note(kind, seen[0], suppressed + 1)
            return None
        self._note(kind, now, 0)
        return suppressed

    def pending(self) -> int:
        """Lines suppressed that no later line has accounted for; starts counting anew."""
        pending = self._forgotten + sum(count for _, count in self._kinds.values())
        self._forgotten = 0
        for kind, (at, _) in self._kinds.items():
            self._kinds[kind] = (at, 0)
        return pending

    def _note(self, kind: tuple[str, ...], at: float, suppressed: int) -> None:
        self._kinds[kind] = (at, suppressed)
        self._kinds.move_to_end(kind)
        if len(self._kinds) > self._max_kinds:
            _, (_, lost) = self._kinds.popitem(last=False)
            self._forgotten += lost

    def _take_token(self, now: float) -> bool:
        if self._filled_at is not None:
            earned = max(0.0, now - self._filled_at) * self._per_s
            self._tokens = min(self._burst, self._tokens + earned)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
