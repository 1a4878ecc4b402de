"""What several gateways share: configuration -> the store. Loads nothing that decides requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.config.settings import Config, RedisSettings, SecretSpec
from router.contract import Clock, StateStore
from router.errors import ConfigError
from router.state.watched import WatchedStore
from router.telemetry.state_store import StoreMetrics
from router.trust.secrets import read_secret

if TYPE_CHECKING:
    from router.state.redis.clients import Passwords
    from router.state.redis.link import Link

# That an answer may take that waits for a disk, s.
_DISK_S: Final = 1.0


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
    from router.state.redis.store import RedisStore

    _require_files(config.file, settings)
    passwords = _passwords(config.file, settings, environ)
    passwords()
    store = RedisStore(settings, passwords)
    if metrics is None:
        return WatchedStore(store, clock, identity)
    return WatchedStore(
        store, clock, identity, metrics.called, lambda health: metrics.show(health.failing_s)
    )


def build_link(config: Config, environ: Mapping[str, str]) -> Link:
    """A connection of its own to that server, for what may take longer than what requests need of
    it: of a queue that waits for a disk. Raises ConfigError for a password that cannot be read."""
    from router.state.redis.link import Link

    settings = config.settings.state.redis
    assert settings is not None
    passwords = _passwords(config.file, settings, environ)
    passwords()
    return Link(replace(settings, timeout_s=max(settings.timeout_s, _DISK_S)), passwords)


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


def _passwords(
    file: Path, settings: RedisSettings, environ: Mapping[str, str]
) -> Callable[[], Passwords]:
    from router.state.redis.clients import Passwords

    def passwords() -> Passwords:
        return Passwords(
            server=_secret(file, "", settings.password, environ),
            sentinel=_secret(file, "sentinel_", settings.sentinel_password, environ),
        )

    return passwords


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
