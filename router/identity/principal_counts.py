"""What one principal uses and asks for in this process, and the part of its limits it has here.

A bucket holds what the part in force allows. Where the part grows it is filled as the new part
gains, not with what another process has used or may still hold; where it shrinks, what is beyond it
is lost. So all processes' buckets together never hold more than one of the whole limit would.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

from router.core.limit_parts import LEAST_DEMAND
from router.identity.principal import PrincipalLimits

# A bucket of requests holds what comes in so long: short bursts are no flood.
BURST_S: Final = 1.0
MINUTE_S: Final = 60.0
# Demand is forgotten by 1/e in so long: a few rounds of telling it.
_FORGETS_S: Final = 2.0
# Who asked for something within that is in use.
_IN_USE_S: Final = 10.0


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
        held = self.fill(per_s, burst, now)
        wanted = min(amount, burst)
        if held < wanted:
            return (wanted - held) / per_s
        self._held = held - amount
        return 0.0

    def put(self, amount: float, burst: float) -> None:
        """Give ``amount`` back, or take it whatever is there, below 0."""
        if not math.isnan(self._held):
            self._held = min(burst, self._held + amount)

    def fill(self, per_s: float, burst: float, now: float) -> float:
        """What it holds now; to be called before either changes."""
        held = self._held
        if held != held:
            held = burst
        elif now > self._at:
            held = min(burst, held + (now - self._at) * per_s)
        self._held, self._at = held, now
        return held


class ForgettingSum:
    """A sum of which 1/e is left after a while; ``value``: of what was added a second."""

    __slots__ = ("_at", "_sum")

    def __init__(self) -> None:
        self._sum = self._at = 0.0

    def add(self, amount: float, now: float) -> None:
        """So much more was asked for."""
        self._sum = self._sum * math.exp((self._at - now) / _FORGETS_S) + amount
        self._at = now

    def per_s(self, now: float) -> float:
        """Of late."""
        return self._sum * math.exp((self._at - now) / _FORGETS_S) / _FORGETS_S


class LimitPart(NamedTuple):
    """Of one principal's limits, what this process may use: shares of rates, and places."""

    requests: float = 1.0
    tokens: float = 1.0
    at_once: float = math.inf


class SharedUse(Protocol):
    """What is counted elsewhere of the very limits that this process keeps to, in memory that both
    share: buckets are there, and none here."""

    @property
    def at_once(self) -> int:
        """Requests that are under way there."""
        ...

    def here(self, at_once: int) -> None:
        """So many are under way in this process."""
        ...

    def take_request(self) -> float:
        """As `TokenBucket.take`."""
        ...

    def take_tokens(self, tokens: float) -> float:
        """As `TokenBucket.take`."""
        ...

    def put_tokens(self, tokens: float) -> None:
        """As `TokenBucket.put`."""
        ...


class PrincipalCounts:
    """Of one principal in one process. ``epoch``: of what its part is (see `Limiter`); ``claim``:
    what of its part is claimed or would be; ``shared``: what is counted elsewhere of it, of which
    `told` tells; ``shown``: others have been told; ``is_new``: nobody
    else has used the limits since it began, and its part has not shrunk. Of its part: ``per_s``,
    ``burst``: requests a second, and that a bucket holds; ``tokens_per_min``: that a bucket holds
    as well."""

    __slots__ = (
        "_asked_at", "_peak", "_peak_at", "_refused", "asked_requests", "asked_tokens", "at_once",
        "burst", "claim", "epoch", "is_new", "key", "limits", "name", "part", "per_s", "requests",
        "shared", "shown", "tokens", "tokens_per_min",
    )  # fmt: skip

    def __init__(self, name: str, limits: PrincipalLimits, now: float) -> None:
        self.name = name
        # That stands for it in rows, 0 before it is asked for.
        self.key = 0
        self.limits = limits
        self.at_once = 0
        self.shared: SharedUse | None = None
        self.requests = TokenBucket()
        self.tokens = TokenBucket()
        self.asked_requests = ForgettingSum()
        self.asked_tokens = ForgettingSum()
        self.epoch = 0
        self._measure(LimitPart())
        self.claim: tuple[float, ...] = (0.0, 0.0, 0.0)
        self.shown = False
        self.is_new = True
        self._asked_at = now
        self._peak, self._peak_at, self._refused = 0.0, now, 0

    def asked(self, now: float) -> None:
        """One more request is asked for, whatever comes of it."""
        self.asked_requests.add(1.0, now)
        self._asked_at = now
        # With all that were refused since others were told.
        at_once = self.all_at_once + 1.0 + self._refused
        self._peak = max(self._faded_peak(now), at_once)
        self._peak_at = now

    @property
    def all_at_once(self) -> int:
        """Requests under way, those that are counted elsewhere among them."""
        return self.at_once + (self.shared.at_once if self.shared is not None else 0)

    def told(self, asked: int, tokens: float, peak: int, now: float) -> None:
        """As of `Limiter.told`."""
        if asked:
            self.asked_requests.add(asked, now)
            self.asked_tokens.add(tokens, now)
            self._asked_at = now
        self._peak = max(self._faded_peak(now), peak + self.at_once)
        self._peak_at = now

    def refused_at_once(self) -> None:
        """There was no place for it."""
        self._refused += 1

    def demand(self, now: float) -> tuple[float, float, float]:
        """As others are told it (`router.core.limit_parts.LIMIT_ENTRY`)."""
        limits = self.limits
        self._refused = 0
        return (
            _of_limit(self.asked_requests.per_s(now), limits.requests_per_s),
            _of_limit(self.asked_tokens.per_s(now) * MINUTE_S, limits.tokens_per_min),
            min(max(LEAST_DEMAND, self._faded_peak(now), self.all_at_once), limits.max_concurrent)
            if limits.max_concurrent < math.inf
            else 0.0,
        )

    def adopt(self, part: LimitPart, epoch: int, now: float) -> None:
        """Go on with another part from here on."""
        if part != self.part or not self.epoch:
            self._fill(now)
            self.is_new &= not self.epoch or part.tokens >= self.part.tokens
            burst, tokens = self.burst, self.tokens_per_min
            self._measure(part)
            # Nobody used what is added: all of it is there.
            share = 1.0 if self.is_new else 0.0
            if self.limits.requests_per_s < math.inf:
                self.requests.put(share * max(0.0, self.burst - burst), self.burst)
            if self.limits.tokens_per_min < math.inf:
                more = max(0.0, self.tokens_per_min - tokens)
                self.tokens.put(share * more, self.tokens_per_min)
        self.epoch = epoch

    def is_in_use(self, now: float) -> bool:
        """Whether there is anything to remember of it: what it has under way or used of late."""
        if self.all_at_once or now - self._asked_at < _IN_USE_S:
            return True
        return not self._fill(now)

    def _fill(self, now: float) -> bool:
        """Whether both buckets are full now."""
        full = True
        if self.epoch:
            if self.limits.requests_per_s < math.inf:
                full &= self.requests.fill(self.per_s, self.burst, now) >= self.burst
            if self.limits.tokens_per_min < math.inf:
                most = self.tokens_per_min
                full &= self.tokens.fill(most / MINUTE_S, most, now) >= most
        return full

    def _measure(self, part: LimitPart) -> None:
        self.part = part
        self.per_s = self.limits.requests_per_s * part.requests
        self.burst = max(1.0, self.per_s * BURST_S)
        self.tokens_per_min = self.limits.tokens_per_min * part.tokens

    def _faded_peak(self, now: float) -> float:
        return self._peak * math.exp((self._peak_at - now) / _FORGETS_S)


def _of_limit(rate: float, limit: float) -> float:
    return min(1.0, max(LEAST_DEMAND, rate / limit)) if limit < math.inf else 0.0
