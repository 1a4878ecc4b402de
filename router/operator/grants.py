"""What `check` says of who may call: in one line, and what of it looks wrong."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator

from router.config.identity import ANY_TENANT, GrantSchema
from router.config.settings import Config
from router.identity.keys_file import read_keys


def identity_line(config: Config) -> str:
    """Who may call. Reads the file of keys; raises ConfigError."""
    settings = config.settings.identity
    schema, known = settings.schema, []
    if settings.keys_file is not None:
        principals = read_keys(settings.keys_file).principals
        keys = sum(len(one.keys) for one in principals)
        known.append(f"{keys} keys of {len(principals)} principals in {settings.keys_file}")
    if schema.keys_in_store:
        known.append("keys in the store of state.redis")
    if schema.jwt is not None:
        source = schema.jwt.jwks_url or schema.jwt.jwks_file
        known.append(
            f"tokens of {schema.jwt.issuer} ({', '.join(schema.jwt.algorithms)}; keys: {source})"
        )
    if schema.mtls is not None:
        known.append(f"{len(schema.mtls.principals)} kinds of client certificates")
    return f"identity: {'; '.join(known)}" if known else "identity: nobody is asked who calls"


def identity_notes(config: Config) -> list[str]:
    """What is granted and cannot be had."""
    notes: dict[str, None] = {}
    for name, grant in granted(config):
        for note in _unknown(config, grant):
            notes[f"identity: {name}: {note}"] = None
    return list(notes)


def granted(config: Config) -> Iterator[tuple[str, GrantSchema]]:
    """Everybody who may call, by name, and what each may."""
    settings = config.settings.identity
    if settings.keys_file is not None:
        for one in read_keys(settings.keys_file).principals:
            yield one.name, one
    if settings.schema.jwt is not None:
        yield "jwt", settings.schema.jwt.grants
    if settings.schema.mtls is not None:
        for certified in settings.schema.mtls.principals:
            yield certified.name, certified


def _unknown(config: Config, grant: GrantSchema) -> Iterator[str]:
    fleet = config.fleet
    yield from _missing(
        "no region lies in",
        grant.residency,
        (n for r in fleet.regions.values() for n in r.residency),
    )
    yield from _missing("no origin is called", grant.origins, fleet.rtt_ms)
    served = list(fleet.priors)
    for pattern in grant.models:
        if not fnmatch.filter(served, pattern):
            yield f"no model is called {pattern}"
    rules = fleet.residency
    closed = bool(rules.tenants) and not rules.serves_unlisted
    if closed and grant.tenant != ANY_TENANT and grant.tenant not in rules.tenants:
        yield f"its tenant {grant.tenant!r} is not among `tenants`: all of its requests are refused"


def _missing(what: str, given: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    unknown = sorted(set(given) - set(known))
    if unknown:
        yield f"{what} {', '.join(unknown)}"
