"""A provider's keys in the file, and all else that is to be known of it, beside its client.

``docs/extending.md`` tells how to add one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol

from pydantic import Field

from router.carbon.providers.budget import CallAllowance
from router.carbon.providers.provider import Http, Provider, Want
from router.config.fields import EnvName, PathText
from router.config.live import LimitSchema, LiveSchema
from router.contract import Clock
from router.model import Signal
from router.trust.secrets import Secret


class ProviderContext(Protocol):
    """What a provider is built with, beside its own keys.

    ``zones``: grid zone to the provider's id. ``coordinates``: grid zone to (lat, lon) of a region
    there. ``timeout_s``: of one call.
    """

    name: str
    signal: Signal
    zones: Mapping[str, str]
    coordinates: Mapping[str, tuple[float, float]]
    timeout_s: float
    clock: Clock

    def http(self, base_url: str, limits: Iterable[LimitSchema]) -> Http:
        """A client below ``base_url`` that keeps to ``limits``."""
        ...

    def budget(self, limits: Iterable[LimitSchema]) -> CallAllowance:
        """``limits``, of all gateways that share a store together; else of this gateway, of which
        each process takes an equal part."""
        ...

    def secret(self, stem: str) -> Secret:
        """One of `LiveSchema.credentials`. Raises ConfigError, which never tells the secret."""
        ...


class ProviderSchema(LiveSchema):
    """The keys of one kind of provider, and how they make a provider.

    ``wants``: what it can be asked for. ``by_location``: it finds a grid zone that it has no id for
    by coordinates in it. ``own_http``: it makes its calls by itself, not by `ProviderContext.http`,
    so each answer is counted as a call. ``zones_note``: what else `zones` says of its ids.
    """

    wants: ClassVar[frozenset[Want]] = frozenset(Want)
    by_location: ClassVar[bool] = False
    own_http: ClassVar[bool] = False
    zones_note: ClassVar[str] = ""

    def build(self, context: ProviderContext) -> Provider:
        """The provider. Raises ConfigError, whose keys are relative to those of this schema."""
        raise NotImplementedError


class KeyedSchema(ProviderSchema):
    """Of a provider that wants one key."""

    credentials: ClassVar = {"key": "key"}

    key_env: EnvName | None = Field(
        default=None, description="environment variable that holds the key"
    )
    key_file: PathText | None = Field(
        default=None, description="or a file that does, relative to the configuration file"
    )
