"""``carbon.weather:`` as pydantic models: where the weather ahead comes from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from router.config.fields import BaseUrl, EnvName, Name, PathText, Seconds, Strict


class WeatherPointSchema(Strict):
    """A place whose weather moves a grid zone: where its wind and sun are, where people live."""

    lat: float = Field(ge=-90, le=90, description="degrees north")
    lon: float = Field(ge=-180, le=180, description="degrees east")
    weight: float = Field(default=1.0, gt=0, le=1e6, description="among the zone's points")


class WeatherSchema(Strict):
    """Weather forecasts, by which the own forecaster corrects its own: a file, points to ask
    Open-Meteo for, or both."""

    file: PathText | None = Field(
        default=None, description="hours past and ahead, relative to the configuration file"
    )
    points: dict[Name, list[WeatherPointSchema]] = Field(
        default_factory=dict, description="grid zone to places that Open-Meteo is asked for"
    )
    base_url: BaseUrl = Field(
        default="https://api.open-meteo.com", description="of Open-Meteo, or of your own server"
    )
    wind_height_m: Literal[10, 80, 100, 120] = Field(
        default=80, description="above ground; which of them a model has differs"
    )
    refresh_s: Seconds = Field(
        default=10_800.0, ge=600, description="between two readings of a grid zone or the file, s"
    )
    timeout_ms: float = Field(default=5000.0, ge=50, le=15_000, description="of one call, ms")
    calls_per_h: int = Field(
        default=400, ge=1, le=1_000_000, description="calls that it may get; one a point"
    )
    key_env: EnvName | None = Field(
        default=None, description="environment variable that holds the key of a paid plan"
    )
    key_file: PathText | None = Field(
        default=None, description="or a file that does, relative to the configuration file"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.file is None and not self.points:
            raise ValueError("give a file, or points of grid zones")
        if any(not points for points in self.points.values()):
            raise ValueError("a grid zone of points needs one at least")
        if max(map(len, self.points.values()), default=0) > 20:
            raise ValueError("at most 20 points a grid zone")
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("give the key by one of key_env and key_file")
        return self
