"""The limit on one provider's calls, kept by all gateways that share a store together.

Each call is counted in the store before it is made, whoever makes it, in counters that stand for a
slice of the window each: so what was called survives whoever called. While the store cannot be
asked each gateway may call its equal part of what was left of the limit when that was last known,
and the parts together are no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from router.carbon.polling.election import BEAT_S, Part, PollerElection
from router.carbon.providers.budget import CallBudget, CallLimit
from router.contract import Clock, StateStore

# How much all gateways called is looked up every so many beats.
_LOOK_BEATS: Final = 4
# Of a window. The clocks of gateways may differ by one of them: an hour's limit bears 5 minutes.
_SLICES: Final = 12


class ElectedCalls:
    """Which of several gateways calls a provider, and how often it may be called."""

    def __init__(self, store: StateStore, election: PollerElection, clock: Clock) -> None:
        self.election = election
        self._store = store
        self._clock = clock
        self._calls: list[FleetCalls] = []
        self._beats = 0

    def within(self, limits: Iterable[CallLimit]) -> FleetCalls:
        """Limits on the provider's calls, for all gateways. To be asked for in the same order by
        each of them."""
        name = f"{self.election.name}/calls/{len(self._calls)}"
        made = FleetCalls(limits, self._store, name, self.election, self._clock)
        self._calls.append(made)
        return made

    async def beat(self, wants: Iterable[str]) -> bool:
        """To be called every `BEAT_S`: renew or seek the lease; True when this one now leads."""
        election = self.election
        leads = await election.beat(wants)
        self._beats += 1
        due = leads or election.settles_s > 0.0 or self._beats % _LOOK_BEATS == 1
        if due and not election.store_fails:
            for calls in self._calls:
                await calls.look()
        return leads


class FleetCalls:
    """A `CallAllowance` for all gateways; a call is allowed again a twelfth of the window later
    than the provider would allow it, never earlier."""

    def __init__(
        self,
        limits: Iterable[CallLimit],
        store: StateStore,
        name: str,
        election: PollerElection,
        clock: Clock,
    ) -> None:
        """``name``: of the counters, the same in every gateway and for no other limits."""
        self._limits = tuple(limits)
        # Whatever clocks and stores do, this process alone keeps to them.
        self._own = CallBudget(*self._limits)
        self._windows = [
            _FleetWindow(limit, store, f"{name}/{limit.per_s:g}", election, clock)
            for limit in self._limits
        ]
        self._election = election

    @property
    def limits(self) -> Sequence[CallLimit]:
        """Of all gateways together."""
        return self._limits

    async def spend(self, now: float) -> float:
        """As `CallAllowance.spend`; also the seconds until the next beat where another gateway is
        to make the calls, or until the others have told the store what they called without it."""
        election = self._election
        if election.part is Part.FOLLOWS:
            return BEAT_S
        if election.settles_s > 0.0:
            return election.settles_s
        wait_s = self._alone_s() if election.store_fails else await self._ask()
        if wait_s <= 0.0:
            wait_s = self._own.take(now)
        return wait_s

    async def look(self) -> None:
        """Learn how much all have called, for when the store cannot be asked."""
        try:
            for window in self._windows:
                await window.look()
        except Exception as error:
            self._election.fail(error)

    async def _ask(self) -> float:
        """Count one call in every window; where one is full, in none."""
        counted: list[_FleetWindow] = []
        try:
            for window in self._windows:
                wait_s = await window.take()
                if wait_s > 0.0:
                    for one in counted:
                        await one.give_back()
                    return wait_s
                counted.append(window)
        except Exception as error:
            self._election.fail(error)
            return self._alone_s()
        # The answer may have come after this process was stopped for a while.
        return BEAT_S if self._election.part is Part.FOLLOWS else 0.0

    def _alone_s(self) -> float:
        """As `spend`, by what is known here."""
        if self._election.part is Part.FOLLOWS:
            return BEAT_S
        wait_s = max((window.alone_s() for window in self._windows), default=0.0)
        if wait_s <= 0.0:
            for window in self._windows:
                window.count_alone()
        return wait_s


class _FleetWindow:
    """One limit's slices, by their number since 1970."""

    def __init__(
        self,
        limit: CallLimit,
        store: StateStore,
        name: str,
        election: PollerElection,
        clock: Clock,
    ) -> None:
        self._limit = limit
        self._slice_s = limit.per_s / _SLICES
        self._ttl_s = (_SLICES + 3) * self._slice_s
        self._store = store
        self._name = name
        self._election = election
        self._clock = clock
        # What all gateways called, as last known, and what this one did while it could not say so.
        self._all: dict[int, int] = {}
        self._alone: dict[int, int] = {}
        # Slices up to this one are over, and their counts known.
        self._settled = -(2**62)

    async def take(self) -> float:
        """Count one call in the store; where it is one too many, take it back: seconds to wait."""
        number = await self.look()
        await self._add(number, 1)
        if self._used(self._all) <= self._limit.calls:
            return 0.0
        await self._add(number, -1)
        return self._wait_s(self._all)

    async def give_back(self) -> None:
        """The call that was counted last is not made."""
        await self._add(self._number(), -1)

    async def look(self) -> int:
        """Hand in what was called alone, and read what is not settled; the slice of now."""
        number = self._forget()
        for slice_number in list(self._alone):
            await self._add(slice_number, self._alone[slice_number])
            del self._alone[slice_number]
        for slice_number in range(max(number - _SLICES, self._settled + 1), number + 2):
            await self._add(slice_number, 0)
        # Whose clock is behind may still count in the one before.
        self._settled = max(self._settled, number - 2)
        return number

    def alone_s(self) -> float:
        """Seconds until this gateway may call without asking; 0 for at once."""
        self._forget()
        left = self._limit.calls - self._used(self._all)
        if self._used(self._alone) < self._election.share(left):
            return 0.0
        return min(self._wait_s(self._all), self._wait_s(self._alone))

    def count_alone(self) -> None:
        """A call is made that the store does not know of."""
        number = self._number()
        self._alone[number] = self._alone.get(number, 0) + 1

    async def _add(self, number: int, amount: int) -> None:
        counter, known = f"{self._name}/{number}", self._all.get(number, 0)
        count = await self._count(counter, amount)
        if count - amount <= 0 < known:
            # The store has forgotten: one of those who know tells it.
            leads = self._election.part is Part.LEADS
            count = await self._count(counter, known) if leads else known
        self._all[number] = max(count, 0)

    async def _count(self, counter: str, amount: int) -> int:
        return await self._election.within(
            self._store.add(counter, amount, self._ttl_s, self._clock.now())
        )

    def _used(self, counts: dict[int, int]) -> int:
        """In the window that ends now; what clocks that are ahead have counted is in it."""
        number = self._number()
        return sum(n for at, n in counts.items() if number - _SLICES <= at <= number + 1)

    def _wait_s(self, counts: dict[int, int]) -> float:
        """Until the oldest call leaves the window."""
        oldest = min((at for at, n in counts.items() if n > 0), default=self._number())
        return max((oldest + _SLICES + 1) * self._slice_s - self._clock.now(), 1e-3)

    def _forget(self) -> int:
        number = self._number()
        for counts in (self._all, self._alone):
            for at in [at for at in counts if not number - _SLICES <= at <= number + 1]:
                del counts[at]
        # A clock that stepped back.
        self._settled = min(self._settled, number - 2)
        return number

    def _number(self) -> int:
        return math.floor(self._clock.now() / self._slice_s)
