"""What of a configuration Envoy's plane cannot do yet: said before anything listens."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from router.config.settings import Config
from router.errors import ConfigError
from router.model import TokenProfile

_NOT_YET = "is not served by `carbon-router envoy` yet; leave it out, or use `carbon-router serve`"


def require_supported(config: Config) -> None:
    """Raises ConfigError that names every key of ``config`` which this plane would ignore."""
    problems = [*_of_settings(config), *_of_endpoints(config)]
    if problems:
        raise ConfigError(str(config.file), problems)


def notes(config: Config) -> list[str]:
    """What does not hold on this plane though nobody may have asked for it, in words."""
    server = config.settings.server
    found = [
        "retry.budget_ratio, retry.budget_reserve: each request is tried retry.max_attempts times "
        "at most, however many are",
        "server.max_requests, server.max_buffered_mib: Envoy holds as many as it has memory for",
    ]
    if server.max_wait_ms > 0.0:
        found.append("server.max_wait_ms: a request for which there is no place is shed at once")
    return found


def _of_settings(config: Config) -> Iterator[tuple[str, str]]:
    settings = config.settings
    server = settings.server
    asked = {
        "server.tls": server.tls is not None,
        "server.http_paths": bool(server.http_paths),
        "server.energy_tenants": bool(server.energy_tenants),
        "identity": settings.identity.authenticates,
        "carbon_budget": bool(settings.carbon_budgets.budgets),
        "receipts.sign": settings.receipt_signing is not None,
        "telemetry.otlp": settings.otlp is not None,
        "discovery": bool(settings.discovery),
        "state.redis": settings.state.redis is not None,
    }
    for key, is_asked in asked.items():
        if is_asked:
            yield key, _NOT_YET
    if settings.ledger is not None and settings.ledger.decision_share > 0.0:
        yield "ledger.decision_share", "set it to 0: Envoy's plane keeps no decisions yet"
    for key, listen in (("server.listen", server.listen), ("server.http", server.http)):
        if listen is not None and listen.endswith(":0"):
            yield key, "give a port: Envoy's plane does not tell which one it got"
    protocols = {one.protocol for one in config.fleet.endpoints}
    if "openai" in protocols and server.http is None:
        yield "server.http", "endpoints speak openai, so say where HTTP is served"


def _of_endpoints(config: Config) -> Iterator[tuple[str, str]]:
    fleet, seen = config.fleet, dict[str, str]()
    for row, endpoint in enumerate(fleet.endpoints):
        key = f"endpoints[{row}]"
        if endpoint.address in config.settings.access:
            yield key, f"tls and credentials: {_NOT_YET}"
        if not _is_literal(endpoint.address):
            yield f"{key}.address", "give an IP address: Envoy's plane looks no names up yet"
        if endpoint.address in seen:
            yield f"{key}.address", f"is that of {seen[endpoint.address]!r}, too: Envoy cannot tell"
        seen[endpoint.address] = endpoint.name
        for place, served in enumerate(endpoint.models):
            if isinstance(served.profile, TokenProfile) and served.profile.prefix_cache_tokens:
                yield f"{key}.models[{place}].prefix_cache_tokens", _NOT_YET


def _is_literal(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
