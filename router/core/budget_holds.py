"""What a request that was let in holds of carbon budgets, and who is told what it took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from router.core.budget_rulings import Ruling
from router.core.day_account import DayAccount
from router.model import BudgetStanding
from router.units import UG_PER_G


class BudgetObserver(Protocol):
    """Who is told of what budgets do. Must not block: called on the hot path."""

    def exceeded(self, budget: str, outcome: str) -> None:
        """A budget had nothing left for a request; ``outcome``: of OUTCOMES."""
        ...

    def settled(self, budget: str, kind: str, spent_g: float) -> None:
        """A request was charged; ``kind``: of its joules."""
        ...


class UnobservedBudgets:
    """A `BudgetObserver` that tells nobody."""

    def exceeded(self, budget: str, outcome: str) -> None:
        """Nobody is told."""

    def settled(self, budget: str, kind: str, spent_g: float) -> None:
        """Nobody is told."""


class BudgetHold:
    """What one request reserves, from when it is let in until `settle`: exactly once."""

    __slots__ = ("_ask_ug", "_changed", "_entries", "_observer", "_settled")

    def __init__(
        self, ruling: Ruling, changed: Callable[[DayAccount], None], observer: BudgetObserver
    ) -> None:
        """``changed``: told of each account whose figures change."""
        self._changed = changed
        self._observer = observer
        self._entries = ruling.entries
        self._ask_ug = ruling.ask_ug
        self._settled = False

    def raise_to(self, ask_ug: int) -> None:
        """It goes on elsewhere, and may emit as much in all."""
        more_ug = ask_ug - self._ask_ug
        if more_ug > 0 and not self._settled:
            self._ask_ug = ask_ug
            for entry in self._entries:
                entry.account.reserve(more_ug)
                self._changed(entry.account)

    def settle(self, spent_g: float, kind: str) -> None:
        """It has ended, and emitted so much; ``kind``: of its joules. Once only."""
        if self._settled:
            return
        self._settled = True
        for budget, account, *_ in self._entries:
            account.settle(self._ask_ug, spent_g * UG_PER_G)
            self._changed(account)
            self._observer.settled(budget.name, kind, spent_g)

    def standing(self) -> BudgetStanding | None:
        """Of the budget of which least is left."""
        found: BudgetStanding | None = None
        for budget, account, *_ in self._entries:
            left = max(0.0, account.left_ug / account.limit_ug)
            if found is None or left < found.left:
                found = BudgetStanding(budget.name, left)
        return found
