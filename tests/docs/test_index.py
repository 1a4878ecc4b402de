"""The index of the documentation names every page, and no other."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_every_page_is_named_once():
    text = (DOCS / "README.md").read_text()
    named = [name for name in re.findall(r"\]\(([\w-]+\.md)\)", text)]
    assert sorted(named) == sorted(
        page.name for page in DOCS.glob("*.md") if page.name != "README.md"
    )
