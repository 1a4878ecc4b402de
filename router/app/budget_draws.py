"""Carbon budgets of many gateways: each draws its allotments on the day's counters in the store.

Never on a request's way. While the store cannot be reached, what was left is divided by the
gateways that were last seen; it is asked for ever, and hears of all that was spent once it answers.
Until it has heard of that from all, each goes on by its part: who came first would draw what others
have spent already. So it is where the store was found emptied.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from router.contract import Clock, StateStore
from router.core.carbon_budgets import CarbonBudgets
from router.core.day_account import DayAccount, Sharing, day_of
from router.errors import StateStoreError
from router.peers.members import SeenMembers
from router.units import DAY_S

# Counters of a day, and that this process has added to any, are remembered for so long.
_KEPT_S: Final = 2.0 * DAY_S
_MARK_EVERY_S: Final = 600.0
# A counter is looked at so often while somebody asks for what it counts, of many all together so
# many times a second: what others drew since is not known when the store is lost.
_LOOK_S: Final = 1.0
_LOOKS_PER_S: Final = 200.0
_AT_ONCE: Final = 32
# All accounts are gone through so often at most, for so long at a time, and so many in a row: there
# may be thousands, and requests are served between.
_WHOLE_EVERY_S: Final = 0.4
_WHOLE_S: Final = 0.25
_IN_A_ROW: Final = 200
# A store ends each call by itself, in a fraction of that.
_ROUND_S: Final = 2.0
# By then all have asked a store that is back: each does twice a second, and one whose client is
# built anew after a longer loss takes a few seconds. Calls that fail singly are forgotten soon.
_TOLD_S: Final = 5.0
_TOLD_SOON_S: Final = 1.0
# What could not be settled by then never will be.
_CLOSING_DAYS: Final = 2


class _Addition(NamedTuple):
    account: DayAccount
    amount_ug: int


def counter_of(account: DayAccount) -> str:
    """The name of an account's counter."""
    return f"carbon_budget:{account.key}:{_date(account)}"


def spent_counter_of(account: DayAccount) -> str:
    """The name of the counter of what all have spent of it."""
    return f"carbon_budget_spent:{account.key}:{_date(account)}"


def _date(account: DayAccount) -> str:
    return datetime.fromtimestamp(account.day * DAY_S, UTC).date().isoformat()


class BudgetDraws:
    """Of one process. ``is_lost``: the store could not be reached at the last round, or yet."""

    def __init__(
        self,
        budgets: CarbonBudgets,
        store: StateStore,
        identity: str,
        clock: Clock,
        members: SeenMembers,
    ) -> None:
        """``identity``: unique to this process; ``members``: who share the store."""
        self._budgets = budgets
        self._store = store
        self._identity = identity
        self._clock = clock
        self._members = members
        self._marked_at = self._checked_at = self._whole_at = -math.inf
        # When the store has heard of everybody; since when it has not been reached.
        self._told_at = -math.inf
        self._lost_at: float | None = None
        self.is_lost = True
        budgets.is_alone = False
        budgets.sharing = Sharing(False, 1)

    @property
    def gateways(self) -> int:
        """How many processes share the store, as last known."""
        return self._members.count

    def assume(self, gateways: int) -> None:
        """So many were seen before this process started."""
        self._members.assume(gateways)
        self._budgets.sharing = Sharing(False, self.gateways)

    async def round(self) -> None:
        """Draw what is needed, give back what is not, count what was spent; never raises."""
        try:
            async with asyncio.timeout(_ROUND_S):
                await self._check()
                await self._draw_all()
        except (StateStoreError, TimeoutError):
            self.is_lost = True
            now = self._clock.monotonic()
            self._lost_at = now if self._lost_at is None else self._lost_at
            self._go_by_parts(min(_TOLD_S, _TOLD_SOON_S + now - self._lost_at))
        else:
            self.is_lost, self._lost_at = False, None
        draws = not self.is_lost and self._clock.monotonic() >= self._told_at
        if draws:
            self._budgets.share_again()
        self._budgets.sharing = Sharing(draws, self.gateways)

    def _go_by_parts(self, told_s: float = _TOLD_S) -> None:
        """Until the store can be reached, and ``told_s`` after."""
        self._budgets.go_by_parts()
        self._told_at = max(self._told_at, self._clock.monotonic() + told_s)

    async def leave(self) -> None:
        """The last round: count what was spent, give back the rest. Never raises."""
        accounts = [*self._budgets.accounts(), *self._budgets.closing]
        unsettled = [one for one in accounts if not one.is_over or one.told_ug != one.spent_ug]
        try:
            async with asyncio.timeout(_ROUND_S):
                await self._add_all([self._last(account) for account in unsettled])
        except (StateStoreError, TimeoutError):
            # What is left stands on the counter, as if it had been spent.
            pass

    async def _check(self) -> None:
        """Find out whether the store still knows what this process added to it: before each draw,
        for one that was emptied, and heard of some again, looks like one with more room."""
        now, ticks = self._clock.now(), self._clock.monotonic()
        await self._mark(now, ticks)
        self._checked_at = ticks

    async def _mark(self, now: float, ticks: float) -> None:
        mark = f"carbon_budget:{self._identity}"
        known = await self._store.get(mark, now)
        if known is not None and ticks - self._marked_at < _MARK_EVERY_S:
            return
        if known is None and self._marked_at > -math.inf:
            self._go_by_parts()
            for account in self._budgets.accounts():
                account.emptied(self._checked_at)
                self._budgets.attended[account.key] = account
            for account in self._budgets.closing:
                account.emptied(self._checked_at)
            self._whole_at = -math.inf
        await self._store.put(mark, b"", _KEPT_S, now)
        self._marked_at = ticks

    async def _draw_all(self) -> None:
        """Those for which a round was asked for at once; now and then all, the longest unseen
        first."""
        budgets, began = self._budgets, self._clock.monotonic()
        hurried, budgets.hurried = budgets.hurried, {}
        until = began + _WHOLE_S
        if not await self._draw(list(hurried.values()), until):
            # The rest of them is among all.
            self._whole_at = -math.inf
            budgets.wake()
            return
        if not self.is_lost and began - self._whole_at < _WHOLE_EVERY_S:
            return
        rest = [one for key, one in budgets.attended.items() if key not in hurried]
        rest.sort(key=lambda account: account.looked_at)
        if await self._draw(rest, until) and await self._close(until):
            self._whole_at = began
        else:
            budgets.wake()

    async def _draw(self, accounts: Sequence[DayAccount], until: float) -> bool:
        """What each of them has to draw or to tell; whether there was time for all of them."""
        budgets = self._budgets
        look_s = max(_LOOK_S, len(budgets.attended) / _LOOKS_PER_S)
        additions = []
        for number, account in enumerate(accounts, 1):
            ticks = self._clock.monotonic()
            amount_ug = account.plan(ticks, budgets.sharing)
            if amount_ug or ticks - account.looked_at >= look_s:
                additions.append(_Addition(account, amount_ug))
            elif account.is_quiet(ticks) and not account.is_named:
                budgets.attended.pop(account.key, None)
            if len(additions) == _AT_ONCE:
                await self._add_all(additions)
                additions = []
                if self._clock.monotonic() >= until:
                    return False
            elif number % _IN_A_ROW == 0:
                await asyncio.sleep(0)
        await self._add_all(additions)
        return True

    async def _close(self, until: float) -> bool:
        """Settle accounts of days that are over; whether there was time for all of them."""
        additions = []
        for account in list(self._budgets.closing):
            if account.is_over or day_of(self._clock.now()) - account.day > _CLOSING_DAYS:
                self._budgets.ended(account)
            elif not account.reserved_ug:
                additions.append(self._last(account))
            if len(additions) == _AT_ONCE:
                await self._add_all(additions)
                additions = []
                if self._clock.monotonic() >= until:
                    return False
        await self._add_all(additions)
        return True

    def _last(self, account: DayAccount) -> _Addition:
        amount_ug = account.plan(self._clock.monotonic(), self._budgets.sharing, last=True)
        return _Addition(account, amount_ug)

    async def _add_all(self, additions: Sequence[_Addition]) -> None:
        """A few at once; raises the first error when those have ended."""
        for first in range(0, len(additions), _AT_ONCE):
            some = additions[first : first + _AT_ONCE]
            ended = await asyncio.gather(*(self._add(*one) for one in some), return_exceptions=True)
            for error in ended:
                if error is not None:
                    raise error

    async def _add(self, account: DayAccount, amount_ug: int) -> None:
        """Raises StateStoreError."""
        counter = counter_of(account)
        restored = False
        # As long as the counter is what it was.
        part_ug = self._budgets.part_ug(account)
        while True:
            account.begin(amount_ug)
            try:
                total_ug = await self._store.add(counter, amount_ug, _KEPT_S, self._clock.now())
            except BaseException:
                account.unanswered(amount_ug)
                raise
            added_ug = amount_ug
            amount_ug = account.counted(amount_ug, total_ug, self._clock.monotonic())
            if account.was_forgotten and not restored:
                # Once: a counter that goes on to forget would be told for ever.
                restored = True
                account.keep_to(part_ug)
                self._go_by_parts()
                account.restored_at = self._clock.monotonic()
                account.forgotten(max(0, added_ug))
                amount_ug = max(account.drawn_ug, account.used_ug) - account.counted_ug
            if not amount_ug:
                break
        await self._tell(account)

    async def _tell(self, account: DayAccount) -> None:
        """Raises StateStoreError."""
        counter = spent_counter_of(account)
        # Once more where it was lost: one that goes on to forget would be told for ever.
        for _ in range(2):
            amount_ug = account.tell()
            total_ug = await self._store.add(counter, amount_ug, _KEPT_S, self._clock.now())
            if not account.told(amount_ug, total_ug):
                return
            account.retold_at = self._clock.monotonic()
