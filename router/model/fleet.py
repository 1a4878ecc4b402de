"""What can be routed to: regions, the endpoints in them, and the models that those serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from router.model.aliases import Alias
from router.model.profiles import Profile, Provenance


@dataclass(frozen=True, slots=True)
class Region:
    """Where part of the fleet runs: its grid zone, its PUE and the jurisdictions it lies in."""

    name: str
    grid_zone: str
    pue: float
    pue_source: str
    residency: frozenset[str]

    def lies_in(self, jurisdictions: frozenset[str]) -> bool:
        """Whether it lies in one of ``jurisdictions``; an empty set stands for anywhere."""
        return not jurisdictions or not jurisdictions.isdisjoint(self.residency)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model on one endpoint. ``version`` empty: any. ``context_tokens`` inf: no limit."""

    name: str
    version: str
    profile: Profile
    context_tokens: float


class CalibrationTimes(NamedTuple):
    """A profile is fitted to a meter as it runs: a reading ``every_s``, a fit ``refit_s``."""

    every_s: float
    refit_s: float


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """What counts the joules of an endpoint. ``kind``: of `router.load.energy_meter.METERS`.

    ``labels``: by name the values that samples of this endpoint have; none: all on the page are.
    ``adds_watts``: where nothing counts joules, its watts are read often, and added up.
    ``covers_host``: CPU and DRAM are in it. ``calibration``: None where the gateway fits nothing.
    """

    url: str
    kind: str
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    adds_watts: bool = False
    covers_host: bool = False
    calibration: CalibrationTimes | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One addressable model server. ``address``: host:port, where ``protocol`` is spoken.

    ``emulated``: its energy and latency are not real hardware. ``meter``: None where nothing counts
    its joules.
    """

    name: str
    region: str
    address: str
    protocol: str
    models: tuple[ServedModel, ...]
    max_in_flight: int
    metrics_url: str
    engine: str
    emulated: bool
    meter: EnergyMeter | None = None

    def provenance_of(self, profile: Profile) -> Provenance:
        """How the figures of ``profile`` are known of this very endpoint: what was calibrated on
        another was measured on such hardware."""
        if self.emulated:
            return Provenance.EMULATED
        is_others = profile.calibrated_on != self.name
        if profile.provenance is Provenance.CALIBRATED and is_others:
            return Provenance.MEASURED
        return profile.provenance

    def kind_by(self, profile: Profile) -> Provenance:
        """How joules are known that ``profile`` says of a run here."""
        provenance = self.provenance_of(profile)
        return Provenance.PROFILE if provenance is Provenance.MEASURED else provenance


class FoundEndpoint(NamedTuple):
    """A model server as discovery found it, checked by nobody. ``region``: "" where it says none;
    ``labels``: what else it says, such as topology labels of its node."""

    name: str
    address: str
    region: str = ""
    labels: Mapping[str, str] = MappingProxyType({})


class Load(NamedTuple):
    """What a model server says of itself. ``observed_at``: when it was read; ``healthy``: False
    where it says that it cannot serve."""

    running: float
    queued: float
    kv_fraction: float
    observed_at: float
    healthy: bool = True


@dataclass(frozen=True, slots=True)
class LengthPrior:
    """What to expect of a model's requests before any was seen, in tokens (1 for tensors)."""

    input_tokens: float
    output_tokens: float
    output_tokens_p95: float


@dataclass(frozen=True, slots=True)
class ResidencyRules:
    """The operator's own limits: jurisdictions by model and by tenant, none of the sets empty.

    ``serves_unlisted``: whether a tenant that is not in ``tenants`` is served where any is.
    """

    models: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tenants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    serves_unlisted: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that can be routed to. ``rtt_ms[origin][region]`` is complete for every pair.

    ``default_origin``: stands in for an origin that the table does not know; "" when none.
    ``gateway_origin``: the origin at which this gateway itself sits; "" when it is the caller's.
    """

    regions: dict[str, Region]
    endpoints: tuple[Endpoint, ...]
    priors: dict[str, LengthPrior]
    rtt_ms: dict[str, dict[str, float]]
    default_origin: str
    gateway_origin: str
    residency: ResidencyRules = ResidencyRules()
    aliases: Mapping[str, Alias] = field(default_factory=dict)

    def models_of(self, name: str) -> tuple[str, ...]:
        """The models that ``name`` may stand for: an alias's variants, or itself."""
        alias = self.aliases.get(name)
        return (name,) if alias is None else tuple(one.model for one in alias.variants)
