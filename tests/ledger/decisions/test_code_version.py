import re

from router import __version__
from router.ledger.decisions import code_version as module
from router.ledger.decisions.code_version import code_version


def test_it_is_the_version_and_a_digest_of_what_decides(tmp_path, monkeypatch):
    assert re.fullmatch(re.escape(__version__) + r"\+[0-9a-f]{12}", code_version())
    found = set()
    for text in ("a = 1\n", "a = 2\n", "a = 2\r\n"):
        (tmp_path / "core").mkdir(exist_ok=True)
        (tmp_path / "core" / "kernel.py").write_bytes(text.encode())
        monkeypatch.setattr(module.router, "__file__", str(tmp_path / "__init__.py"))
        found.add(code_version.__wrapped__())
    assert len(found) == 2
    assert code_version() not in found
