"""What several gateways share, from the configuration on; the server is real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from router.app.shared_state import build_store, try_store
from router.clock import WallClock
from router.errors import ConfigError, StateStoreError
from router.state.watched import WatchedStore
from router.telemetry.state_store import StoreMetrics
from tests.config.samples import loaded
from tests.state.redis.servers import Server, server

PASSWORD = "s3cret-and-long"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as made:
        yield made


def built(
    folder: Path, keys: dict[str, object], environ: dict[str, str], *more: StoreMetrics
) -> WatchedStore | None:
    config = loaded(folder, {"state": {"redis": keys}} if keys else {})
    return build_store(config, WallClock(), "me", environ, *more)


def test_without_a_redis_there_is_no_store(tmp_path: Path) -> None:
    assert built(tmp_path, {}, {}) is None


def test_a_gateway_without_one_does_not_load_the_client() -> None:
    code = "import sys, router.app.process; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_whoever_asks_a_store_alone_loads_nothing_that_decides() -> None:
    code = "import sys, router.operator.key_store; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


async def test_it_does_all_that_a_gateway_does(tmp_path: Path, running: Server) -> None:
    registry = CollectorRegistry()
    keys = {"url": running.url, "timeout_ms": 2000}
    store = built(tmp_path, keys, {}, StoreMetrics(registry))
    assert store is not None
    try:
        await try_store(store, "me", 0.0)
    finally:
        await store.close()
    labels = {"call": "acquire", "outcome": "answered"}
    assert registry.get_sample_value("carbon_router_state_store_calls_total", labels) == 2.0
    # Nothing of it stays.
    names = running.ask("KEYS", "*")
    assert all(0 < running.ask("PTTL", name) <= 5000 for name in names if b":token" not in name)


async def test_passwords_are_read_from_where_the_file_says(tmp_path: Path, running: Server) -> None:
    running.ask("ACL", "SETUSER", "gateway", "reset", "on", f">{PASSWORD}", "~*", "+@all")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    keys = {"url": running.url, "username": "gateway", "timeout_ms": 2000}
    for own, environ in (
        ({"password_env": "REDIS_PASSWORD"}, {"REDIS_PASSWORD": PASSWORD}),
        ({"password_file": "password"}, {}),
    ):
        store = built(tmp_path, {**keys, **own}, environ)
        assert store is not None
        await try_store(store, "me", 0.0)
        await store.close()


@pytest.mark.parametrize("stem", ["", "sentinel_"])
def test_a_password_that_is_not_there_is_a_problem_of_the_file(tmp_path: Path, stem: str) -> None:
    keys = {"url": "redis+sentinel://a/fleet", f"{stem}password_env": "NO_SUCH"}
    with pytest.raises(ConfigError) as caught:
        built(tmp_path, keys, {})
    ((key, text),) = caught.value.problems
    assert key == f"state.redis.{stem}password_env"
    assert "NO_SUCH" in text


def test_a_certificate_that_is_not_there_is_a_problem_of_the_file(tmp_path: Path) -> None:
    keys = {"url": "rediss://a", "ca_file": "missing.pem"}
    with pytest.raises(ConfigError, match=r"state\.redis\.ca_file: .*missing\.pem: no such file"):
        built(tmp_path, keys, {})


async def test_a_store_that_cannot_be_had_says_so(tmp_path: Path) -> None:
    store = built(tmp_path, {"url": "unix:///nowhere"}, {})
    assert store is not None
    with pytest.raises(StateStoreError):
        await try_store(store, "me", 0.0)
    await store.close()
