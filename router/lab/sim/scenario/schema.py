"""A scenario file as pydantic models: shape and bounds of each key on its own.

Fleet and policy are written as for `serve` (``router.config.schema``); an endpoint needs no address
here and may stand for several replicas. ``docs/scenarios.md`` documents every field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from router.config.aliases import AliasSchema
from router.config.endpoints import MetricsSchema, Protocol, ServedSchema
from router.config.fields import (
    Address,
    GPerKwh,
    Name,
    NameOrEmpty,
    PathText,
    RttMs,
    Strict,
    Text,
)
from router.config.identity import IdentitySchema
from router.config.ledger import LedgerSchema
from router.config.profiles import ProfileSchema
from router.config.schema import (
    HealthSchema,
    LoadSchema,
    LogSchema,
    ModelSchema,
    NetworkSchema,
    OriginSchema,
    RegionSchema,
    RetrySchema,
    RttSchema,
    ServerSchema,
    StateSchema,
    TenantSchema,
)
from router.lab.sim.fields import Duration, Moment, Period, Start
from router.lab.sim.traffic.schema import WorkloadSchema


class ReplicasSchema(Strict):
    """One model server, or several alike."""

    name: Name = Field(description="unique; replicas are called NAME-0, NAME-1, ...")
    region: Name | None = Field(default=None, description="a key of `regions`")
    replicas: (
        Annotated[int, Field(ge=1, le=100_000)]
        | dict[Name, Annotated[int, Field(ge=0, le=100_000)]]
        | None
    ) = Field(default=None, description="how many; or region to how many, without `region`")
    models: list[ServedSchema] = Field(min_length=1, description="what it serves")
    max_in_flight: int = Field(ge=1, le=1_000_000, description="requests at once, at most")
    address: Address | None = Field(default=None, description="not used by a simulation")
    protocol: Protocol | None = Field(default=None, description="not used by a simulation")
    metrics: MetricsSchema | None = Field(default=None, description="not used by a simulation")
    emulated: bool = Field(default=False, description="not used by a simulation")

    @model_validator(mode="after")
    def _placed(self) -> ReplicasSchema:
        if isinstance(self.replicas, dict) == (self.region is not None):
            raise ValueError(
                "give either region (with replicas as a number, or left out) or replicas as a "
                "mapping of region to number"
            )
        return self


class ScenarioRttSchema(RttSchema):
    """The table of round-trip times, as for `serve`."""

    within_region_ms: RttMs | None = Field(
        default=None,
        description="fills a blank cell whose row and column have the same name; left out: error",
    )
    reach_ms: RttMs | None = Field(
        default=None,
        description="regions farther from an origin than this serve none of its callers, whatever "
        "the policy; left out: all do, budgets permitting",
    )


Columns = Annotated[
    dict[Name, Text], Field(description="grid zone to column, where their names differ")
]


class GridSchema(Strict):
    """What the grids really emitted."""

    file: PathText = Field(
        description="wide CSV(.gz) or Parquet: first column UTC time, one column a grid zone, g/kWh"
    )
    obtain: Text | None = Field(
        default=None, description="how the file is to be had; told when it is not there"
    )
    basis: Literal["average", "marginal"] = Field(
        default="average", description="attribution (average) or consequence (marginal)"
    )
    factors: Literal["lifecycle", "direct", "none"] = Field(
        default="lifecycle", description="emissions counted; none goes with marginal"
    )
    hour_ending: bool = Field(
        default=False, description="stamps mark the end of a slot, not its start"
    )
    columns: Columns = Field(default_factory=dict)
    fill: Duration = Field(
        default=0.0,
        description="gaps up to this long are filled with the line between their ends, and noted",
    )
    annual_means: dict[Name, GPerKwh] = Field(
        default_factory=dict,
        description="what `annual_mean` policies decide by, g/kWh; left out: the mean of the file",
    )

    @model_validator(mode="after")
    def _factors_fit_basis(self) -> GridSchema:
        if self.basis == "average" and self.factors == "none":
            raise ValueError("factors: none goes with basis: marginal; name lifecycle or direct")
        return self


class SignalSchema(Strict):
    """What routers know of the grids while they decide."""

    kind: Literal["perfect", "persistence", "day_before", "forecaster", "file"] = Field(
        default="forecaster",
        description=(
            "perfect: the true values; persistence: the last published one; day_before: that of "
            "the same hour of the day; forecaster: the product's own, fed with what was published; "
            "file: a forecast table"
        ),
    )
    publication_lag: Duration = Field(
        default=3600.0, description="from an hour's end until its value is published"
    )
    file: PathText | None = Field(
        default=None, description="of kind `file`: as `carbon.file`, holding forecasts"
    )
    columns: Columns = Field(default_factory=dict)
    hour_ending: bool = Field(
        default=False, description="stamps of the file mark the end of a slot, not its start"
    )
    history: Duration = Field(
        default=60 * 86400.0,
        description="of kind `forecaster`: what it has seen before the start, where in the file",
    )
    weather: PathText | None = Field(
        default=None,
        description="of kind `forecaster`: a file of weather as it was forecast, by hour and grid "
        "zone",
    )

    @model_validator(mode="after")
    def _file_fits_kind(self) -> SignalSchema:
        if (self.kind == "file") != (self.file is not None):
            raise ValueError("file goes with kind: file, which needs one")
        if (self.columns or self.hour_ending) and self.file is None:
            raise ValueError("columns and hour_ending go with a file")
        if self.weather is not None and self.kind != "forecaster":
            raise ValueError("weather goes with kind: forecaster, which heeds it")
        return self


class FailureSchema(Strict):
    """A region or endpoints that are down for a while."""

    region: Name | None = Field(default=None, description="all of its endpoints")
    endpoint: Name | None = Field(default=None, description="by name; or all replicas of an entry")
    start: Moment = Field(description="a UTC time, or a duration since the start")
    end: Moment = Field(description="likewise")
    noticed_after: Duration = Field(
        default=5.0, description="until gateways know; what is sent there before fails"
    )

    @model_validator(mode="after")
    def _one(self) -> FailureSchema:
        if (self.region is None) == (self.endpoint is None):
            raise ValueError("give one of region and endpoint")
        return self


class AutoscalingSchema(Strict):
    """Replicas are released and woken again."""

    by: Literal["idle", "hints"] = Field(
        default="idle",
        description="idle: each is released once it has nothing to do; hints: as the gateway's "
        "hints say, which count work that waits, too",
    )
    release_after: Duration = Field(
        description="idle so long, then released; by hints: not wanted so long, and then done with "
        "what it had"
    )
    wake: Duration = Field(description="until a released replica serves again")
    wake_w: float = Field(
        ge=0, le=1_000_000, description="power of the whole server while it wakes, W"
    )
    asleep_w: float = Field(
        default=0.0, ge=0, le=1_000_000, description="power of the whole server while released, W"
    )


class GatewaysSchema(Strict):
    """Independent gateways."""

    count: int = Field(default=1, ge=1, le=1024, description="requests are dealt out to them")
    staleness: Duration = Field(
        default=0.0, description="between two looks at the load that others caused; 0: exact"
    )
    prefixes: bool = Field(
        default=True,
        description="whether they look at what prompts begin with, where servers keep any; false: "
        "servers that keep prompts are found by chance",
    )
    exchange: Duration = Field(
        default=0.0,
        description="between two exchanges of each through a store that they share, which divides "
        "places among them; 0: they share none",
    )


class ScenarioSchema(Strict):
    """The whole file."""

    version: Literal[1] = Field(default=1, description="format of this file, 1")
    name: Name | None = Field(default=None, description="left out: the file's name")
    description: str = Field(default="", max_length=4000, description="for people")
    start: Start = Field(description="first moment, UTC, such as 2022-05-14T00:00Z")
    duration: Period = Field(description="seconds, or such as 24h, 7d")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="same seed, same bytes")
    warm_up: Duration = Field(
        default=0.0, description="requests of this first while are routed but not counted"
    )
    policy: Any = Field(default=None, description="as for `serve`; left out: carbon-first")
    policies: list[Any] | None = Field(
        default=None, min_length=1, description="or several, compared"
    )
    carbon: GridSchema = Field(description="what the grids really emitted")
    signal: SignalSchema = Field(
        default_factory=SignalSchema, description="what routers know of it"
    )
    workload: WorkloadSchema = Field(description="the requests")
    gateways: GatewaysSchema = Field(default_factory=GatewaysSchema, description="how many decide")
    failures: list[FailureSchema] = Field(default_factory=list, description="what goes down")
    autoscaling: AutoscalingSchema | None = Field(
        default=None, description="left out: idle replicas stay on"
    )
    origins: dict[Name, OriginSchema] = Field(
        default_factory=dict, description="as for `serve`; needed unless `rtt` is given"
    )
    rtt: ScenarioRttSchema | None = Field(default=None, description="round-trip times as a table")
    path_delay_ms: RttMs | dict[Name, RttMs] = Field(
        default=0.0,
        description="what round trips take beyond it, unknown to routers: one figure, or by region",
    )
    default_origin: NameOrEmpty = Field(
        default="", description="stands in for an unknown origin; empty: refuse"
    )
    regions: dict[Name, RegionSchema] = Field(min_length=1, description="as for `serve`")
    models: dict[Name, ModelSchema] = Field(default_factory=dict, description="as for `serve`")
    aliases: dict[Name, AliasSchema] = Field(
        default_factory=dict, description="as for `serve`, but for means and tenants"
    )
    endpoints: list[ReplicasSchema] = Field(min_length=1, description="the model servers")
    profiles: dict[Name, ProfileSchema] = Field(default_factory=dict, description="as for `serve`")
    health: HealthSchema = Field(default_factory=HealthSchema, description="as for `serve`")
    network: NetworkSchema = Field(default_factory=NetworkSchema, description="as for `serve`")
    server: ServerSchema | None = Field(default=None, description="not used by a simulation")
    load: LoadSchema | None = Field(default=None, description="not used by a simulation")
    retry: RetrySchema | None = Field(default=None, description="not used by a simulation")
    log: LogSchema | None = Field(default=None, description="not used by a simulation")
    state: StateSchema | None = Field(default=None, description="not used by a simulation")
    ledger: LedgerSchema | None = Field(default=None, description="not used by a simulation")
    identity: IdentitySchema | None = Field(default=None, description="not used by a simulation")
    tenants: dict[Name, TenantSchema] = Field(
        default_factory=dict, description="not simulated: give requests a `residency` instead"
    )
    carbon_budget: Any = Field(
        default=None, description="not simulated, and refused: simulate without, and add up"
    )
    unlisted_tenants: Literal["refuse", "serve"] | None = Field(
        default=None, description="not used by a simulation"
    )
    notice: Text | None = Field(default=None, description="attribution that results must carry")

    @model_validator(mode="after")
    def _policy_once(self) -> ScenarioSchema:
        if self.policy is not None and self.policies is not None:
            raise ValueError("give policy or policies, not both")
        if self.warm_up >= self.duration:
            raise ValueError("warm_up must be shorter than duration")
        return self


def json_schema() -> dict[str, Any]:
    """The JSON schema of a scenario file (draft 2020-12), for editors and other programs."""
    schema = ScenarioSchema.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
