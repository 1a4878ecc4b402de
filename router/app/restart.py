"""What a reload cannot change: settings that sockets, channels and processes were built with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from router.config.ledger import LedgerSettings
from router.config.settings import Config

_RESTART_ONLY: Final = (
    (
        "server",
        (
            "listen", "admin", "http", "picker", "scaler", "workers", "share_port",
            "frozen_after_s", "deadline_margin_ms", "max_message_mib", "max_buffered_mib",
            "max_metadata_kib", "max_requests", "max_streams", "max_connections", "idle_s",
            "max_age_s", "show_addresses", "grpc_receipts", "tls", "admin_tls", "admin_token",
            "admin_hosts", "http_hosts", "insecure",
        ),
    ),
    ("load", ("timeout_ms",)),
    ("state", ("file", "redis")),
)  # fmt: skip


def needs_restart(config: Config, started: Config) -> tuple[str, ...]:
    """Where ``config`` differs from what runs, in what takes a restart.

    ``started``: what the gateway was started with.
    """
    found = [
        f"{part}.{key}: takes a restart"
        for part, keys in _RESTART_ONLY
        for key in keys
        if getattr(getattr(config.settings, part), key)
        != getattr(getattr(started.settings, part), key)
    ]
    if config.settings.ledger != _ledger(config, started):
        found.append("ledger: takes a restart")
    if config.settings.receipt_signing != started.settings.receipt_signing:
        found.append("receipts.sign: takes a restart")
    if config.settings.deferral != started.settings.deferral:
        found.append("deferral: takes a restart")
    if config.settings.scaling != started.settings.scaling:
        found.append("scaling: takes a restart")
    if config.settings.otlp != started.settings.otlp:
        found.append("telemetry.otlp: takes a restart")
    return tuple(found)


def as_started(config: Config, started: Config) -> Config:
    """``config`` with what takes a restart as it was at the start: what is in force."""
    parts: dict[str, Any] = {
        part: replace(
            getattr(config.settings, part),
            **{key: getattr(getattr(started.settings, part), key) for key in keys},
        )
        for part, keys in _RESTART_ONLY
    }
    parts["ledger"] = _ledger(config, started)
    parts["receipt_signing"] = started.settings.receipt_signing
    parts["deferral"] = started.settings.deferral
    parts["scaling"] = started.settings.scaling
    parts["otlp"] = started.settings.otlp
    return replace(config, settings=replace(config.settings, **parts))


def _ledger(config: Config, started: Config) -> LedgerSettings | None:
    """As it is in force: but for how tenants are kept it is as it was at the start."""
    wanted, was = config.settings.ledger, started.settings.ledger
    return was if wanted is None or was is None else replace(was, tenant=wanted.tenant)
