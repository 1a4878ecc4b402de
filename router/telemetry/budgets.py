"""Carbon budgets in the metrics. Names of accounts are labels where the configuration has them; of
all others there is but what they have reserved together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from router.core.budget_rulings import OUTCOMES
from router.core.carbon_budgets import AccountView
from router.telemetry.gauges import SeriesGauge
from router.telemetry.labels import OTHER, LabelGuard
from router.units import UG_PER_G

_LABELS: Final = ("budget", "name")


class BudgetMetrics:
    """`core.carbon_budgets.BudgetObserver`, and its gauges, on one registry. ``source``: every
    account, and by budget among how many processes it is divided, 0 while it need not be."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.source: Callable[[], tuple[Iterable[AccountView], Mapping[str, int]]] = _nothing
        self._budgets = LabelGuard()
        self._outcomes = LabelGuard(OUTCOMES)
        self._limit = SeriesGauge(
            registry,
            "carbon_router_carbon_budget_limit_grams",
            "Grams that may be emitted on this UTC day, over all gateways.",
            "livemax",
            _LABELS,
        )
        self._spent = SeriesGauge(
            registry,
            "carbon_router_carbon_budget_spent_grams",
            "Grams of this UTC day that are spent, or drawn by other gateways, as known here.",
            "livemax",
            _LABELS,
        )
        self._reserved = SeriesGauge(
            registry,
            "carbon_router_carbon_budget_reserved_grams",
            "Grams that requests under way here may emit at most.",
            "livesum",
            _LABELS,
        )
        self._left = SeriesGauge(
            registry,
            "carbon_router_carbon_budget_remaining_grams",
            "Grams that are left of this UTC day, as known here; below 0 when overspent.",
            "livemin",
            _LABELS,
        )
        self._exceeded = Counter(
            "carbon_router_carbon_budget_exceeded_total",
            "Requests for which a budget had nothing left, by what became of them: refused, held "
            "(refused, for want of what others have reserved), greenest, variant, warned, deferred "
            "(served once it could wait no longer), or shadow.",
            ("budget", "outcome"),
            registry=registry,
        )
        self._settled = Counter(
            "carbon_router_carbon_budget_settled_grams_total",
            "Grams that requests were charged, failed and cancelled ones included, by how their "
            "joules are known.",
            ("budget", "energy_kind"),
            registry=registry,
        )
        self._divided = SeriesGauge(
            registry,
            "carbon_router_carbon_budget_divided_by",
            "Processes by which what was left of a limit is divided, because the store cannot be "
            "reached; 0 while it can, or where there is none.",
            "livemax",
            ("budget",),
        )
        self._add: dict[tuple[str, str], Callable[[float], None]] = {}

    def know(self, budgets: Iterable[str]) -> None:
        """Let the names of these budgets become labels."""
        self._budgets.learn(budgets)

    def exceeded(self, budget: str, outcome: str) -> None:
        """See `router.core.carbon_budgets.BudgetObserver`."""
        self._exceeded.labels(self._budgets(budget), self._outcomes(outcome)).inc()

    def settled(self, budget: str, kind: str, spent_g: float) -> None:
        """See `router.core.carbon_budgets.BudgetObserver`."""
        add = self._add.get((budget, kind))
        if add is None:
            add = self._settled.labels(self._budgets(budget), kind).inc
            self._add[budget, kind] = add
        add(spent_g)

    def show(self) -> None:
        """Set every gauge."""
        views, divided_by = self.source()
        self._divided.show({(name,): float(count) for name, count in divided_by.items()})
        limit: dict[tuple[str, ...], float] = {}
        spent: dict[tuple[str, ...], float] = {}
        reserved: dict[tuple[str, ...], float] = {}
        left: dict[tuple[str, ...], float] = {}
        for view in views:
            name = view.name if view.is_named else OTHER
            key = (view.budget.name, name or "")
            reserved[key] = reserved.get(key, 0.0) + view.reserved_ug / UG_PER_G
            if view.is_named:
                limit[key] = view.limit_ug / UG_PER_G
                spent[key] = view.spent_ug / UG_PER_G
                left[key] = view.left_ug / UG_PER_G
        for gauge, series in (
            (self._limit, limit),
            (self._spent, spent),
            (self._reserved, reserved),
            (self._left, left),
        ):
            gauge.show(series)


def _nothing() -> tuple[Iterable[AccountView], Mapping[str, int]]:
    return (), {}
