"""The workload of a scenario file as pydantic models: a file of requests, or made-up ones."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from router.config.fields import Fraction, Jurisdiction, Name, NameOrEmpty, PathText, Strict
from router.config.policy import BudgetSchema
from router.lab.sim.fields import Period
from router.lab.sim.traffic.columns import BLOCK_TOKENS

Share = Annotated[float, Field(gt=0, le=1e9)]
Tokens = Annotated[float, Field(ge=1, le=10_000_000)]


class LogNormalSchema(Strict):
    """Lengths by mean and 95th percentile, log-normal."""

    mean: Tokens = Field(description="tokens")
    p95: Tokens = Field(description="tokens; above the mean, at most 3.87 times it")

    @model_validator(mode="after")
    def _ordered(self) -> LogNormalSchema:
        if not self.mean <= self.p95 <= 3.87 * self.mean:
            raise ValueError("a log-normal's p95 lies between its mean and 3.87 times its mean")
        return self


class QuantilesSchema(Strict):
    """Lengths by quantile; log-linear between them."""

    quantiles: dict[str, Tokens] = Field(
        min_length=2, description="probability, as text such as '0.5', to tokens"
    )


LengthsSchema = Name | Tokens | LogNormalSchema | QuantilesSchema
Weight = Annotated[float, Field(ge=0, le=1e9)]


def _of_length(count: int, what: str) -> AfterValidator:
    def check(values: list[float]) -> list[float]:
        if len(values) != count:
            raise ValueError(f"needs {count} values, {what}; got {len(values)}")
        return values

    return AfterValidator(check)


DaySchema = Name | Annotated[list[Weight], _of_length(24, "one a local hour from midnight")]
WeekSchema = Annotated[list[Weight], _of_length(7, "Monday to Sunday")]


class DemandSchema(Strict):
    """What one origin asks for."""

    share: Share = Field(default=1.0, description="of all requests; only ratios matter")
    utc_offset_h: float = Field(default=0.0, ge=-14, le=14, description="local time less UTC, h")
    day: DaySchema | None = Field(
        default=None, description="a shape's name, or 24 values by local hour; left out: the whole"
    )


class BurstSchema(Strict):
    """Bursts: the rate of each origin is multiplied by a gamma variable of mean 1."""

    cv: float = Field(ge=0, le=10, description="its standard deviation over its mean")
    window: Period = Field(default=60.0, description="how long a draw holds")


class TalksSchema(Strict):
    """Requests in talks: a prompt holds what was said before, and `input_tokens` that are new."""

    shared_tokens: int = Field(
        default=0, ge=0, le=1_000_000, description="a text that every prompt begins with, tokens"
    )
    shared_texts: int = Field(
        default=1, ge=1, le=1_000_000, description="how many such texts there are; a talk has one"
    )
    turns: float = Field(
        default=1.0, ge=1, le=32, description="requests of a talk, mean; geometric"
    )
    pause: Period = Field(default=60.0, description="between two of them, mean")


class ClassSchema(Strict):
    """A kind of request."""

    model: Name = Field(description="as endpoints serve it")
    share: Share = Field(default=1.0, description="of all requests; only ratios matter")
    input_tokens: LengthsSchema | None = Field(
        default=None, description="a table's name, a number, {mean, p95} or {quantiles}"
    )
    output_tokens: LengthsSchema | None = Field(
        default=None, description="as input_tokens; left out: those of the preset"
    )
    max_input_tokens: Tokens = Field(default=1e7, description="longer prompts are cut to it")
    max_output_tokens: Tokens = Field(default=1e7, description="longer answers are cut to it")
    budget: BudgetSchema = Field(default_factory=BudgetSchema, description="latency limits")
    tenants: dict[NameOrEmpty, Share] = Field(
        default_factory=dict, description="tenant to share; left out: none"
    )
    residency: list[Jurisdiction] = Field(default_factory=list, description="jurisdictions allowed")
    talks: TalksSchema | None = Field(
        default=None, description="prompts begin with what was said before; left out: each anew"
    )
    deadline: Period | None = Field(
        default=None, description="may be deferred until so long after arrival; left out: run now"
    )


class GenerateSchema(Strict):
    """Made-up requests, in the shape of real ones."""

    preset: Name | None = Field(default=None, description="day, week, bursts and lengths at once")
    mean_rps: float | None = Field(
        default=None, gt=0, le=1e7, description="requests/s, mean over a whole week"
    )
    load: Fraction | None = Field(
        default=None,
        description="instead: of what the fleet can serve at max_in_flight, mean over a week",
    )
    origins: dict[Name, DemandSchema] = Field(
        min_length=1, description="rows of the round-trip times"
    )
    day: DaySchema | None = Field(default=None, description="a shape's name, or 24 values")
    week: WeekSchema | None = Field(
        default=None, description="Monday to Sunday; left out: the shape's"
    )
    burstiness: BurstSchema | None = Field(default=None, description="left out: the preset's")
    classes: list[ClassSchema] = Field(min_length=1, description="kinds of requests")

    @model_validator(mode="after")
    def _rated(self) -> GenerateSchema:
        if (self.mean_rps is None) == (self.load is None):
            raise ValueError("give one of mean_rps (requests/s) and load (of the fleet's capacity)")
        return self


class WorkloadSchema(Strict):
    """The requests."""

    file: PathText | None = Field(
        default=None,
        description="CSV(.gz), Parquet, a trace of JSON lines, or a ledger's folder; columns in "
        "docs/scenarios.md",
    )
    block_tokens: int = Field(
        default=BLOCK_TOKENS,
        ge=1,
        le=1_000_000,
        description="tokens of a prompt that each of the file's `hash_ids` stands for",
    )
    generate: GenerateSchema | None = Field(default=None, description="or make them up")

    @model_validator(mode="after")
    def _one(self) -> WorkloadSchema:
        if (self.file is None) == (self.generate is None):
            raise ValueError("give one of file and generate")
        return self
