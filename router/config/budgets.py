"""``carbon_budget`` of the file: grams that tenants, models or the fleet may emit on one day.

It stands beside the policy and not in it: a policy says how to choose and may be exchanged or
compared; how much somebody may emit is agreed with people, and what is spent of it stays spent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from router.config.fields import Name, Strict
from router.config.policy import SignalSchema
from router.config.problems import Problem, key_path, unknown
from router.config.settings import BudgetScope, CarbonBudget, CarbonBudgetSettings, OnExhausted
from router.config.sources import CarbonSchema
from router.units import micrograms

GramsPerDay = Annotated[float, Field(gt=0, le=1e11)]


def _plain(text: str) -> str:
    if ":" in text:
        raise ValueError(f"{text!r} has a colon; leave it out")
    return text


# Part of keys, in which a colon comes after it.
BudgetName = Annotated[Name, AfterValidator(_plain)]


class CarbonBudgetSchema(Strict):
    """Grams CO2e that may be emitted on one UTC day, over all gateways that share a store."""

    name: BudgetName | None = Field(
        default=None, description="on receipts and metrics; left out: what `per` says"
    )
    per: Literal["tenant", "model", "fleet"] = Field(
        description="whose requests add up: each tenant's (x-tenant), each model's, or all"
    )
    g_per_day: GramsPerDay | None = Field(
        default=None, description="g of each; left out: `overrides` name all that have a limit"
    )
    overrides: dict[Name, GramsPerDay] = Field(
        default_factory=dict, description="g of single tenants or models, instead of `g_per_day`"
    )
    on_exhausted: Literal["shed", "greenest_only", "variant", "warn", "defer"] = Field(
        default="shed",
        description="shed: refuse; greenest_only: serve where least is emitted; variant: the same, "
        "and an alias by whichever variant its caller takes; warn: serve and flag; defer: what can "
        "wait does, for a greener hour of the next day, or of this where it has to begin before, "
        "and what cannot is refused",
    )
    shadow: bool = Field(
        default=False, description="tell what would be done, in metrics and flags, and do nothing"
    )
    signal: SignalSchema | None = Field(
        default=None, description="the grams that are meant; left out: those of `carbon`"
    )
    gateways: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="the least number of them by which a limit is divided while `state.redis` "
        "cannot be reached",
    )

    @model_validator(mode="after")
    def _limits(self) -> CarbonBudgetSchema:
        if self.g_per_day is None and not self.overrides:
            raise ValueError("gives no limit; set g_per_day, overrides, or both")
        if self.per == "fleet" and self.overrides:
            raise ValueError("of the fleet there is one: give g_per_day, and no overrides")
        return self

    def build(self) -> CarbonBudget:
        """The budget as a value."""
        return CarbonBudget(
            name=self.name or self.per,
            per=BudgetScope(self.per),
            limit_ug=None if self.g_per_day is None else micrograms(self.g_per_day),
            limits_ug={name: micrograms(mass_g) for name, mass_g in self.overrides.items()},
            on_exhausted=OnExhausted(self.on_exhausted),
            shadow=self.shadow,
            gateways=self.gateways,
        )


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


OneOrSeveral = Annotated[list[CarbonBudgetSchema], BeforeValidator(_listed)]


def budget_settings(
    given: Sequence[CarbonBudgetSchema], tenants: Collection[str]
) -> CarbonBudgetSettings:
    """Every budget as a value; ``tenants``: those that the file names elsewhere."""
    return CarbonBudgetSettings(tuple(one.build() for one in given), frozenset(tenants))


def check_budgets(
    given: Sequence[CarbonBudgetSchema], models: Collection[str], carbon: CarbonSchema
) -> list[Problem]:
    """Budgets of different names, of models that are served and of grams that are counted."""
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for place, schema in enumerate(given):
        at = f"carbon_budget[{place}]"
        name = schema.name or schema.per
        first = seen.setdefault(name, place)
        if first != place:
            text = f"{name!r} is the name of carbon_budget[{first}] too; give each one of its own"
            problems.append((f"{at}.name", text))
        if schema.per == "model":
            problems += [
                (f"{at}.{key_path(['overrides', model])}", unknown("model", model, models))
                for model in schema.overrides
                if model not in models
            ]
        wanted = schema.signal
        if wanted and (wanted.basis, wanted.factors) != (carbon.basis, carbon.factors):
            text = (
                f"counts {wanted.basis}/{wanted.factors} grams, but carbon provides "
                f"{carbon.basis}/{carbon.factors}: grams of different bases are not added up"
            )
            problems.append((f"{at}.signal", text))
    return problems
