"""Budgets in the metrics: names of the configuration are labels, what callers invent is not."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from router.config.settings import BudgetScope, CarbonBudget, OnExhausted
from router.core.budget_rulings import OTHERS
from router.core.carbon_budgets import AccountView
from router.telemetry.budgets import BudgetMetrics

BUDGET = CarbonBudget("tenant", BudgetScope.TENANT, 5, {}, OnExhausted.SHED, False)


def view(name: str | None, named: bool, limit: int = 5_000_000, left: int = 3) -> AccountView:
    return AccountView(BUDGET, name, named, limit, limit - left - 1, 1_000_000, left)


class Page:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = BudgetMetrics(self.registry)

    def value(self, name: str, /, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"carbon_router_carbon_budget_{name}", labels)

    def lines(self) -> list[str]:
        text = generate_latest(self.registry).decode()
        return [line for line in text.splitlines() if not line.startswith("#")]


def test_without_budgets_there_are_no_series() -> None:
    page = Page()
    page.metrics.show()
    assert page.lines() == []


def test_accounts_are_shown_in_grams_and_strangers_as_one() -> None:
    page = Page()
    page.metrics.know(["tenant"])
    accounts = [view("acme", True, left=2_000_000), view("x", False), view(OTHERS, False)]
    page.metrics.source = lambda: (accounts, {"tenant": 4})
    page.metrics.show()
    acme = {"budget": "tenant", "name": "acme"}
    assert page.value("limit_grams", **acme) == 5.0
    assert page.value("spent_grams", **acme) == 2.999999
    assert page.value("remaining_grams", **acme) == 2.0
    assert page.value("reserved_grams", **acme) == 1.0
    assert page.value("reserved_grams", budget="tenant", name="other") == 2.0
    assert page.value("limit_grams", budget="tenant", name="other") is None
    assert page.value("divided_by", budget="tenant") == 4.0
    assert not any("x" in line.partition("name=")[2] for line in page.lines())
    page.metrics.source = lambda: ([], {})
    page.metrics.show()
    assert page.lines() == []


def test_what_became_of_requests_and_what_they_were_charged_is_counted() -> None:
    page = Page()
    page.metrics.know(["tenant"])
    page.metrics.exceeded("tenant", "refused")
    page.metrics.exceeded("tenant", "shadow")
    page.metrics.exceeded("invented", "invented")
    page.metrics.settled("tenant", "emulated", 0.25)
    page.metrics.settled("tenant", "emulated", 0.5)
    assert page.value("exceeded_total", budget="tenant", outcome="refused") == 1.0
    assert page.value("exceeded_total", budget="tenant", outcome="shadow") == 1.0
    assert page.value("exceeded_total", budget="other", outcome="other") == 1.0
    assert page.value("settled_grams_total", budget="tenant", energy_kind="emulated") == 0.75
