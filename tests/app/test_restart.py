"""What a reload cannot change, and what it does with it."""

from dataclasses import fields, replace

import pytest

from router.app.loading import load
from router.app.restart import as_started, needs_restart
from router.config.settings import ServerSettings
from tests.app.support import configured

# Read anew for every request, or at every drain.
READ_ANEW = {"drain_s", "max_wait_ms"}
RESTART_ONLY = sorted({one.name for one in fields(ServerSettings)} - READ_ANEW)


@pytest.fixture
def started(tmp_path):
    return load(configured(tmp_path))


def changed(config, key):
    """``config`` with another value of a server setting."""
    value = getattr(config.settings.server, key)
    other = not value if isinstance(value, bool) else ("other" if value == str(value) else 7.5)
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
