"""docs/receipts.md names every key and flag that a receipt can have, and no other."""

import re
from pathlib import Path

from router.core import pipeline
from router.core.reports import Doubt

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "receipts.md").read_text("utf-8")
CODE = "".join(path.read_text("utf-8") for path in (ROOT / "router" / "gateway").glob("*.py"))


def test_every_key_has_a_row_and_every_row_a_key():
    rows = set(re.findall(r"^\| `(x-carbon-[a-z0-9-]+)` \|", DOCUMENT, re.MULTILINE))
    written = set(re.findall(r'"(x-carbon-[a-z0-9-]+)"', CODE))
    assert len(rows) > 30
    assert rows == written - {"x-carbon-"}


def test_every_flag_is_named():
    flags = {pipeline.ORIGIN_UNKNOWN, pipeline.CARBON_STALE, pipeline.CARBON_UNKNOWN, *Doubt}
    assert {flag for flag in flags if f"`{flag}`" not in DOCUMENT} == set()
