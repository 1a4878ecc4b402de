"""What several gateways share: configuration -> the store, and what is said of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from router.app.runtime import Runtime
from router.app.same_fleet import FleetWatch
from router.config.settings import Config, RedisSettings, SecretSpec
from router.contract import Clock, StateStore
from router.director.dispatcher import STATE_STORE_FAILING
from router.errors import ConfigError
from router.state.watched import WatchedStore
from router.telemetry.admin import Reason
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


def sharing(
    store: WatchedStore | None, runtime: Runtime, identity: str
) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """The background jobs by name, of which ``runtime`` tells in its readiness; none without a
    store. Nothing of it keeps a gateway from serving."""
    if store is None:
        return {}
    watch = FleetWatch(store, runtime, identity)
    runtime.notes += [lambda: store_notes(store), watch.notes]
    return {"state_store": store.probe, "fleet": watch.run}


def store_notes(store: WatchedStore) -> Sequence[Reason]:
    """What readiness says of a store."""
    health = store.health()
    if health.ok:
        return ()
    detail = f"{health.why}, for {health.failing_s:.0f} s: this gateway knows of itself alone"
    return (Reason(STATE_STORE_FAILING, detail, False),)


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
