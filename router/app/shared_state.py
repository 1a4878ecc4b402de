"""What several gateways share: configuration -> the store. Loads nothing that decides requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from router.config.settings import Config, RedisSettings, SecretSpec
from router.contract import Clock, StateStore
from router.errors import ConfigError
from router.state.watched import WatchedStore
from router.telemetry.state_store import StoreMetrics
from router.trust.secrets import read_secret


def build_store(
    config: Config,
    clock: Clock,
    identity: str,
    environ: Mapping[str, str],
    metrics: StoreMetrics | None = None,
) -> WatchedStore | None:
    """The store that ``state.redis`` names, connected to at its first call; None without one.

    ``identity``: unique to this process. Raises ConfigError for a password that cannot be read,
    and for a certificate that is not there.
    """
    settings = config.settings.state.redis
    if settings is None:
        return None
    # A gateway that shares nothing need not load the client.
    from router.state.redis.clients import Passwords
    from router.state.redis.store import RedisStore

    _require_files(config.file, settings)

    def passwords() -> Passwords:
        return Passwords(
            server=_secret(config.file, "", settings.password, environ),
            sentinel=_secret(config.file, "sentinel_", settings.sentinel_password, environ),
        )

    passwords()
    store = RedisStore(settings, passwords)
    if metrics is None:
        return WatchedStore(store, clock, identity)
    return WatchedStore(
        store, clock, identity, metrics.called, lambda health: metrics.show(health.failing_s)
    )


async def try_store(store: StateStore, identity: str, now: float) -> None:
    """Ask ``store`` for all that a gateway does, under names of this process that soon expire.

    Raises StateStoreError where it cannot be reached, or its user may not.
    """
    name, ttl_s = f"try/{identity}", 5.0
    await store.put(name, b"1", ttl_s, now)
    await store.put_all({name: b"2"}, ttl_s, now)
    await store.get(name, now)
    await store.scan(name, now)
    await store.add(name, 1, ttl_s, now)
    await store.acquire(name, identity, ttl_s, now)
    await store.acquire(name, identity, ttl_s, now)
    await store.release(name, identity)
    await store.exchange(name, identity, b"", ttl_s, now)
    await store.leave(name, identity)


def _require_files(file: Path, settings: RedisSettings) -> None:
    problems = [
        (f"state.redis.{key}", f"{path}: no such file")
        for key in ("ca_file", "cert_file", "key_file")
        if (path := getattr(settings, key)) is not None and not path.is_file()
    ]
    if problems:
        raise ConfigError(str(file), problems)


def _secret(file: Path, stem: str, spec: SecretSpec | None, environ: Mapping[str, str]) -> str:
    if spec is None:
        return ""
    key = f"{stem}password_{'env' if spec.env else 'file'}"
    at = f"state.redis.{key}"
    return read_secret(str(file), at, env=spec.env, file=spec.file, environ=environ).reveal()
