"""Live carbon providers as pydantic models: one schema a provider, with its free plan's defaults.

What each figure includes and how to get a key is told in ``docs/carbon.md``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from router.config.fields import BaseUrl, EnvName, Name, PathText, Seconds, Strict

RoleName = Literal["measured", "forecast"]
ZoneId = Annotated[str, Field(min_length=1, max_length=128)] | Annotated[int, Field(ge=1, le=999)]


class LimitSchema(Strict):
    """A limit on calls that this gateway keeps to."""

    calls: int = Field(ge=1, le=1_000_000, description="calls")
    per_s: Seconds = Field(description="in any so many seconds")


def _limit(calls: int, per_s: float) -> list[LimitSchema]:
    return [LimitSchema(calls=calls, per_s=per_s)]


def _roles() -> list[RoleName]:
    return ["measured", "forecast"]


class _Live(Strict):
    """What every live provider has."""

    name: Name | None = Field(
        default=None, description="for `carbon.zones`, metrics and hops; left out: the kind"
    )
    timeout_ms: float = Field(default=5000.0, ge=50, le=60_000, description="of one call, ms")
    forecast_refresh_s: Seconds = Field(
        default=10_800.0, description="between two forecasts of one grid zone, s"
    )
    roles: list[RoleName] = Field(
        default_factory=_roles, min_length=1, description="what it is asked for"
    )
    zones: dict[Name, ZoneId] = Field(
        default_factory=dict, description="grid zone to this provider's own id, over the shipped"
    )

    @field_validator("roles")
    @classmethod
    def _each_role_once(cls, roles: list[RoleName]) -> list[RoleName]:
        if len(set(roles)) != len(roles):
            raise ValueError("names a role twice")
        return roles


class _Keyed(_Live):
    key_env: EnvName | None = Field(
        default=None, description="environment variable that holds the key"
    )
    key_file: PathText | None = Field(
        default=None, description="or a file that does, relative to the configuration file"
    )

    @model_validator(mode="after")
    def _one_key(self) -> _Keyed:
        if (self.key_env is None) == (self.key_file is None):
            raise ValueError("give the key by one of key_env and key_file")
        return self


class ElectricityMapsSchema(_Keyed):
    """Electricity Maps: over 200 grid zones, measured, estimated and forecast."""

    kind: Literal["electricity_maps"] = Field(description="selects this source")
    api: Literal["v3", "v4"] = Field(default="v4", description="version of the API")
    base_url: BaseUrl = Field(
        default="https://api.electricitymaps.com", description="without the version"
    )
    limits: list[LimitSchema] = Field(
        default_factory=lambda: _limit(100, 3600.0),
        description="calls it may get; your plan may allow more",
    )


class WattTimeSchema(_Live):
    """WattTime: marginal operating emission rates (MOER), for `carbon.marginal`."""

    kind: Literal["watttime"] = Field(description="selects this source")
    user_env: EnvName | None = Field(
        default=None, description="environment variable that holds the user name"
    )
    user_file: PathText | None = Field(default=None, description="or a file that does")
    password_env: EnvName | None = Field(
        default=None, description="environment variable that holds the password"
    )
    password_file: PathText | None = Field(default=None, description="or a file that does")
    base_url: BaseUrl = Field(default="https://api.watttime.org", description="of logins and data")
    limits: list[LimitSchema] = Field(
        default_factory=lambda: _limit(3000, 300.0), description="calls it may get, logins apart"
    )

    @model_validator(mode="after")
    def _one_login(self) -> WattTimeSchema:
        if (self.user_env is None) == (self.user_file is None):
            raise ValueError("give the user name by one of user_env and user_file")
        if (self.password_env is None) == (self.password_file is None):
            raise ValueError("give the password by one of password_env and password_file")
        return self


class GreatBritainSchema(_Live):
    """The GB Carbon Intensity API: national or one of 17 regions, keyless, direct emissions."""

    kind: Literal["gb_carbon_intensity"] = Field(description="selects this source")
    base_url: BaseUrl = Field(
        default="https://api.carbonintensity.org.uk", description="of the API"
    )
    limits: list[LimitSchema] = Field(
        default_factory=lambda: _limit(120, 3600.0), description="calls it may get"
    )


class EnergyChartsSchema(_Live):
    """energy-charts.info of Fraunhofer ISE: Germany and neighbours, keyless."""

    kind: Literal["energy_charts"] = Field(description="selects this source")
    factors: Literal["lifecycle", "direct"] = Field(
        description="what its figures are taken to count: it does not say, so you decide"
    )
    base_url: BaseUrl = Field(default="https://api.energy-charts.info", description="of the API")
    limits: list[LimitSchema] = Field(
        default_factory=lambda: _limit(120, 3600.0), description="calls it may get"
    )


class EiaSchema(_Keyed):
    """EIA-930 by the EIA's API v2: US balancing authorities, from their generation by fuel."""

    kind: Literal["eia"] = Field(description="selects this source")
    base_url: BaseUrl = Field(default="https://api.eia.gov", description="of the API")
    limits: list[LimitSchema] = Field(
        default_factory=lambda: _limit(1000, 3600.0), description="calls it may get"
    )


class EntsoeSchema(_Keyed):
    """ENTSO-E's transparency platform: European bidding zones, from their generation by fuel."""

    kind: Literal["entsoe"] = Field(description="selects this source")
    base_url: BaseUrl = Field(default="https://web-api.tp.entsoe.eu/api", description="of the API")
    limits: list[LimitSchema] = Field(
        default_factory=lambda: _limit(300, 60.0), description="calls it may get"
    )


LiveSourceSchema = (
    ElectricityMapsSchema
    | WattTimeSchema
    | GreatBritainSchema
    | EnergyChartsSchema
    | EiaSchema
    | EntsoeSchema
)
