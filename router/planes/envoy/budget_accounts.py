"""Carbon budgets on Envoy's plane: granted here, claimed by Envoy's workers of what is granted.

Accounts are the product's own (`router.core.carbon_budgets`): what is spent, drawn and shared is
theirs to know. Of each a row says how many micrograms were ever granted (what its claims came to as
far as records of them were taken in, and what there is room for), so that workers let nobody in
beyond it, whatever they claim at once and however late records are read (source/budgets.c).
"""

from __future__ import annotations

import ctypes
import hashlib
from typing import Final, NamedTuple

from router.config.settings import BudgetScope
from router.core.budget_rulings import AccountName, Ruling
from router.core.carbon_budgets import CarbonBudgets
from router.core.day_account import DayAccount, Fit
from router.core.refusal import SHED_RETRY_S
from router.director import Dispatcher
from router.director.charge import Charge
from router.errors import (
    CarbonBudgetError,
    CarbonBudgetHeldError,
    CarbonBudgetRefusedError,
    IdentityUnavailableError,
)
from router.model import Request
from router.planes.envoy.known_file import ACCOUNTS, AccountCells
from router.planes.envoy.layout import RequestRecord
from router.planes.envoy.record_errors import REFUSALS

_FULL_RETRY_S: Final = 1.0
# More than any limit.
_ANY_UG: Final = 2**62
_EXHAUSTED: Final = REFUSALS.index(CarbonBudgetError)


class _Row(NamedTuple):
    budget: str
    name: AccountName


class BudgetAccounts:
    """Rows of accounts, by what these are called everywhere."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._cells: ctypes.Array[AccountCells] = (AccountCells * 0)()
        self._rows: dict[int, _Row] = {}
        self._by_key: dict[int, int] = {}
        self._taken_ug: dict[int, int] = {}
        self._begun_at = 0
        self._day = -1

    @property
    def budgets(self) -> CarbonBudgets:
        """Those in force."""
        return self._dispatcher.budgets

    def begin(self, cells: ctypes.Array[AccountCells], head: int) -> None:
        """From now on in ``cells``. What records before ``head`` claimed, which a process before
        this one may have let in, is not granted anew."""
        self._cells = cells
        self._by_key = {one.key: row for row, one in enumerate(cells) if one.key}
        self._taken_ug = {row: cells[row].claimed_ug for row in self._by_key.values()}
        self._begun_at = head

    def row_of(self, budget: str, name: AccountName) -> int:
        """Of the account of this name; -1 where the budget has none for it, and before `begin`.
        Raises IdentityUnavailableError where there are too many."""
        account = self._account(budget, name)
        if account is None or not len(self._cells):
            return -1
        key = int.from_bytes(hashlib.sha256(account.key.encode()).digest()[:8], "little") or 1
        row = self._by_key.get(key)
        if row is None:
            row = len(self._by_key)
            if row >= len(self._cells):
                raise IdentityUnavailableError(
                    f"{ACCOUNTS} accounts of carbon budgets are in use, which is as many as "
                    "Envoy's plane counts",
                    _FULL_RETRY_S,
                )
            self._by_key[key] = row
            self._taken_ug[row] = 0
            self._cells[row].key = key
        if row not in self._rows:
            self._rows[row] = _Row(budget, name)
            self._grant(row)
        return row

    def of_tenant(self, tenant: str) -> tuple[int, ...]:
        """Its rows by budget, -1 for none."""
        return tuple(
            self.row_of(budget.name, tenant) if budget.per is BudgetScope.TENANT else -1
            for budget in self.budgets.budgets
        )

    def renew(self) -> None:
        """Grant what there is room for now."""
        if self.budgets.day != self._day:
            self._turn()
        for row in self._rows:
            self._grant(row)

    def _turn(self) -> None:
        """Another day: tenants have accounts there once they come."""
        self._day = self.budgets.day
        per_tenant = {one.name for one in self.budgets.budgets if one.per is BudgetScope.TENANT}
        for row in [row for row, one in self._rows.items() if one.budget in per_tenant]:
            del self._rows[row]
            self._cells[row].granted_ug, self._cells[row].left_ug = 0, _ANY_UG

    def depart(self, record: RequestRecord, request: Request) -> Charge | None:
        """Reserve what a request was let in for; None where no budget has a say."""
        ruling = self._ruling(record, request)
        if ruling is None:
            return None
        charge = Charge(self._dispatcher, ruling)
        for entry in ruling.entries:
            row = self._known_row(entry.budget.name, entry.name)
            place = self._place(entry.budget.name)
            if row >= 0 and record.claimed >> place & 1 and record.stamp > self._begun_at:
                self._taken_ug[row] += record.ask_ug
            self._grant(row)
        return charge

    def settled(self, charge: Charge) -> None:
        """A request has ended: grant what it did not take."""
        for entry in charge.ruling.entries:
            self._grant(self._known_row(entry.budget.name, entry.name))

    def lost(self, head: int) -> None:
        """Of the first ``head`` records some were: what was claimed and is not read by now counts
        as spent."""
        self._begun_at = head
        for row, (budget, name) in self._rows.items():
            lost_ug = self._cells[row].claimed_ug - self._taken_ug[row]
            account = self._account(budget, name)
            if account is not None and lost_ug > 0:
                account.reserve(lost_ug)
                account.settle(lost_ug, lost_ug)
                self._taken_ug[row] += lost_ug
                self.budgets.changed(account)

    def missed(self, record: RequestRecord, request: Request) -> CarbonBudgetRefusedError:
        """Why a request was refused, of which the account is told, too."""
        name = record.details.decode(errors="replace")
        budget = next((one for one in self.budgets.budgets if one.name == name), None)
        names: dict[BudgetScope, str] = {
            BudgetScope.TENANT: request.tenant,
            BudgetScope.MODEL: request.model,
            BudgetScope.FLEET: "",
        }
        account = names[budget.per] if budget is not None else ""
        kind = CarbonBudgetError if record.reason == _EXHAUSTED else CarbonBudgetHeldError
        error = kind(
            "refused by Envoy's plane", SHED_RETRY_S, budget=name, account=account,
            ask_ug=record.ask_ug,
        )  # fmt: skip
        self.budgets.missed(error, self._dispatcher.parts.clock.monotonic())
        return error

    def _ruling(self, record: RequestRecord, request: Request) -> Ruling | None:
        budgets = self.budgets
        if not budgets.budgets:
            return None
        ruling = budgets.judge(request, record.ask_ug, self._dispatcher.parts.clock.now())
        if ruling is None:
            return None
        # As the worker found them, which let it in.
        entries = tuple(
            entry._replace(
                fit=Fit.EXHAUSTED
                if record.exhausted >> self._place(entry.budget.name) & 1
                else Fit.FITS
            )
            for entry in ruling.entries
        )
        return ruling._replace(entries=entries, refusal=None)

    def _place(self, budget: str) -> int:
        """Of a budget among those in force, as bits of records count them."""
        return next(i for i, one in enumerate(self.budgets.budgets) if one.name == budget)

    def _known_row(self, budget: str, name: AccountName) -> int:
        """As `row_of`; -1 where there are too many, too."""
        try:
            return self.row_of(budget, name)
        except IdentityUnavailableError:
            return -1

    def _grant(self, row: int) -> None:
        if row < 0:
            return
        budget, name = self._rows[row]
        cells, account = self._cells[row], self._account(budget, name)
        if account is None:
            # No budget any more: nothing of it is refused.
            cells.granted_ug = cells.left_ug = _ANY_UG
            cells.left = 1.0
            return
        cells.granted_ug = self._taken_ug[row] + self.budgets.room_ug(budget, account)
        cells.left_ug = account.left_ug + account.reserved_ug
        cells.left = max(0.0, account.left_ug / account.limit_ug)

    def _account(self, budget: str, name: AccountName) -> DayAccount | None:
        return self.budgets.account_of(budget, name, self._dispatcher.parts.clock.now())
