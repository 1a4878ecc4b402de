import pytest

from router.app.loading import load
from router.errors import ConfigError
from tests.app.support import configured

SERVER = {"http": "127.0.0.1:0"}


def test_paths_start_at_the_folder_of_the_file(tmp_path):
    made = load(configured(tmp_path, {"deferral": {"dir": "kept"}, "server": SERVER}))
    deferral = made.settings.deferral
    assert deferral.dir == tmp_path / "kept"
    assert (deferral.max_file_bytes, deferral.keep_s) == (200 * 2**20, 30 * 86_400.0)


def test_holding_nobody_open_can_be_said(tmp_path):
    given = {"deferral": {"dir": "kept", "flex_wait_s": 0}, "server": SERVER}
    assert load(configured(tmp_path, given)).settings.deferral.flex_wait_s == 0


def test_left_out_nothing_is_deferred(tmp_path):
    assert load(configured(tmp_path)).settings.deferral is None


@pytest.mark.parametrize(
    ("deferral", "server", "told"),
    [
        ({"dir": "a/b"}, SERVER, r"deferral\.dir: .*/a: no such folder; make it"),
        ({"dir": "grid.csv"}, SERVER, r"deferral\.dir: .*grid\.csv: not a folder"),
        ({"dir": "a"}, {}, r"deferral: .*server\.http"),
        ({"dir": "a", "share": 0}, SERVER, r"deferral\.share"),
        ({}, SERVER, r"deferral\.dir: required"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path, deferral, server, told):
    with pytest.raises(ConfigError, match=told):
        load(configured(tmp_path, {"deferral": deferral, "server": server}))
