import pytest

from router.app.loading import load
from router.errors import ConfigError
from tests.app.support import configured


def test_paths_start_at_the_folder_of_the_file(tmp_path):
    ledger = load(configured(tmp_path, {"ledger": {"dir": "kept"}})).settings.ledger
    assert ledger.dir == tmp_path / "kept"
    assert (ledger.url, ledger.tenant, ledger.spool_max_bytes) == (None, "hash", 2**30)


def test_left_out_nothing_is_kept(tmp_path):
    assert load(configured(tmp_path)).settings.ledger is None


@pytest.mark.parametrize(
    ("ledger", "told"),
    [
        ({"dir": "a/b"}, r"ledger\.dir: .*/a: no such folder; make it"),
        ({"dir": "grid.csv"}, r"ledger\.dir: .*grid\.csv: not a folder"),
        ({"dir": "a", "url": "ftp://x/y"}, r"ledger\.url: .*is no place for files"),
        ({"dir": "a", "url": "s3://key:secret@bucket"}, r"ledger\.url: .*without credentials"),
        ({"dir": "a", "name": "../x"}, r"ledger\.name"),
        ({"dir": "a", "gateway_region": "moon"}, r"ledger\.gateway_region: .*moon"),
        ({"url": "s3://bucket"}, r"ledger\.dir: required"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path, ledger, told):
    with pytest.raises(ConfigError, match=told) as caught:
        load(configured(tmp_path, {"ledger": ledger}))
    assert "secret" not in str(caught.value)
