"""Fill the tables of docs/ledger.md from the ledger's columns; `--check` compares instead.

A table stands between ``<!-- columns NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from router.ledger.asking.csv_rows import SETTLED_COLUMNS
from router.ledger.tables import TABLES

TARGET = Path(__file__).resolve().parents[1] / "docs" / "ledger.md"
BLOCK = re.compile(r"(<!-- columns (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
TYPES = {
    "name": "text",
    "text": "text",
    "time": "time, UTC",
    "count": "whole number",
    "small_count": "whole number",
    "single": "number, 32 bits",
    "double": "number, 64 bits",
}


def columns(name: str) -> str:
    """Of one table, in Markdown."""
    known = {table.name: table.columns for table in TABLES}
    known["settled"] = SETTLED_COLUMNS
    lines = ["| column | type | unit | null | |", "|---|---|---|---|---|"]
    for column in known[name]:
        null = "may be" if column.nullable else ""
        lines.append(
            f"| `{column.name}` | {TYPES[column.type]} | {column.unit} | {null} "
            f"| {column.meaning} |"
        )
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """``text`` with its tables as they are now."""
    return BLOCK.sub(lambda block: block[1] + columns(block[2]) + block[3], text)


def main() -> int:
    text = TARGET.read_text(encoding="utf-8")
    new = filled(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            print(f"{TARGET}: out of date; run tools/ledger_reference.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
