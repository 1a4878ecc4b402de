"""Schemas -> the values of ``router.model`` and ``router.config.settings``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from router.config import checks
from router.config.aliases import build_aliases, check_aliases
from router.config.budgets import budget_settings, check_budgets
from router.config.carbon_checks import check_carbon
from router.config.deferral import check_deferral, deferral_settings
from router.config.discovery_checks import check_discovery, discovery_notes
from router.config.endpoint_values import build_discovery, build_endpoint
from router.config.exposure import check_exposure, exposure_notes, transport_notes
from router.config.feasibility import check_feasible
from router.config.found import with_stand_ins
from router.config.ledger import check_ledger, ledger_settings
from router.config.live import LiveSources
from router.config.loading import Parsed, parse_config, shipped_profiles
from router.config.profiles import build_profiles
from router.config.receipts import receipt_signing
from router.config.redis import redis_settings
from router.config.regions import Resolved, resolve_regions
from router.config.rtt import Matrix, rtt_matrix
from router.config.scaling import scaling_settings
from router.config.scaling_checks import check_scaling
from router.config.schema import (
    ConfigSchema,
    ModelSchema,
    RequestLogSchema,
    ServerSchema,
    StateSchema,
)
from router.config.settings import (
    ClockSettings,
    Config,
    EndpointAccess,
    HealthSettings,
    IdentitySettings,
    LoadSettings,
    RequestFileSettings,
    RetrySettings,
    SecretSpec,
    ServerSettings,
    Settings,
    StateSettings,
)
from router.config.specs import carbon_settings
from router.config.telemetry import otlp_settings
from router.config.tls import endpoint_access, listener_tls
from router.config.zones import shipped_places
from router.errors import ConfigError
from router.model import (
    Fleet,
    LengthPrior,
    Profile,
    ResidencyRules,
    TokenProfile,
)

_TENSOR_PRIOR = LengthPrior(input_tokens=1.0, output_tokens=1.0, output_tokens_p95=1.0)
_QUEUE_NOTE = 4
# exp(1.645 ** 2 / 2): the largest 95th percentile over mean that a log-normal can have.
_MAX_SKEW = 3.87


def load(path: str | Path, live: LiveSources) -> Config:
    """Read and check a configuration file and everything it names, with these ``live`` providers.

    Raises ConfigError with every problem found: first those of single keys (unknown, missing,
    mistyped, out of bounds), then those between keys (references, files, feasibility).
    """
    return build(parse_config(Path(path), live))


def build(parsed: Parsed) -> Config:
    """Values of a parsed configuration. Reads the RTT table; raises ConfigError as `load`."""
    schema, folder = parsed.schema, parsed.file.parent
    shipped = shipped_profiles()
    profiles = {**build_profiles(schema.profiles), **shipped}
    resolved = resolve_regions(schema.regions, shipped_places())
    rtt_ms, problems = rtt_matrix(schema, folder)
    problems += resolved.problems
    problems += checks.check_references(schema, profiles)
    problems += checks.check_origins(schema, rtt_ms)
    problems += checks.check_profiles(schema.profiles, shipped)
    problems += check_carbon(schema.carbon, folder, replayed=schema.clock is not None)
    problems += checks.check_residency(schema, parsed.policy)
    problems += checks.check_numbers(schema)
    problems += check_exposure(schema.server, _authenticates(schema))
    problems += checks.check_identity(schema)
    problems += checks.check_log(schema, folder)
    problems += check_ledger(schema.ledger, set(schema.regions), folder)
    problems += check_deferral(
        schema.deferral, schema.server.http is not None, schema.state.redis is not None, folder
    )
    problems += check_scaling(schema.scaling, schema.server.scaler is not None)
    problems += checks.check_signal(parsed.policy, schema.carbon)
    problems += check_discovery(schema, folder)
    problems += check_aliases(
        schema.aliases,
        checks.spoken_protocols(schema),
        {name: model.residency for name, model in schema.models.items()},
    )
    names = {*checks.served_models(schema), *schema.aliases}
    problems += check_budgets(schema.carbon_budget, names, schema.carbon)
    if problems:
        raise ConfigError(str(parsed.file), problems)
    fleet = _fleet(schema, profiles, rtt_ms, resolved)
    settings = _settings(schema, folder, resolved, profiles)
    policy = parsed.policy.build(parsed.policy_name, settings.carbon.signal)
    problems, notes = check_feasible(policy, with_stand_ins(fleet, settings.discovery))
    if problems:
        raise ConfigError(str(parsed.file), problems)
    free = {name: str(wanted) for name, wanted in parsed.policy.free.items()}
    notes = [*resolved.notes, *notes, *_notes(fleet, settings), *settings.exposed]
    notes += [*transport_notes(schema), *discovery_notes(settings.discovery)]
    return Config(parsed.file, fleet, policy, settings, tuple(notes), free)


def _fleet(
    schema: ConfigSchema, profiles: Mapping[str, Profile], rtt_ms: Matrix, resolved: Resolved
) -> Fleet:
    priors = {
        name: _prior(schema.models.get(name)) for name in sorted(checks.served_models(schema))
    }
    aliases = build_aliases(schema.aliases)
    # Until answers to the alias itself say more.
    priors |= {name: priors[alias.variants[-1].model] for name, alias in aliases.items()}
    return Fleet(
        regions=resolved.regions,
        endpoints=tuple(build_endpoint(endpoint, profiles) for endpoint in schema.endpoints),
        priors=priors,
        aliases=aliases,
        rtt_ms=rtt_ms,
        default_origin=schema.default_origin,
        gateway_origin=schema.server.origin,
        residency=ResidencyRules(
            models={
                name: frozenset(model.residency)
                for name, model in schema.models.items()
                if model.residency
            },
            tenants={name: frozenset(one.residency) for name, one in schema.tenants.items()},
            serves_unlisted=schema.unlisted_tenants == "serve",
        ),
    )


def _prior(model: ModelSchema | None) -> LengthPrior:
    """Lengths of a model; one "token" where a tensor model states none."""
    lengths = model.lengths() if model else None
    return _TENSOR_PRIOR if lengths is None else LengthPrior(*lengths)


def _settings(
    schema: ConfigSchema, folder: Path, resolved: Resolved, profiles: Mapping[str, Profile]
) -> Settings:
    return Settings(
        server=_server(schema.server, folder),
        clock=ClockSettings(**schema.clock.model_dump()) if schema.clock else None,
        carbon=carbon_settings(schema.carbon, folder, resolved.coordinates),
        load=LoadSettings(**schema.load.model_dump()),
        health=HealthSettings(**schema.health.model_dump()),
        retry=RetrySettings(**schema.retry.model_dump()),
        network_kwh_per_gb=schema.network.kwh_per_gb,
        request_file=_request_file(schema.log.requests, folder),
        access=_access(schema, folder),
        exposed=tuple(exposure_notes(schema.server, _authenticates(schema))),
        state=_state(schema.state, folder),
        carbon_budgets=budget_settings(schema.carbon_budget, schema.tenants),
        identity=IdentitySettings(schema.identity, folder),
        ledger=ledger_settings(schema.ledger, folder),
        discovery=tuple(
            build_discovery(f"discovery[{place}]", one, schema.backends, profiles, folder)
            for place, one in enumerate(schema.discovery)
        ),
        receipt_signing=receipt_signing(schema.receipts, folder),
        otlp=otlp_settings(schema.telemetry, folder),
        deferral=deferral_settings(schema.deferral, folder),
        scaling=scaling_settings(schema.scaling, folder),
    )


def _authenticates(schema: ConfigSchema) -> bool:
    return IdentitySettings(schema.identity).authenticates


def _access(schema: ConfigSchema, folder: Path) -> dict[str, EndpointAccess]:
    """By address, of those that are reached over TLS or get a key."""
    found = {}
    for index, endpoint in enumerate(schema.endpoints):
        access = endpoint_access(
            f"endpoints[{index}]",
            endpoint.is_secure(schema.backends.tls is not None),
            endpoint.tls,
            endpoint.credentials,
            schema.backends,
            folder,
        )
        if access != EndpointAccess():
            found[endpoint.host_port] = access
    return found


def _request_file(schema: RequestLogSchema | None, folder: Path) -> RequestFileSettings | None:
    if schema is None:
        return None
    return RequestFileSettings(
        file=folder / schema.file,
        sample=schema.sample,
        max_bytes=schema.max_mib * 2**20,
        keep=schema.keep,
        tenant=schema.tenant,
    )


def _state(schema: StateSchema, folder: Path) -> StateSettings:
    return StateSettings(
        file=None if schema.file is None else folder / schema.file,
        redis=None if schema.redis is None else redis_settings(schema.redis, folder),
    )


def _server(schema: ServerSchema, folder: Path) -> ServerSettings:
    values = schema.model_dump(exclude={"origin", "admin_token_env", "admin_token_file"})
    values["tls"] = listener_tls(schema.tls, folder)
    values["admin_tls"] = listener_tls(schema.admin_tls, folder)
    env, file = schema.admin_token_env, schema.admin_token_file
    if env is not None or file is not None:
        values["admin_token"] = SecretSpec(env or "", folder / file if file else None)
    values["http_paths"] = frozenset(schema.http_paths)
    values["admin_hosts"] = frozenset(schema.admin_hosts)
    values["http_hosts"] = frozenset(name.lower() for name in schema.http_hosts)
    values["energy_tenants"] = frozenset(schema.energy_tenants)
    values["max_buffered_mib"] = schema.max_buffered_mib or 4 * schema.max_message_mib
    return ServerSettings(**values)


def _notes(fleet: Fleet, settings: Settings) -> list[str]:
    notes = []
    used = {endpoint.region for endpoint in fleet.endpoints}
    for name in fleet.regions:
        # What is found may run anywhere.
        if name not in used and not settings.discovery:
            notes.append(f"regions.{name}: no endpoint runs there")
    for name, prior in fleet.priors.items():
        if prior.output_tokens_p95 > _MAX_SKEW * prior.output_tokens:
            notes.append(
                f"models.{name}: lengths are taken as log-normal, whose 95th percentile is at "
                f"most {_MAX_SKEW} times the mean; {_MAX_SKEW * prior.output_tokens:.0f} stands "
                f"in for output_tokens_p95 {prior.output_tokens_p95:g}"
            )
    for endpoint in fleet.endpoints:
        for model in endpoint.models:
            batch = model.profile.max_batch
            if endpoint.max_in_flight > _QUEUE_NOTE * batch:
                notes.append(
                    f"{endpoint.name}: max_in_flight {endpoint.max_in_flight} is over "
                    f"{_QUEUE_NOTE} times the {batch} that {model.profile.name} runs at once; "
                    "the rest waits in the server's queue"
                )
            if isinstance(model.profile, TokenProfile) and math.isinf(model.context_tokens):
                told = "that the server states holds, where it does; else "
                notes.append(
                    f"{endpoint.name}: {model.name} has no context_tokens: "
                    f"{told if endpoint.protocol == 'openai' else ''}over-long requests are "
                    "forwarded and fail there"
                )
    return notes
