"""docs/ledger.md says what the ledger's columns say."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_table_is_up_to_date():
    path = ROOT / "tools" / "ledger_reference.py"
    spec = importlib.util.spec_from_file_location("ledger_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "ledger.md").read_text()
    assert module.filled(text) == text
    for table in module.TABLES:
        assert f"<!-- columns {table.name} -->" in text
