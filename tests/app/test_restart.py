"""What a reload cannot change, and what it does with it."""

from dataclasses import fields, replace

import pytest

from router.app.loading import load
from router.app.restart import as_started, needs_restart
from router.config.receipts import ReceiptSigning
from router.config.redis import RedisSchema, redis_settings
from router.config.settings import ServerSettings
from tests.app.support import configured

# Read anew for every request, or at every drain.
READ_ANEW = {"drain_s", "energy_tenants", "http_paths", "max_wait_ms"}
RESTART_ONLY = sorted({one.name for one in fields(ServerSettings)} - READ_ANEW)


@pytest.fixture
def started(tmp_path):
    return load(configured(tmp_path))


def changed(config, key):
    """``config`` with another value of a server setting."""
    value = getattr(config.settings.server, key)
    text = value is None or isinstance(value, str)
    other = not value if isinstance(value, bool) else ("other" if text else 7.5)
    server = replace(config.settings.server, **{key: other})
    return replace(config, settings=replace(config.settings, server=server))


@pytest.mark.parametrize("key", RESTART_ONLY)
def test_every_other_server_setting_takes_a_restart_and_stays_as_it_was(started, key):
    config = changed(started, key)
    assert needs_restart(config, started) == (f"server.{key}: takes a restart",)
    assert as_started(config, started) == started


@pytest.mark.parametrize("key", sorted(READ_ANEW))
def test_what_is_read_anew_is_in_force_at_once(started, key):
    config = changed(started, key)
    assert needs_restart(config, started) == ()
    assert as_started(config, started) == config


def test_the_file_as_it_was_needs_no_restart(started):
    assert needs_restart(started, started) == ()


def test_another_file_for_what_is_learned_takes_a_restart(started, tmp_path):
    state = replace(started.settings.state, file=tmp_path / "learned.json")
    config = replace(started, settings=replace(started.settings, state=state))
    assert needs_restart(config, started) == ("state.file: takes a restart",)
    assert as_started(config, started) == started


def test_another_key_file_of_receipts_takes_a_restart(started, tmp_path):
    signing = ReceiptSigning(tmp_path / "sign.pem")
    config = replace(started, settings=replace(started.settings, receipt_signing=signing))
    assert needs_restart(config, started) == ("receipts.sign: takes a restart",)
    assert as_started(config, started) == started


def test_another_store_takes_a_restart(started):
    redis = redis_settings(RedisSchema(url="redis://other"), started.file.parent)
    state = replace(started.settings.state, redis=redis)
    config = replace(started, settings=replace(started.settings, state=state))
    assert needs_restart(config, started) == ("state.redis: takes a restart",)
    assert as_started(config, started) == started


def test_another_ledger_takes_a_restart_and_how_it_names_tenants_does_not(started, tmp_path):
    def with_ledger(**ledger):
        return load(configured(tmp_path, {"ledger": {"dir": "ledger", **ledger}}))

    plain = with_ledger(tenant="plain")
    assert needs_restart(with_ledger(), started) == ("ledger: takes a restart",)
    assert as_started(with_ledger(), started) == started
    assert needs_restart(plain, with_ledger()) == ()
    assert as_started(plain, with_ledger()) == plain
    assert needs_restart(with_ledger(flush_s=1.0, tenant="plain"), with_ledger()) == (
        "ledger: takes a restart",
    )
