"""What of a configuration Envoy's plane cannot do yet: said before anything listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from router.config.ledger import LedgerSettings
from router.config.settings import (
    Config,
    HealthSettings,
    RetrySettings,
    ServerSettings,
    Settings,
    StateSettings,
)
from router.errors import ConfigError
from router.model import ServedModel, TokenProfile
from router.planes.envoy.known_file import MAX_BUDGETS

# As source/decide.h: so many servers are named for a request at most.
MAX_ATTEMPTS: Final = 4


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every field of the settings is under one of these two; a test holds them to the classes, so that
# a new one is not ignored in silence. Held: by Envoy, the module or the command's own process.
HELD: Final[Mapping[type, frozenset[str]]] = {
    Settings: _names(
        "server clock carbon load health retry network_kwh_per_gb request_file state exposed "
        # What of `otlp` there is, `notes` says.
        "ledger access identity carbon_budgets discovery otlp receipt_signing deferral "
        "scaling"
    ),
    ServerSettings: _names(
        "listen admin http workers max_message_mib max_streams max_connections max_metadata_kib "
        "idle_s max_age_s drain_s deadline_margin_ms share_port frozen_after_s grpc_receipts "
        # The control API, which would tell addresses, is on no front here.
        "tls admin_tls admin_token admin_hosts insecure show_addresses "
        # Served by the command's own process, which is passed on to.
        "http_paths http_hosts energy_tenants picker scaler"
    ),
    HealthSettings: _names(
        "probe_s detect_s base_ejection_s max_ejection_s max_ejected_fraction busy_s max_busy_s "
        "consecutive_failures failure_percentage min_requests"
    ),
    RetrySettings: frozenset(("max_attempts",)),
    StateSettings: _names("file redis"),
    LedgerSettings: _names(
        "dir url name tenant flush_s seal_s seal_rows queue_rows spool_max_bytes "
        "gateway_w_per_core gateway_region settle_every_s decision_share"
    ),
}
# `notes` says so.
TOLD: Final[Mapping[type, frozenset[str]]] = {
    ServerSettings: frozenset(("max_requests", "max_buffered_mib", "max_wait_ms")),
    RetrySettings: frozenset(("budget_ratio", "budget_reserve")),
}


def keeps_prompts(served: ServedModel) -> bool:
    """Whether what a server has of prompts is looked at, which is not done in Envoy."""
    profile = served.profile
    return isinstance(profile, TokenProfile) and profile.prefix_cache_tokens > 0


def require_supported(config: Config) -> None:
    """Raises ConfigError that names every key of ``config`` which this plane would ignore."""
    if problems := list(_of_settings(config)):
        raise ConfigError(str(config.file), problems)


def notes(config: Config) -> list[str]:
    """What does not hold on this plane though nobody may have asked for it, in words."""
    server = config.settings.server
    found = [
        "retry.budget_ratio, retry.budget_reserve: each request is tried retry.max_attempts times "
        "at most, however many are",
        "server.max_requests, server.max_buffered_mib: Envoy holds as many as it has memory for",
    ]
    if config.settings.retry.max_attempts > MAX_ATTEMPTS:
        found.append(f"retry.max_attempts: no request is tried more than {MAX_ATTEMPTS} times")
    if config.settings.otlp is not None:
        found.append("telemetry.otlp: spans are of what Envoy passes on alone")
    if server.max_wait_ms > 0.0:
        found.append("server.max_wait_ms: a request for which there is no place is shed at once")
    return found


def _of_settings(config: Config) -> Iterator[tuple[str, str]]:
    settings = config.settings
    server = settings.server
    if len(settings.carbon_budgets.budgets) > MAX_BUDGETS:
        yield "carbon_budget", f"Envoy's plane keeps {MAX_BUDGETS} budgets at the most"
    for key, listen in (("server.listen", server.listen), ("server.http", server.http)):
        if listen is not None and listen.endswith(":0"):
            yield key, "give a port: Envoy's plane does not tell which one it got"
    templates = [one.template for one in settings.discovery]
    protocols = {one.protocol for one in (*config.fleet.endpoints, *templates)}
    if "openai" in protocols and server.http is None:
        yield "server.http", "endpoints speak openai, so say where HTTP is served"
