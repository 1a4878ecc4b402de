"""Carbon budgets of a gateway process: how they are shared, kept and told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from router.app.budget_draws import BudgetDraws
from router.app.budget_keeping import SpentKeeper
from router.config.settings import Config
from router.contract import Clock, StateStore
from router.core.carbon_budgets import CarbonBudgets
from router.director import Dispatcher
from router.peers.members import SeenMembers
from router.peers.rows import PARENT
from router.peers.spending import WorkerSpending
from router.telemetry.admin import Reason
from router.telemetry.budgets import BudgetMetrics

_EVERY_S: Final = 0.5
# Between two rounds, however many requests ask for one.
_AT_LEAST_S: Final = 0.005


class BudgetRounds:
    """Built once a process; `join` before anything is served, `run` in the background."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        metrics: BudgetMetrics,
        store: StateStore | None = None,
        identity: str = "",
        members: SeenMembers | None = None,
        spending: WorkerSpending | None = None,
        row: int = PARENT,
        workers: int = 1,
    ) -> None:
        """``identity``, ``members``: see `BudgetDraws`; no others by default. ``spending``: what
        workers beside this one have spent, None for a process alone; ``row``: of this one among
        ``workers``."""
        settings = config.settings
        self._clock = clock
        self._metrics = metrics
        self._workers = workers
        self._wanted = asyncio.Event()
        self.budgets = budgets = CarbonBudgets(
            settings.carbon_budgets,
            settings.carbon.signal,
            metrics,
            settings.clock.speed if settings.clock else 1.0,
        )
        budgets.wake = self._wanted.set
        self._draws: BudgetDraws | None = None
        if store is not None:
            self._draws = BudgetDraws(budgets, store, identity, clock, members or SeenMembers())
        else:
            # With a store each worker draws by itself.
            budgets.shared = spending
        metrics.source = lambda: (budgets.views(), self._divided_by())
        self._keeper = SpentKeeper(settings.state.file, budgets, row)
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Go on with the budgets of a configuration that was read again."""
        settings = config.settings
        self._metrics.know(budget.name for budget in settings.carbon_budgets.budgets)
        self.budgets.adopt(settings.carbon_budgets, settings.carbon.signal)
        self._models = frozenset(config.fleet.priors)

    async def join(self, dispatcher: Dispatcher) -> None:
        """Hold budgets from here on, and go on from what was spent before."""
        self.budgets.turn(self._clock.now())
        gateways = self._keeper.restore(self._workers)
        if self._draws is not None and gateways:
            self._draws.assume(gateways)
        self._open()
        if self._draws is not None and self.budgets.budgets:
            await self._draws.round()
        dispatcher.budgets = self.budgets

    async def run(self) -> None:
        """One round: wait until it is time, or something is wanted at once; then do it."""
        await asyncio.sleep(_AT_LEAST_S)
        try:
            async with asyncio.timeout(_EVERY_S):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()
        self._open()
        if self._draws is None:
            self._close_days()
        elif self.budgets.budgets or self.budgets.closing:
            await self._draws.round()
        spent = self._keeper.due(self._clock.monotonic(), self._gateways)
        if spent is not None:
            await asyncio.to_thread(self._keeper.write, spent)

    async def close(self) -> None:
        """Nothing is under way any more: settle with the others, and keep what was spent."""
        if self._draws is not None and (self.budgets.budgets or self.budgets.closing):
            await self._draws.leave()
        self._keeper.close(self._clock.monotonic(), self._gateways)

    def notes(self) -> Sequence[Reason]:
        """What readiness says of budgets; none of it keeps a gateway from serving."""
        if not self._is_lost:
            return ()
        shares = ", ".join(f"{name}: 1/{count}" for name, count in self._divided_by().items())
        detail = (
            "the store cannot be reached: of what was left of the day's grams this process spends "
            f"a share by the processes that were last seen ({shares})"
        )
        return (Reason("carbon_budget_divided", detail, False),)

    @property
    def _is_lost(self) -> bool:
        """Whether limits are divided, because the store cannot be reached."""
        return self._draws is not None and self._draws.is_lost and bool(self.budgets.budgets)

    def _divided_by(self) -> dict[str, int]:
        """By budget; 0 while limits need not be divided."""
        return {
            budget.name: max(self._gateways, budget.gateways) if self._is_lost else 0
            for budget in self.budgets.budgets
        }

    @property
    def _gateways(self) -> int:
        return self._draws.gateways if self._draws is not None else 1

    def _open(self) -> None:
        self.budgets.open_named(self._clock.now(), self._models)

    def _close_days(self) -> None:
        for account in list(self.budgets.closing):
            if not account.reserved_ug:
                self.budgets.ended(account)
