"""How much may be tried again: enough to bridge a loss, too little to feed a storm.

`RetryBudget` bounds what retries add to the fleet's load; `Trials` bounds what one caller's bad
requests may spend of it; `Mistakes` are those that are known to be wrong, and spend nothing. A
failure that never reached a server, and one of an event that was charged already, costs nothing:
see `router.director.journey`.
"""

from __future__ import annotations

import math
from collections import OrderedDict

# What was earned and not spent is forgotten with this time constant (as linkerd's 10 s window).
_MEMORY_S = 10.0
_EARNED_PER_REQUEST = 0.1
_MOST_TRIALS = 16.0
_MAX_CALLERS = 4096
# A server that was mended answers what it did not: after so long all are asked once more.
_MISTAKEN_S = 60.0
_MAX_MISTAKES = 4096


class RetryBudget:
    """Each request earns ``ratio`` of a retry, each retry spends one; ``reserve`` at the start.

    So retries stay within ``ratio`` of all requests, plus ``reserve`` once. What exceeds the
    reserve melts away within seconds, so that calm hours save up nothing for a storm.
    """

    __slots__ = ("_balance", "_ratio", "_reserve", "_settled_at")

    def __init__(self, ratio: float, reserve: float) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._balance = reserve
        self._settled_at = math.nan

    @property
    def balance(self) -> float:
        """Retries that may be made now."""
        return self._balance

    def earn(self) -> None:
        """A request was admitted."""
        self._balance += self._ratio

    def spend(self) -> bool:
        """Take one retry; False when there is none left."""
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def give_back(self) -> None:
        """A retry that was spent was not made after all."""
        self._balance += 1.0

    def tick(self, now: float) -> None:
        """Let what exceeds the reserve melt."""
        spare = self._balance - self._reserve
        if spare > 0.0 and self._settled_at == self._settled_at:
            self._balance -= spare * -math.expm1(min(0.0, self._settled_at - now) / _MEMORY_S)
        self._settled_at = now

    def adopt(self, ratio: float, reserve: float) -> None:
        """Use other bounds from here on."""
        self._ratio, self._reserve = ratio, reserve


class Trials:
    """Whether a failure that may be the request's own is tried elsewhere, by (model, caller).

    A trial that shows the request at fault costs its caller one of a few, which its requests earn
    back slowly; one that shows the endpoint at fault costs nothing. So a caller of bad requests
    adds 10 % to their number, and one whose requests are good is never without a trial.
    """

    def __init__(self) -> None:
        self._left: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._left)

    def allowed(self, model: str, caller: str) -> bool:
        """Whether one more may be made for this caller."""
        return self._left.get((model, caller), _MOST_TRIALS) >= 1.0

    def begin(self, model: str, caller: str) -> None:
        """One is made; it is paid for, unless `proven` later."""
        key = (model, caller)
        self._left[key] = max(0.0, self._left.get(key, _MOST_TRIALS) - 1.0)
        self._left.move_to_end(key)
        while len(self._left) > _MAX_CALLERS:
            self._left.popitem(last=False)

    def proven(self, model: str, caller: str) -> None:
        """One showed the endpoint at fault."""
        self._give(model, caller, 1.0)

    def earn(self, model: str, caller: str) -> None:
        """A request of this caller was taken in."""
        self._give(model, caller, _EARNED_PER_REQUEST)

    def _give(self, model: str, caller: str, share: float) -> None:
        key = (model, caller)
        left = self._left.get(key)
        if left is None:
            return
        if left + share >= _MOST_TRIALS:
            del self._left[key]
        else:
            self._left[key] = left + share


class Mistakes:
    """Requests that every server which could be asked found wrong, for a while: sent again, they
    are not tried elsewhere again. By fingerprints; bounded."""

    def __init__(self) -> None:
        # In the order in which they expire.
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def note(self, fingerprint: bytes, now: float) -> None:
        """It was found wrong by all, at ``now`` (monotonic, s)."""
        self._until[fingerprint] = now + _MISTAKEN_S
        self._until.move_to_end(fingerprint)
        while len(self._until) > _MAX_MISTAKES:
            self._until.popitem(last=False)

    def knows(self, fingerprint: bytes, now: float) -> bool:
        """Whether it is one of them."""
        return now < self._until.get(fingerprint, -math.inf)
