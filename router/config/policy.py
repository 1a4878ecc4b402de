"""The schema of a policy file; it maps one to one onto ``router.model.Policy``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from router.config.fields import Fraction, Jurisdiction, Milliseconds, Name, Strict
from router.config.free_parameters import FreeSchema, check_free
from router.model import (
    UNLIMITED,
    Basis,
    Budget,
    Energy,
    Factors,
    Policy,
    Relax,
    Signal,
    Spread,
    StaleCarbon,
    Weights,
)

Weight = Annotated[float, Field(ge=0, le=1e9)]
RelaxName = Literal["carbon", "policy_latency"]


class WeightsSchema(Strict):
    """Cost per unit of each term; the cost itself has no unit, only ratios matter."""

    per_gco2e: Weight = Field(default=0.0, description="per gram CO2e of the request")
    per_ttft_ms: Weight = Field(default=0.0, description="per ms of predicted time to first token")
    per_e2e_ms: Weight = Field(default=0.0, description="per ms of predicted end-to-end latency")
    per_load: Weight = Field(default=0.0, description="per unit of in flight / max_in_flight")
    per_turn: Weight = Field(
        default=0.0, description="per request that the endpoint was given so far"
    )

    @model_validator(mode="after")
    def _some(self) -> WeightsSchema:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0, so all endpoints cost the same; set one at least")
        return self


class SignalSchema(Strict):
    """The carbon signal that this policy was written for."""

    basis: Literal["average", "marginal"] = Field(description="as in carbon.basis")
    factors: Literal["lifecycle", "direct", "none"] = Field(description="as in carbon.factors")

    def build(self) -> Signal:
        """The signal as a value."""
        return Signal(Basis(self.basis), Factors(self.factors))


class BudgetSchema(Strict):
    """Latency limits that apply where the caller sets none; left out: unbounded."""

    ttft_ms: Milliseconds | None = Field(default=None, description="time to first token, ms")
    tpot_ms: Milliseconds | None = Field(default=None, description="time per output token, ms")
    e2e_ms: Milliseconds | None = Field(default=None, description="end to end, ms")

    def build(self) -> Budget:
        """The budget with inf where unbounded."""
        return Budget(_or_inf(self.ttft_ms), _or_inf(self.tpot_ms), _or_inf(self.e2e_ms))


def _default_ladder() -> list[RelaxName]:
    return ["carbon", "policy_latency"]


class PolicySchema(Strict):
    """One policy. Defaults are those of the shipped carbon-first."""

    name: Name | None = Field(default=None, description="on receipts; left out: the file's name")
    description: str = Field(default="", max_length=2000, description="for people")
    weights: WeightsSchema = Field(description="cost = sum of weight * term")
    energy: Literal["long_run", "short_run"] = Field(
        default="long_run", description="which joules decide"
    )
    annual_mean: bool = Field(
        default=False, description="price carbon at annual means, not at the hour"
    )
    signal: SignalSchema | None = Field(default=None, description="left out: that of `carbon`")
    wake_share: Fraction = Field(
        default=0.03, description="of the watts of waking an idle replica, as a premium"
    )
    scarcity: Fraction = Field(
        default=0.9,
        description="of what a full region's room is worth to others, as its last places' premium",
    )
    near_tie: Fraction = Field(
        default=0.002, description="costs within this fraction of the least tie"
    )
    spread: Literal["pack", "spread"] = Field(
        default="pack", description="inside a region: which replica"
    )
    pack_until: float = Field(
        default=1.0, gt=0, le=1, description="of max_in_flight, then the emptiest"
    )
    pack_within: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="over its region's least cost that one packed may be",
    )
    quantile: float = Field(
        default=0.95, gt=0.5, lt=1, description="at which budgets must hold, and answers are long"
    )
    tpot_quantile: float = Field(
        default=0.75, gt=0.5, lt=1, description="the same for the time per output token"
    )
    budget: BudgetSchema = Field(default_factory=BudgetSchema, description="latency limits")
    max_gco2e: float | None = Field(
        default=None, gt=0, le=1e9, description="grams one request may emit; left out: no limit"
    )
    max_g_per_kwh: float | None = Field(
        default=None, gt=0, le=5_000, description="dirtiest grid to be used; left out: no limit"
    )
    residency: list[Jurisdiction] | None = Field(
        default=None,
        min_length=1,
        description="jurisdictions to keep to, whatever the caller says; left out: any",
    )
    ladder: list[RelaxName] = Field(
        default_factory=_default_ladder,
        description="constraints dropped in this order when nothing is feasible",
    )
    stale_carbon: Literal["use_flagged", "exclude"] = Field(
        default="use_flagged", description="what to do with a grid zone known by old data only"
    )
    stale_after_s: float = Field(
        default=7200.0, gt=0, le=30 * 86400, description="age at which carbon data count as old, s"
    )

    # Last: its check needs the fields above.
    free: dict[str, FreeSchema] = Field(
        default_factory=dict, description="what `tune` may change, and in which range"
    )

    @field_validator("ladder")
    @classmethod
    def _each_rung_once(cls, ladder: list[RelaxName]) -> list[RelaxName]:
        if len(set(ladder)) != len(ladder):
            raise ValueError("names a constraint twice; each can be dropped once")
        return ladder

    @field_validator("free")
    @classmethod
    def _free_fits(cls, free: dict[str, FreeSchema], info: ValidationInfo) -> dict[str, FreeSchema]:
        if "weights" in info.data:
            check_free(cls, info.data, free)
        return free

    def build(self, default_name: str, carbon: Signal) -> Policy:
        """The policy as the core reads it; ``carbon``: the signal of the configured sources."""
        return Policy(
            name=self.name or default_name,
            weights=Weights(**self.weights.model_dump()),
            energy=Energy(self.energy),
            annual_mean=self.annual_mean,
            signal=self.signal.build() if self.signal else carbon,
            near_tie=self.near_tie,
            spread=Spread(self.spread),
            pack_until=self.pack_until,
            pack_within=self.pack_within,
            quantile=self.quantile,
            tpot_quantile=self.tpot_quantile,
            budget=self.budget.build(),
            max_gco2e=_or_inf(self.max_gco2e),
            max_g_per_kwh=_or_inf(self.max_g_per_kwh),
            ladder=tuple(Relax(rung) for rung in self.ladder),
            stale_carbon=StaleCarbon(self.stale_carbon),
            stale_after_s=self.stale_after_s,
            wake_share=self.wake_share,
            scarcity=self.scarcity,
            residency=frozenset(self.residency or ()),
        )


def _or_inf(value: float | None) -> float:
    return UNLIMITED if value is None else value
