"""``carbon_budget``: one or several, each with a limit, a name of its own and grams of one kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.config.settings import BudgetScope, CarbonBudget, OnExhausted
from tests.config.samples import loaded, problems


def budgets(folder: Path, given: Any, **changes: Any) -> tuple[CarbonBudget, ...]:
    return loaded(folder, {"carbon_budget": given, **changes}).settings.carbon_budgets.budgets


def test_left_out_there_are_none(tmp_path: Path) -> None:
    assert loaded(tmp_path).settings.carbon_budgets.budgets == ()


def test_one_stands_for_a_list_of_one_and_says_what_the_issue_asks_for(tmp_path: Path) -> None:
    given = {"per": "tenant", "g_per_day": 1.5, "overrides": {"acme": 0.000001}}
    expected = CarbonBudget(
        "tenant", BudgetScope.TENANT, 1_500_000, {"acme": 1}, OnExhausted.SHED, False, 1
    )
    assert budgets(tmp_path, given) == budgets(tmp_path, [given]) == (expected,)
    assert expected.limit_of("acme") == 1
    assert expected.limit_of("other") == 1_500_000


def test_several_hold_side_by_side(tmp_path: Path) -> None:
    given = [
        {"per": "model", "overrides": {"llama-3.1-8b": 5}, "on_exhausted": "warn"},
        {"per": "fleet", "g_per_day": 100, "on_exhausted": "greenest_only", "shadow": True},
        {"per": "fleet", "g_per_day": 200, "name": "hard", "gateways": 3},
    ]
    found = budgets(tmp_path, given)
    assert [budget.name for budget in found] == ["model", "fleet", "hard"]
    assert found[0].limit_of("classifier") is None
    assert (found[1].on_exhausted, found[1].shadow) == (OnExhausted.GREENEST_ONLY, True)
    assert found[2].gateways == 3


def test_tenants_that_the_file_names_are_known(tmp_path: Path) -> None:
    changes = {
        "tenants": {"acme": {"residency": ["us"]}},
        "carbon_budget": {"per": "tenant", "g_per_day": 1},
    }
    settings = loaded(tmp_path, changes).settings.carbon_budgets
    assert settings.tenants == {"acme"}


@pytest.mark.parametrize(
    ("given", "key", "text"),
    [
        ({"per": "tenant"}, "carbon_budget", "gives no limit"),
        (
            {"per": "fleet", "g_per_day": 1, "overrides": {"a": 1}}, "carbon_budget",
            "of the fleet there is one",
        ),
        ({"per": "fleet", "g_per_day": 0}, "carbon_budget.g_per_day", "greater than 0"),
        ({"per": "fleet", "g_per_day": 1, "shaddow": True}, "carbon_budget.shaddow", "'shadow'?"),
        ({"per": "user", "g_per_day": 1}, "carbon_budget.per", "one of tenant, model, fleet"),
        (
            [{"per": "fleet", "g_per_day": 1, "on_exhausted": "later"}],
            "carbon_budget[0].on_exhausted", "one of shed, greenest_only, variant, warn, defer",
        ),
        (
            {"per": "fleet", "g_per_day": 1, "name": "a:b"}, "carbon_budget.name", "has a colon",
        ),
        (
            [{"per": "fleet", "g_per_day": 1}, {"per": "fleet", "g_per_day": 2}],
            "carbon_budget[1].name", "the name of carbon_budget[0] too",
        ),
        (
            [{"per": "model", "overrides": {"llama": 1}}],
            "carbon_budget[0].overrides.llama", "unknown model 'llama'",
        ),
        (
            [{"per": "fleet", "g_per_day": 1, "signal": {"basis": "marginal", "factors": "none"}}],
            "carbon_budget[0].signal", "grams of different bases are not added up",
        ),
        (7, "carbon_budget", "expected a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_stands(
    tmp_path: Path, given: Any, key: str, text: str
) -> None:
    found = problems(tmp_path, {"carbon_budget": given})
    assert text in found[key]


def test_who_looks_for_it_in_the_policy_learns_where_it_is(tmp_path: Path) -> None:
    budget = {"per": "fleet", "g_per_day": 1}
    policy = {"weights": {"per_gco2e": 1.0}, "carbon_budget": budget}
    found = problems(tmp_path, {"policy": policy})
    assert "beside `policy`" in found["policy.carbon_budget"]
