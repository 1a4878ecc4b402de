"""``carbon:`` as pydantic models: the sources, their order, and the signal that they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, model_validator

from router.config.fields import GPerKwh, Name, PathText, Seconds, Strict
from router.config.weather import WeatherSchema


class SourceSchema(Strict):
    """What every source is: each kind says which by its ``kind``, a Literal of one name."""

    if TYPE_CHECKING:
        kind: str


class TraceSchema(SourceSchema):
    """A CSV or Parquet table: first column UTC time, one column a grid zone, g/kWh."""

    kind: Literal["trace"] = Field(description="selects this source")
    name: Name | None = Field(default=None, description="for `carbon.zones`; left out: trace")
    file: PathText = Field(description="the table, relative to the configuration file")
    value_kind: Literal["measured", "estimated", "forecast"] = Field(
        default="measured", description="what the values are; receipts repeat it"
    )
    lag_s: float = Field(
        default=0.0,
        ge=0,
        le=30 * 86400,
        description="from a slot's end until its value is known, s",
    )
    hour_ending: bool = Field(
        default=False, description="stamps mark the end of a slot, not its start"
    )


class ClimatologySchema(SourceSchema):
    """The month-by-hour means that ship with the package (average, lifecycle)."""

    kind: Literal["climatology"] = Field(description="selects this source")


class StaticSchema(SourceSchema):
    """Annual means: yours by grid zone, then the shipped table (average, lifecycle)."""

    kind: Literal["static"] = Field(description="selects this source")
    g_per_kwh: dict[Name, GPerKwh] = Field(
        default_factory=dict, description="grid zone to annual mean, gCO2e/kWh"
    )


# What needs no network; live providers join it in `config_schema`.
TABLES: Final[Mapping[str, type[SourceSchema]]] = {
    "trace": TraceSchema,
    "climatology": ClimatologySchema,
    "static": StaticSchema,
}


def _default_sources() -> list[SourceSchema]:
    return [ClimatologySchema(kind="climatology"), StaticSchema(kind="static")]


class ZoneOrderSchema(Strict):
    """Which sources answer for one grid zone."""

    sources: list[Name] = Field(min_length=1, description="names of sources, in order")


class MarginalSchema(Strict):
    """A second chain (basis marginal, factors none), reported beside what decides."""

    sources: list[SourceSchema] = Field(min_length=1, description="in order of preference")


class HistorySchema(Strict):
    """Past values for the forecaster to start from, in the configured basis and factors."""

    file: PathText = Field(description="a table as of `kind: trace`")
    hour_ending: bool = Field(
        default=False, description="stamps mark the end of a slot, not its start"
    )


class CarbonSchema(Strict):
    """Where carbon intensity comes from. All sources share one basis and one set of factors."""

    basis: Literal["average", "marginal"] = Field(
        default="average", description="attribution (average) or consequence (marginal)"
    )
    factors: Literal["lifecycle", "direct", "none"] = Field(
        default="lifecycle",
        description="emissions counted; none: the signal defines its own (MOER)",
    )
    refresh_s: Seconds = Field(default=60.0, description="how often sources are read, wall seconds")
    sources: list[SourceSchema] = Field(
        default_factory=_default_sources, min_length=1, description="in order of preference"
    )
    zones: dict[Name, ZoneOrderSchema] = Field(
        default_factory=dict, description="grid zone to an order of its own"
    )
    marginal: MarginalSchema | None = Field(
        default=None, description="marginal intensities beside those that decide"
    )
    history: HistorySchema | None = Field(
        default=None, description="what the forecaster learns at the start"
    )
    weather: WeatherSchema | None = Field(
        default=None, description="the weather ahead, for the own forecaster"
    )

    @model_validator(mode="after")
    def _factors_fit_basis(self) -> CarbonSchema:
        if self.basis == "average" and self.factors == "none":
            raise ValueError("factors: none goes with basis: marginal; name lifecycle or direct")
        return self
