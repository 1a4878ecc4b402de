"""What a principal uses: requests, tokens, and how many of them at once.

Counted here, in this process, and never waited for: of limits that hold for all gateways together
each has its share. A bucket that is full forgets nothing when it is dropped, so that few are kept.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from router.errors import RateLimitedError
from router.identity.principal import UNMETERED, Principal, PrincipalLimits
from router.model import Receipt

# Principals whose use is remembered; of tokens there may be any number.
_MOST_KEPT: Final = 16_384
# A bucket holds what comes in so long: short bursts are no flood.
_BURST_S: Final = 1.0
_MINUTE_S: Final = 60.0
_BUSY_RETRY_S: Final = 1.0


def used_tokens(receipt: Receipt) -> float:
    """Of prompt and answer together, as far as is known; NaN where either is not."""
    prompt = receipt.input_tokens
    if prompt != prompt:
        prompt = receipt.request.input_tokens
    return prompt + receipt.output_tokens


class TokenBucket:
    """Holds ``burst`` at most and gains ``per_s``; begins full. Times are monotonic seconds."""

    __slots__ = ("_at", "_held")

    def __init__(self) -> None:
        self._held = math.nan
        self._at = 0.0

    def take(self, amount: float, per_s: float, burst: float, now: float) -> float:
        """Take ``amount`` now: 0, or how many seconds until it can be taken, and nothing is.

        What is more than it ever holds is taken when it is full: it owes the rest then.
        """
        held = self._fill(per_s, burst, now)
        wanted = min(amount, burst)
        if held < wanted:
            return (wanted - held) / per_s
        self._held = held - amount
        return 0.0

    def put(self, amount: float, burst: float) -> None:
        """Give ``amount`` back, or take it whatever is there, below 0."""
        if not math.isnan(self._held):
            self._held = min(burst, self._held + amount)

    def _fill(self, per_s: float, burst: float, now: float) -> float:
        held = self._held
        if held != held:
            held = burst
        elif now > self._at:
            held = min(burst, held + (now - self._at) * per_s)
        self._held, self._at = held, now
        return held


class Use:
    """One request's part of what its principal may use, from `Limiter.begin` to `end`."""

    __slots__ = ("_at_once", "_counts", "_limiter", "_reserved")

    def __init__(self, limiter: Limiter | None, counts: _Counts | None, at_once: bool) -> None:
        self._limiter = limiter
        self._counts = counts
        self._at_once = at_once
        self._reserved = 0.0

    @property
    def is_metered(self) -> bool:
        """Whether anybody wants to know how many tokens it takes."""
        return self._counts is not None and self._counts.limits.tokens_per_min < math.inf

    def reserve(self, tokens: float) -> None:
        """Before it is sent: so many tokens are expected. Raises RateLimitedError."""
        if self._limiter is not None and self._counts is not None and self.is_metered:
            self._limiter.take_tokens(self._counts, tokens)
            self._reserved = tokens

    def settle(self, tokens: float) -> None:
        """It took so many in the end; NaN where nobody knows: then it is what was expected."""
        if self._limiter is not None and self._counts is not None and tokens == tokens:
            self._limiter.put_tokens(self._counts, self._reserved - tokens)
        self._reserved = 0.0

    def give_back(self) -> None:
        """It was refused, or no server answered it."""
        if self._reserved:
            self.settle(0.0)

    def end(self) -> None:
        """It is over. What was reserved and not settled stays taken: its caller went away, and what
        a server did until then is not known. Calling it twice does nothing."""
        if self._at_once and self._counts is not None:
            self._counts.at_once -= 1
        self._counts = None
        self._at_once = False


# Of whoever has no limits.
FREE: Final = Use(None, None, False)


class _Counts:
    __slots__ = ("at_once", "limits", "name", "requests", "tokens")

    def __init__(self, name: str, limits: PrincipalLimits) -> None:
        self.name = name
        self.limits = limits
        self.at_once = 0
        self.requests = TokenBucket()
        self.tokens = TokenBucket()


class Limiter:
    """The use of all principals in one process. ``monotonic``: seconds; ``sharers``: how many
    processes the limits are shared among."""

    def __init__(
        self, monotonic: Callable[[], float], sharers: Callable[[], int] = lambda: 1
    ) -> None:
        self._monotonic = monotonic
        self._sharers = sharers
        self._kept: OrderedDict[str, _Counts] = OrderedDict()

    def begin(self, principal: Principal) -> Use:
        """One more request of ``principal``; `Use.end` it in any case. Raises RateLimitedError."""
        limits = principal.limits
        if limits == UNMETERED:
            return FREE
        counts, share = self._counts(principal), self._share()
        most = (
            max(1.0, math.floor(limits.max_concurrent * share))
            if share < 1.0
            else (limits.max_concurrent)
        )
        if counts.at_once >= most:
            raise RateLimitedError(
                f"{limits.max_concurrent:g} requests at once is this principal's limit",
                _BUSY_RETRY_S,
                "concurrency",
                principal.name,
            )
        if limits.requests_per_s < math.inf:
            per_s = limits.requests_per_s * share
            wait_s = counts.requests.take(1.0, per_s, max(1.0, per_s * _BURST_S), self._monotonic())
            if wait_s > 0.0:
                raise RateLimitedError(
                    f"{limits.requests_per_s:g} requests a second is this principal's limit",
                    wait_s,
                    "requests",
                    principal.name,
                )
        counts.at_once += 1
        return Use(self, counts, True)

    def take_tokens(self, counts: _Counts, tokens: float) -> None:
        """See `Use.reserve`."""
        per_min = counts.limits.tokens_per_min
        share = self._share()
        wait_s = counts.tokens.take(
            tokens, per_min * share / _MINUTE_S, per_min * share, self._monotonic()
        )
        if wait_s > 0.0:
            raise RateLimitedError(
                f"{per_min:g} tokens a minute is this principal's limit",
                wait_s,
                "tokens",
                counts.name,
            )

    def put_tokens(self, counts: _Counts, tokens: float) -> None:
        """See `Use.settle`."""
        counts.tokens.put(tokens, counts.limits.tokens_per_min * self._share())

    def _share(self) -> float:
        return 1.0 / max(1, self._sharers())

    def _counts(self, principal: Principal) -> _Counts:
        kept = self._kept
        counts = kept.get(principal.name)
        if counts is None:
            counts = kept[principal.name] = _Counts(principal.name, principal.limits)
            if len(kept) > _MOST_KEPT:
                self._drop()
        elif counts.limits is not principal.limits:
            # A file of keys that was read anew may have others.
            counts.limits = principal.limits
        kept.move_to_end(principal.name)
        return counts

    def _drop(self) -> None:
        """Drop the longest unused of those with nothing under way."""
        for name, counts in self._kept.items():
            if not counts.at_once:
                del self._kept[name]
                return
