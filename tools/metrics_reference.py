"""Fill the tables of docs/metrics.md from a gateway's own registry; `--check` compares instead.

A table stands between ``<!-- metrics -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from router.app.fronts import CODES
from router.telemetry.metrics import Metrics
from router.telemetry.security import SecurityLog

TARGET = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
BLOCK = re.compile(r"(<!-- metrics -->\n).*?(<!-- end -->)", re.DOTALL)
# As a scrape has them: of a counter without its suffix, of a histogram three.
SUFFIXES = {"counter": "_total"}


def registered() -> dict[str, Any]:
    """Every metric of one gateway process, by the name that it has on the page."""
    registry = CollectorRegistry()
    Metrics(registry, codes=CODES)
    SecurityLog(registry, lambda: 0.0)
    # The collectors themselves, for those with labels have no series yet.
    collectors = set(registry._collector_to_names)
    return {one._name + SUFFIXES.get(one._type, ""): one for one in collectors}


def table() -> str:
    """All of them in Markdown, sorted by name."""
    lines = ["| metric | type | labels | |", "|---|---|---|---|"]
    for name, metric in sorted(registered().items()):
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |")
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """``text`` with its table as it is now."""
    return BLOCK.sub(lambda block: block[1] + table() + block[2], text)


def main() -> int:
    text = TARGET.read_text(encoding="utf-8")
    new = filled(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            print(f"{TARGET}: out of date; run tools/metrics_reference.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
