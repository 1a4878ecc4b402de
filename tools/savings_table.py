"""Fill the tables of docs/savings.md from what runs have written.

    carbon-router simulate SCENARIO.yaml --no-rows --seeds 3     # for each scenario
    carbon-router demo
    python tools/savings_table.py out/*/summary.json out/demo/results.json

A table stands between ``<!-- savings NAME -->`` and ``<!-- end -->``, NAME being the scenario's, or
``demo``. Tables of runs that are not named stay as they are.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.lab.sim.scenario.assemble import BASELINES
from router.lab.study.causes import SavingCause
from router.lab.study.report.splits import PACE_TITLE, TITLES, split_rows

TARGET = Path(__file__).resolve().parents[1] / "docs" / "savings.md"
BLOCK = re.compile(r"(<!-- savings (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
PRODUCT = "carbon-first"


def known(values: Any) -> Any:
    """As written, with NaN for null."""
    if isinstance(values, dict):
        return {name: known(value) for name, value in values.items()}
    if isinstance(values, list):
        return [known(value) for value in values]
    return math.nan if values is None else values


def table(splits: Mapping[str, Any], head: str) -> str:
    """Markdown: a row for each baseline and order."""
    causes = [cause for cause in SavingCause if any(cause not in one["absent"] for one in
              splits.values())]  # fmt: skip
    titles = ("against", "order", "saves", *(TITLES[cause] for cause in causes), PACE_TITLE)
    # JSON has them by name.
    names = sorted(splits, key=lambda name: BASELINES.index(name) if name in BASELINES else -1)
    rows = [row for name in names for row in split_rows(name, splits[name], causes)]
    lines = [f"{head}\n", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def named(document: Mapping[str, Any]) -> tuple[str, str]:
    """The name of a run's table, and the table."""
    if "scenario" not in document:
        many = document["seeds_of_split"]
        return "demo", table(known(document["saving_split"]), f"`demo`: mean of {many} seeds.")
    scenario, name = document["scenario"], document["scenario"]["name"]
    seeds = scenario["seeds_of_split"]
    what = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    hours = scenario["duration_s"] / 3600.0
    head = f"`{name}`: {hours:g} h from {scenario['start']}, {what}."
    return name, table(known(document["policies"][PRODUCT]["saving_split"]), head)


def main() -> int:
    tables = dict(named(json.loads(Path(file).read_text("utf-8"))) for file in sys.argv[1:])
    text = TARGET.read_text("utf-8")
    missing = set(tables) - {name for _, name, _ in BLOCK.findall(text)}
    if missing:
        print(f"docs/savings.md has no table for: {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    TARGET.write_text(
        BLOCK.sub(lambda m: m[1] + tables.get(m[2], m[0][len(m[1]) : -len(m[3])]) + m[3], text),
        encoding="utf-8",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
