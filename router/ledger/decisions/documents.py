"""What many decisions share, written once: a fleet, and a snapshot of it.

MessagePack, in which a float is its eight bytes. A snapshot is kept as what it was built of, not as
columns: so the same can be built by another policy. Of endpoints no address is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from router.core.columns import Snapshot, build_snapshot
from router.core.layout import Layout
from router.errors import CarbonRouterError, DataError
from router.model import (
    Alias,
    Endpoint,
    Fleet,
    Forecast,
    Intensity,
    Policy,
    Profile,
    QualityFloors,
    Region,
    ResidencyRules,
    ServedModel,
    TaskProfile,
    TokenProfile,
    Variant,
)

# Of documents and of rows: another number is another format.
DECISIONS_VERSION: Final = 1
# Of one document: a fleet of a hundred thousand endpoints is a third of it.
MOST_BYTES: Final = 64 * 2**20
_DIGITS: Final = 32

_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class _Served:
    """``profile``: a place among the fleet's token profiles, or below 0 its task profiles: -1 is
    the first of them."""

    name: str
    version: str
    context_tokens: float
    profile: int


@dataclass(frozen=True, slots=True)
class _Endpoint:
    name: str
    region: str
    protocol: str
    max_in_flight: int
    emulated: bool
    models: tuple[_Served, ...]


@dataclass(frozen=True, slots=True)
class _Alias:
    """Without its tenants: what a request's floor was is in its row. And without its judge, who is
    asked of answers, and has no part in a decision."""

    name: str
    variants: tuple[Variant, ...]
    source: str
    floors: QualityFloors
    window_s: float


@dataclass(frozen=True, slots=True)
class _Fleet:
    """``stated``: endpoint, model and tokens that its server says its context has."""

    format: int
    regions: tuple[Region, ...]
    endpoints: tuple[_Endpoint, ...]
    token_profiles: tuple[TokenProfile, ...]
    task_profiles: tuple[TaskProfile, ...]
    rtt_ms: dict[str, dict[str, float]]
    default_origin: str
    gateway_origin: str
    model_residency: dict[str, frozenset[str]]
    tenant_residency: dict[str, frozenset[str]]
    serves_unlisted: bool
    stated: tuple[tuple[str, str, float], ...]
    aliases: tuple[_Alias, ...] = ()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """``columns``: a digest of all that was built of it, to be told where that differs."""

    format: int
    fleet: str
    built_at: float
    version: int
    policy: Policy
    forecasts: tuple[Forecast, ...]
    annual_means: dict[str, Intensity]
    columns: str


@dataclass(frozen=True, slots=True, eq=False)
class KeptSnapshot:
    """``snapshot``: built anew; ``is_same``: its columns are, bit for bit, those of then."""

    snapshot: Snapshot
    is_same: bool

    def by(self, policy: Policy) -> Snapshot:
        """The same carbon data and fleet by another policy. Raises MixedBasisError where that wants
        data of another basis."""
        return rebuilt(self.snapshot, policy)


def document_id(body: bytes) -> str:
    """By which others name it."""
    return hashlib.sha256(body).hexdigest()[:_DIGITS]


def policy_hash(policy: Policy) -> str:
    """The same for policies that decide alike; the name counts too."""
    return document_id(msgspec.msgpack.encode(_ordered(policy)))


def tenant_in_record(tenant: str, rules: ResidencyRules, tenant_name: Callable[[str], str]) -> str:
    """As the ledger names it. Where that leaves it out, what decides is kept, where it may run: all
    with the same limits have one name."""
    name = tenant_name(tenant) if tenant else ""
    if name or not tenant:
        return name
    return "/".join(sorted(rules.tenants.get(tenant, ())))


def fleet_document(layout: Layout, tenant_name: Callable[[str], str]) -> bytes:
    """``tenant_name``: how the ledger names a tenant, "" where it leaves them out."""
    fleet = layout.fleet
    tokens: list[TokenProfile] = []
    tasks: list[TaskProfile] = []
    places: dict[int, int] = {}

    def place(profile: Profile) -> int:
        known = places.get(id(profile))
        if known is None:
            if isinstance(profile, TaskProfile):
                tasks.append(profile)
                known = -len(tasks)
            else:
                tokens.append(profile)
                known = len(tokens) - 1
            places[id(profile)] = known
        return known

    endpoints = tuple(
        _Endpoint(
            one.name, one.region, one.protocol, one.max_in_flight, one.emulated,
            tuple(
                _Served(served.name, served.version, served.context_tokens, place(served.profile))
                for served in one.models
            ),
        )
        for one in fleet.endpoints
    )  # fmt: skip
    rules = fleet.residency
    return _encoded(
        _Fleet(
            DECISIONS_VERSION,
            tuple(fleet.regions.values()),
            endpoints,
            tuple(tokens),
            tuple(tasks),
            fleet.rtt_ms,
            fleet.default_origin,
            fleet.gateway_origin,
            dict(rules.models),
            {
                tenant_in_record(tenant, rules, tenant_name): names
                for tenant, names in rules.tenants.items()
            },
            rules.serves_unlisted,
            tuple((endpoint, model, size) for (endpoint, model), size in layout.stated.items()),
            tuple(
                _Alias(one.name, one.variants, one.source, one.floors, one.window_s)
                for one in fleet.aliases.values()
            ),
        )
    )


def snapshot_document(snapshot: Snapshot, fleet: str) -> bytes:
    """``fleet``: the id of the document of its layout."""
    return _encoded(
        _Snapshot(
            DECISIONS_VERSION,
            fleet,
            snapshot.built_at,
            snapshot.version,
            snapshot.policy,
            tuple(snapshot.forecasts.values()),
            dict(snapshot.annual_means),
            _columns_digest(snapshot),
        )
    )


def fleet_of(body: bytes) -> Layout:
    """Raises DataError for what is no such document, or of another version."""
    kept = _decoded(body, _Fleet)
    try:
        endpoints = tuple(
            Endpoint(
                one.name, one.region, "", one.protocol,
                tuple(
                    ServedModel(
                        served.name, served.version, _profile(kept, served.profile),
                        served.context_tokens,
                    )
                    for served in one.models
                ),
                one.max_in_flight, "", "", one.emulated,
            )
            for one in kept.endpoints
        )  # fmt: skip
        fleet = Fleet(
            {region.name: region for region in kept.regions},
            endpoints,
            {},
            kept.rtt_ms,
            kept.default_origin,
            kept.gateway_origin,
            ResidencyRules(kept.model_residency, kept.tenant_residency, kept.serves_unlisted),
            {
                one.name: Alias(
                    one.name, one.variants, one.source, one.floors, window_s=one.window_s
                )
                for one in kept.aliases
            },
        )
        stated = {(endpoint, model): size for endpoint, model, size in kept.stated}
        return Layout(fleet, stated)
    except (LookupError, ValueError) as error:
        raise DataError(f"a fleet that does not fit together: {error!r}") from None


def snapshot_fleet(body: bytes) -> str:
    """The id of the fleet that a snapshot is of. Raises DataError."""
    return _decoded(body, _Snapshot).fleet


def snapshot_of(body: bytes, layout: Layout) -> KeptSnapshot:
    """Raises DataError for what is no such document, or does not fit ``layout``."""
    kept = _decoded(body, _Snapshot)
    try:
        snapshot = build_snapshot(
            layout,
            kept.policy,
            {forecast.grid_zone: forecast for forecast in kept.forecasts},
            kept.annual_means,
            kept.built_at,
            kept.version,
        )
    except (LookupError, ValueError, ArithmeticError) as error:
        raise DataError(f"a snapshot that does not fit together: {error!r}") from None
    return KeptSnapshot(snapshot, _columns_digest(snapshot) == kept.columns)


def rebuilt(snapshot: Snapshot, policy: Policy) -> Snapshot:
    """``snapshot`` by another policy. Raises MixedBasisError."""
    return build_snapshot(
        snapshot.layout,
        policy,
        snapshot.forecasts,
        snapshot.annual_means,
        snapshot.built_at,
        snapshot.version,
    )


def _profile(kept: _Fleet, place: int) -> Profile:
    return kept.token_profiles[place] if place >= 0 else kept.task_profiles[-1 - place]


def _columns_digest(snapshot: Snapshot) -> str:
    digest = hashlib.sha256()
    for key, columns in snapshot.columns.items():
        digest.update("\0".join(key).encode())
        for array in (columns.table, columns.candidates.labels, columns.candidates.starts):
            digest.update(array.tobytes())
    for params in snapshot.rungs:
        digest.update(params.tobytes())
    return digest.hexdigest()[:_DIGITS]


def _encoded(document: object) -> bytes:
    return msgspec.msgpack.encode(_ordered(document))


def _ordered(value: object) -> object:
    """Frozen sets have no order, and the same document is to have the same bytes."""
    return msgspec.to_builtins(value, order="deterministic", builtin_types=(bytes,))


def _decoded(body: bytes, kind: type[_Document]) -> _Document:
    if len(body) > MOST_BYTES:
        raise DataError(f"a document of {len(body)} bytes: more than {MOST_BYTES}")
    try:
        found = msgspec.convert(msgspec.msgpack.decode(body), kind)
    except (msgspec.MsgspecError, CarbonRouterError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not a {kind.__name__[1:].lower()} of a ledger: {error}") from None
    version = getattr(found, "format", None)
    if version != DECISIONS_VERSION:
        raise DataError(f"of version {version}, and this program reads {DECISIONS_VERSION}")
    return found
