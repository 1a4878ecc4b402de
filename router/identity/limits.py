"""What a principal uses: requests, tokens, and how many of them at once.

Counted here, in this process, and never waited for: of limits that hold for all processes together
each has its part, by what is asked of it where they tell each other
(`router.identity.limit_claims`), an even one where they do not. A bucket that is full forgets
nothing when it is dropped, so that few are kept.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from router.errors import RateLimitedError
from router.identity.limit_claims import LimitClaims
from router.identity.principal import UNMETERED, Principal
from router.identity.principal_counts import MINUTE_S, LimitPart, PrincipalCounts, SharedUse
from router.model import Receipt

# Principals whose use is remembered; of tokens there may be any number.
_MOST_KEPT: Final = 16_384
# Of the ones that came last so many are looked through for who is in use.
_MOST_LOOKED_AT: Final = 4096
_BUSY_RETRY_S: Final = 1.0
# A part that is small may grow by then.
_ROUNDS_S: Final = 1.0


def used_tokens(receipt: Receipt) -> float:
    """Of prompt and answer together, as far as is known; NaN where either is not."""
    prompt = receipt.input_tokens
    if prompt != prompt:
        prompt = receipt.request.input_tokens
    return prompt + receipt.output_tokens


class Use:
    """One request's part of what its principal may use, from `Limiter.begin` to `end`."""

    __slots__ = ("_at_once", "_counts", "_limiter", "_reserved")

    def __init__(
        self, limiter: Limiter | None, counts: PrincipalCounts | None, at_once: bool
    ) -> None:
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
            _move(self._counts, -1)
        self._counts = None
        self._at_once = False


# Of whoever has no limits.
FREE: Final = Use(None, None, False)


class Limiter:
    """The use of all principals in one process. ``monotonic``: seconds; ``sharers``: how many
    processes the limits are shared among, evenly where there are no ``claims``."""

    def __init__(
        self, monotonic: Callable[[], float], sharers: Callable[[], int] = lambda: 1
    ) -> None:
        self._monotonic = monotonic
        self._sharers = sharers
        self.claims: LimitClaims | None = None
        self._kept: OrderedDict[str, PrincipalCounts] = OrderedDict()

    def begin(self, principal: Principal) -> Use:
        """One more request of ``principal``; `Use.end` it in any case. Raises RateLimitedError."""
        limits = principal.limits
        if limits == UNMETERED:
            return FREE
        now = self._monotonic()
        counts = self._counts(principal, now)
        counts.asked(now)
        if counts.all_at_once >= counts.part.at_once:
            counts.refused_at_once()
            raise RateLimitedError(
                f"{limits.max_concurrent:g} requests at once is this principal's limit",
                _BUSY_RETRY_S,
                "concurrency",
                principal.name,
            )
        if limits.requests_per_s < math.inf:
            if counts.shared is not None:
                wait_s = counts.shared.take_request()
            else:
                wait_s = counts.requests.take(1.0, counts.per_s, counts.burst, now)
            if wait_s > 0.0:
                raise RateLimitedError(
                    f"{limits.requests_per_s:g} requests a second is this principal's limit",
                    _likely_s(wait_s, counts.part.requests, counts.epoch),
                    "requests",
                    principal.name,
                )
        _move(counts, 1)
        return Use(self, counts, True)

    def take_tokens(self, counts: PrincipalCounts, tokens: float) -> None:
        """See `Use.reserve`."""
        now = self._monotonic()
        self._renew(counts, now)
        counts.asked_tokens.add(tokens, now)
        most = counts.tokens_per_min
        if counts.shared is not None:
            wait_s = counts.shared.take_tokens(tokens)
        else:
            wait_s = counts.tokens.take(tokens, most / MINUTE_S, most, now)
        if wait_s > 0.0:
            raise RateLimitedError(
                f"{counts.limits.tokens_per_min:g} tokens a minute is this principal's limit",
                _likely_s(wait_s, counts.part.tokens, counts.epoch),
                "tokens",
                counts.name,
            )

    def put_tokens(self, counts: PrincipalCounts, tokens: float) -> None:
        """See `Use.settle`."""
        if counts.shared is not None:
            counts.shared.put_tokens(tokens)
        else:
            counts.tokens.put(tokens, counts.tokens_per_min)

    def told(
        self, principal: Principal, asked: int, tokens: float, peak: int, shared: SharedUse
    ) -> PrincipalCounts:
        """What is counted elsewhere for this process, in ``shared``, since the last time: so many
        requests and tokens were ``asked`` for, and ``peak`` were or wanted to be under way at the
        most. Its part of now, to be kept to there."""
        now = self._monotonic()
        counts = self._counts(principal, now)
        if counts.shared is not shared:
            counts.shared = shared
            shared.here(counts.at_once)
        counts.told(asked, tokens, peak, now)
        return counts

    def part(self, name: str) -> None:
        """What a principal uses is counted nowhere else any more."""
        counts = self._kept.get(name)
        if counts is not None:
            counts.shared = None

    def in_use(self, now: float) -> Iterator[PrincipalCounts]:
        """Who uses or owes anything, of those that came last; others of them are forgotten."""
        last = list(itertools.islice(reversed(self._kept.values()), _MOST_LOOKED_AT))
        for counts in last:
            if counts.is_in_use(now):
                yield counts
            else:
                del self._kept[counts.name]

    def _renew(self, counts: PrincipalCounts, now: float) -> None:
        """Its part of now."""
        if self.claims is None:
            sharers = max(1, self._sharers())
            if counts.epoch != -sharers:
                counts.adopt(_even(counts.limits.max_concurrent, sharers), -sharers, now)
            return
        epoch = self.claims.epoch(now)
        if counts.epoch != epoch:
            self.claims.renew(counts, epoch, now)

    def _counts(self, principal: Principal, now: float) -> PrincipalCounts:
        kept = self._kept
        counts = kept.get(principal.name)
        if counts is None:
            counts = PrincipalCounts(principal.name, principal.limits, now)
            kept[principal.name] = counts
            if len(kept) > _MOST_KEPT:
                self._drop()
        elif counts.limits is not principal.limits:
            # A file of keys that was read anew may have others.
            if counts.limits != principal.limits:
                counts.epoch = 0
            counts.limits = principal.limits
        kept.move_to_end(principal.name)
        self._renew(counts, now)
        return counts

    def _drop(self) -> None:
        """Drop the longest unused of those with nothing under way."""
        for name, counts in self._kept.items():
            if not counts.all_at_once:
                del self._kept[name]
                return


def _move(counts: PrincipalCounts, by: int) -> None:
    counts.at_once += by
    if counts.shared is not None:
        counts.shared.here(counts.at_once)


def _even(max_concurrent: float, sharers: int) -> LimitPart:
    if sharers == 1:
        return LimitPart(at_once=max_concurrent)
    at_once = max(1.0, max_concurrent // sharers) if max_concurrent < math.inf else math.inf
    return LimitPart(1.0 / sharers, 1.0 / sharers, at_once)


def _likely_s(wait_s: float, part: float, epoch: int) -> float:
    """How long to wait, where a part may grow: as long as with all of it, or until it has."""
    return max(wait_s * part, min(wait_s, _ROUNDS_S)) if epoch > 0 else wait_s
