"""What every live provider has in the file. Each adds its own keys beside its client."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from router.config.fields import Name, Seconds, Strict
from router.config.sources import SourceSchema
from router.model import Signal

RoleName = Literal["measured", "forecast"]
ZoneId = Annotated[str, Field(min_length=1, max_length=128)] | Annotated[int, Field(ge=1, le=999)]


class LimitSchema(Strict):
    """A limit on calls that this gateway keeps to."""

    calls: int = Field(ge=1, le=1_000_000, description="calls")
    per_s: Seconds = Field(description="in any so many seconds")


def call_limits(calls: int, per_s: float, description: str = "calls it may get") -> Any:
    """The field ``limits`` of a provider, whose default is what its free plan allows."""
    return Field(
        default_factory=lambda: [LimitSchema(calls=calls, per_s=per_s)], description=description
    )


def _roles() -> list[RoleName]:
    return ["measured", "forecast"]


class LiveSchema(SourceSchema):
    """What every live provider has.

    ``credentials``: what is secret, in words, by the stem of its two keys (``key`` of ``key_env``
    and ``key_file``). ``fixed_signal``: what it publishes whatever it is asked for. ``zone_ids``:
    grid zone to the provider's own id, beside the shipped table.
    """

    credentials: ClassVar[Mapping[str, str]] = {}
    fixed_signal: ClassVar[Signal | None] = None
    zone_ids: ClassVar[Mapping[str, str]] = {}

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
    if TYPE_CHECKING:
        # Each provider states its own.
        limits: list[LimitSchema]

    def published_signal(self) -> Signal | None:
        """What it publishes; None where it follows `carbon.factors`."""
        return self.fixed_signal

    @field_validator("roles")
    @classmethod
    def _each_role_once(cls, roles: list[RoleName]) -> list[RoleName]:
        if len(set(roles)) != len(roles):
            raise ValueError("names a role twice")
        return roles

    @model_validator(mode="after")
    def _each_secret_once(self) -> Self:
        for stem, words in self.credentials.items():
            env, file = f"{stem}_env", f"{stem}_file"
            if (getattr(self, env) is None) == (getattr(self, file) is None):
                raise ValueError(f"give the {words} by one of {env} and {file}")
        return self


LiveSources: TypeAlias = Callable[[Collection[str]], Mapping[str, type[LiveSchema]]]
"""Every live provider by kind, given the kinds that a file names: only those need be whole."""
