"""Carbon budgets: which accounts a request falls under, whether it fits, what it is charged.

Pure: the time is an argument, and nothing is awaited. Background work draws on what gateways share
and tells `sharing`; requests go by what is known.

A day is the UTC day in which a request is let in; what it emits is settled there, also when it ends
on the next. Figures of different signals never meet: the signal is part of an account's key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from router.config.settings import BudgetScope, CarbonBudget, CarbonBudgetSettings
from router.core.budget_holds import BudgetHold, BudgetObserver, UnobservedBudgets
from router.core.budget_rulings import (
    HELD,
    OTHERS,
    REFUSED,
    AccountName,
    DayEnd,
    Entry,
    Ruling,
    outcome_of,
    rule,
)
from router.core.day_account import ALONE, DayAccount, Fit, Sharing, day_of
from router.errors import (
    CarbonBudgetError,
    CarbonBudgetHeldError,
    CarbonBudgetRefusedError,
    RefusedError,
)
from router.model import Request, Signal
from router.units import DAY_S

# Names with accounts of their own, of each budget and day; whoever comes after them shares one.
MOST_NAMES: Final = 10_000
_OTHERS_TEXT: Final = "others"

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class SharedSpending(Protocol):
    """What workers beside this one have spent and reserved; on the hot path, so nothing waits."""

    def others_ug(self, key: str, day: int) -> int:
        """Of all of them together."""
        ...

    def own_ug(self, key: str, day: int) -> int:
        """What a worker in this one's place had spent and reserved before it ended."""
        ...

    def show(self, key: str, day: int, spent_ug: int, reserved_ug: int) -> None:
        """Let them know what this one has."""
        ...


class AccountView(NamedTuple):
    """One account as it is known here, over all gateways but for ``reserved_ug``, which is this
    process's. ``name``: OTHERS for all without an account of their own; ``is_named``: by the
    configuration."""

    budget: CarbonBudget
    name: AccountName
    is_named: bool
    limit_ug: int
    spent_ug: int
    reserved_ug: int
    left_ug: int


class Spent(NamedTuple):
    """What one account has spent, how much of it a shared counter knows, and what that came to, as
    last known."""

    spent_ug: int
    counted_ug: int
    total_ug: int = 0


class CarbonBudgets:
    """Those of one process. ``is_alone``: no other gateway spends; ``sharing``: else how limits are
    shared, as background work finds it; ``wake``: called when that has something to do at once;
    ``shared``: with workers beside this one, None where there are none.
    """

    def __init__(
        self,
        settings: CarbonBudgetSettings,
        signal: Signal,
        observer: BudgetObserver | None = None,
        day_speed: float = 1.0,
    ) -> None:
        """``signal``: of the grams that are counted; ``day_speed``: days that pass in one."""
        self.observer: BudgetObserver = observer or UnobservedBudgets()
        self.sharing = ALONE
        self.is_alone = True
        self._in_parts = False
        self.wake: Callable[[], None] = lambda: None
        self.shared: SharedSpending | None = None
        self.day = -1
        # Accounts that a round has to look at, by key; those of them for which it was woken; and
        # those of days that are over.
        self.attended: dict[str, DayAccount] = {}
        self.hurried: dict[str, DayAccount] = {}
        self.closing: list[DayAccount] = []
        self._day_speed = day_speed
        self._restored: dict[str, Spent] = {}
        self._others_once: Mapping[str, int] = _NOTHING
        # For which day and configuration the accounts that it names were opened.
        self._opened: object = None
        self._accounts: dict[str, dict[AccountName, DayAccount]] = {}
        self._adopt(settings, signal)

    @property
    def budgets(self) -> tuple[CarbonBudget, ...]:
        """Those in force."""
        return self._settings.budgets

    def adopt(self, settings: CarbonBudgetSettings, signal: Signal) -> None:
        """Go on with others; what is spent of those that stay is kept."""
        kept = {(budget.name, budget.per) for budget in settings.budgets}
        for budget in self.budgets:
            if signal != self._signal or (budget.name, budget.per) not in kept:
                self._set_aside(self._accounts.pop(budget.name, {}))
        self._adopt(settings, signal)

    def _adopt(self, settings: CarbonBudgetSettings, signal: Signal) -> None:
        self._settings, self._signal = settings, signal
        self._opened = None
        for budget in settings.budgets:
            accounts = self._accounts.setdefault(budget.name, {})
            for name, account in list(accounts.items()):
                limit_ug = self._limit_of(budget, name)
                if limit_ug is None:
                    self._set_aside({name: accounts.pop(name)})
                else:
                    account.limit_ug = limit_ug

    def judge(self, request: Request, ask_ug: int, now: float) -> Ruling | None:
        """Whether a request that may emit ``ask_ug`` is let in at ``now`` (unix s); reserves
        nothing. None where no budget has a say.
        """
        entries = []
        for budget, account, name in self._accounts_of(request, now):
            self._look_at_others(account)
            fit = account.fit(ask_ug, self._sharing(budget))
            entries.append(Entry(budget, account, fit, name))
        if not entries:
            return None
        ends_at = (self.day + 1) * DAY_S
        return rule(request, entries, ask_ug, DayEnd(ends_at, (ends_at - now) / self._day_speed))

    def account_of(self, name: str, whose: AccountName, now: float) -> DayAccount | None:
        """The account of one tenant or model ("" of the fleet) in the budget ``name`` on the day of
        ``now``, as others' spend is known; None where it has no limit there."""
        self.turn(now)
        budget = next((one for one in self.budgets if one.name == name), None)
        if budget is None:
            return None
        accounts = self._accounts[budget.name]
        account = accounts.get(OTHERS) if whose is OTHERS else self._account(budget, whose)
        if account is not None:
            self._look_at_others(account)
        return account

    def room_ug(self, name: str, account: DayAccount) -> int:
        """Micrograms that may be reserved now of an account of the budget ``name``."""
        budget = next(one for one in self.budgets if one.name == name)
        return account.room_ug(self._sharing(budget))

    def hold(self, ruling: Ruling, ticks: float) -> BudgetHold:
        """Let a request in: from now on it has reserved what it may emit. ``ticks``: monotonic,
        s."""
        for budget, account, fit, _ in ruling.entries:
            account.asked(ruling.ask_ug, ticks)
            account.reserve(ruling.ask_ug)
            self.changed(account)
            if fit is Fit.EXHAUSTED:
                self.observer.exceeded(budget.name, outcome_of(budget))
        return BudgetHold(ruling, self.changed, self.observer)

    def missed(self, error: RefusedError, ticks: float, final: bool = True) -> None:
        """A request was not let in, or waits (not ``final``): more is to be drawn, if there is.
        ``ticks``: monotonic, s."""
        if not isinstance(error, CarbonBudgetRefusedError):
            return
        if final:
            outcome = REFUSED if isinstance(error, CarbonBudgetError) else HELD
            self.observer.exceeded(error.budget, outcome)
        account = self._accounts.get(error.budget, {}).get(error.account)
        if account is not None:
            # What does not fit into all that is left is no reason to take it from others.
            fits_later = isinstance(error, CarbonBudgetHeldError)
            account.asked(error.ask_ug if fits_later else 0, ticks)
            self.attended[account.key] = account
            if self.sharing.draws:
                self.hurry(account)

    def hurry(self, account: DayAccount) -> None:
        """A round is to look at it at once."""
        if account.day == self.day:
            self.hurried[account.key] = account
        self.wake()

    def changed(self, account: DayAccount) -> None:
        """An account has other figures: others are to know, and more may have to be drawn."""
        if account.day == self.day:
            self.attended[account.key] = account
        if self.shared is not None:
            self.shared.show(account.key, account.day, account.spent_ug, account.reserved_ug)
        if self.sharing.draws and account.used_ug > account.drawn_ug:
            self.hurry(account)

    def turn(self, now: float) -> None:
        """Begin the UTC day of ``now``, if it is another one: accounts of the day before close as
        soon as nothing is under way there.

        A clock that was set back by less than a day stays in the later one.
        """
        day = day_of(now)
        if day == self.day or day == self.day - 1:
            return
        for accounts in self._accounts.values():
            self._close(accounts)
        self._restored = {}
        self._others_once = _NOTHING
        self.day = day

    def ended(self, account: DayAccount) -> None:
        """One of `closing` is settled for good."""
        self.closing.remove(account)

    def restore(
        self, day: int, spent: Mapping[str, Spent], others: Mapping[str, int] = _NOTHING
    ) -> None:
        """Go on with what was spent on ``day``, by account key, before this process started.
        ``others``: what the workers beside it had spent by then."""
        if day != self.day:
            return
        # Until they are there to say so themselves.
        self._others_once = others
        for key, one in spent.items():
            if self.is_alone:
                self._restored[key] = Spent(one.spent_ug, 0)
                if self.shared is not None:
                    self.shared.show(key, day, one.spent_ug, 0)
            else:
                # The counter knows the rest.
                debt_ug = max(0, one.spent_ug - one.counted_ug)
                self._restored[key] = Spent(debt_ug, 0, one.total_ug)

    def spending(self) -> Iterator[tuple[str, Spent]]:
        """What every account of the day has spent and reserved, by key."""
        yield from self._restored.items()
        for account in self.accounts():
            yield account.key, Spent(account.used_ug, account.counted_ug, account.total_ug)

    def part_ug(self, account: DayAccount) -> int:
        """What this process may use of an account, as last known, where its counter cannot be
        asked: among as many gateways as its budget has at the least."""
        name = account.key.partition(":")[0]
        least = max((one.gateways for one in self.budgets if one.name == name), default=1)
        return account.part_ug(max(least, self.sharing.gateways))

    def go_by_parts(self) -> None:
        """From here on each account is kept to this process's part of what is left as last known,
        those that are opened meanwhile, too."""
        if self._in_parts:
            return
        self._in_parts = True
        for account in self.accounts():
            account.keep_to(self.part_ug(account))

    def share_again(self) -> None:
        """`go_by_parts` is over."""
        if self._in_parts:
            self._in_parts = False
            for account in self.accounts():
                account.share_again()

    def accounts(self) -> Iterator[DayAccount]:
        """All of the day."""
        for accounts in self._accounts.values():
            yield from accounts.values()

    def views(self) -> Iterator[AccountView]:
        """Every account of the day."""
        for budget in self.budgets:
            for name, one in self._accounts.get(budget.name, {}).items():
                self._look_at_others(one)
                left_ug = one.left_ug
                spent_ug = one.limit_ug - left_ug - one.reserved_ug
                yield AccountView(
                    budget, name, one.is_named, one.limit_ug, spent_ug, one.reserved_ug, left_ug
                )

    def open_named(self, now: float, models: Collection[str]) -> None:
        """Open the accounts of all that the configuration names: their figures are shown and looked
        up before anybody asks."""
        self.turn(now)
        opened = (self.day, models)
        if opened == self._opened:
            # Nothing of it closes before the day turns, and there may be thousands.
            return
        self._opened = opened
        for budget in self.budgets:
            names: Iterable[str] = {
                BudgetScope.FLEET: ("",),
                BudgetScope.MODEL: models,
                BudgetScope.TENANT: budget.limits_ug.keys() | self._settings.tenants,
            }[budget.per]
            for name in names:
                account = self._account(budget, name)
                if account is not None:
                    account.is_named = True
                    self.attended[account.key] = account

    def _look_at_others(self, account: DayAccount) -> None:
        if self.shared is not None:
            others_ug = self.shared.others_ug(account.key, account.day)
            account.others_ug = max(others_ug, self._others_once.get(account.key, 0))

    def _sharing(self, budget: CarbonBudget) -> Sharing:
        sharing = self.sharing
        if self.is_alone or budget.gateways <= sharing.gateways:
            return sharing
        return sharing._replace(gateways=budget.gateways)

    def _accounts_of(
        self, request: Request, now: float
    ) -> Iterator[tuple[CarbonBudget, DayAccount, AccountName]]:
        self.turn(now)
        for budget in self.budgets:
            name: AccountName = ""
            if budget.per is BudgetScope.TENANT:
                name = request.tenant
            elif budget.per is BudgetScope.MODEL:
                name = request.model
            account = self._account(budget, name)
            if account is not None:
                own = self._accounts[budget.name].get(name) is account
                yield budget, account, name if own else OTHERS

    def _account(self, budget: CarbonBudget, name: AccountName) -> DayAccount | None:
        accounts = self._accounts[budget.name]
        account = accounts.get(name)
        if account is not None:
            return account
        if self._is_stranger(budget, name) and len(accounts) >= MOST_NAMES:
            name = OTHERS
            account = accounts.get(name)
            if account is not None:
                return account
        limit_ug = self._limit_of(budget, name)
        if limit_ug is None:
            return None
        return self._open(budget, name, limit_ug)

    def _open(self, budget: CarbonBudget, name: AccountName, limit_ug: int) -> DayAccount:
        key = self._key(budget, name)
        spent_ug, _, total_ug = self._restored.pop(key, Spent(0, 0))
        if self.shared is not None:
            spent_ug = max(spent_ug, self.shared.own_ug(key, self.day))
        account = DayAccount(key, self.day, limit_ug, spent_ug)
        account.total_ug = total_ug
        if self._in_parts:
            account.keep_to(self.part_ug(account))
        self._accounts[budget.name][name] = account
        if spent_ug:
            self.changed(account)
        return account

    def _is_stranger(self, budget: CarbonBudget, name: AccountName) -> bool:
        """Whether callers can make up such names."""
        if budget.per is not BudgetScope.TENANT:
            return False
        return name not in budget.limits_ug and name not in self._settings.tenants

    @staticmethod
    def _limit_of(budget: CarbonBudget, name: AccountName) -> int | None:
        return budget.limit_ug if name is OTHERS else budget.limit_of(name)

    def _key(self, budget: CarbonBudget, name: AccountName) -> str:
        signal = f"{self._signal.basis}-{self._signal.factors}"
        per = budget.per if name is not OTHERS else f"{budget.per}-{_OTHERS_TEXT}"
        return f"{budget.name}:{per}:{signal}:{name or ''}"

    def _set_aside(self, accounts: dict[AccountName, DayAccount]) -> None:
        """Close accounts that may be opened again on the same day."""
        if self.is_alone:
            # No counter will remember it.
            self._restored |= {one.key: Spent(one.used_ug, 0) for one in accounts.values()}
        self._close(accounts)

    def _close(self, accounts: dict[AccountName, DayAccount]) -> None:
        self.closing += [account for account in accounts.values() if not account.is_over]
        for account in accounts.values():
            self.attended.pop(account.key, None)
            self.hurried.pop(account.key, None)
        accounts.clear()
