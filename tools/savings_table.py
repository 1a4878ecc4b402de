"""Fill the tables of docs/savings.md, and those shown in the README, from what runs have written.

    carbon-router simulate SCENARIO.yaml --no-rows --seeds 3     # for each scenario
    carbon-router demo
    python tools/savings_table.py out/*/summary.json out/demo/results.json

A table stands between ``<!-- savings NAME -->`` (in the README ``<!-- split NAME -->``, as the
terminal has it) and ``<!-- end -->``, NAME being the scenario's, or ``demo``. Tables of runs that
are not named stay as they are.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from router.lab.sim.scenario.assemble import BASELINES
from router.lab.study.causes import SavingCause
from router.lab.study.report.splits import PACE_TITLE, TITLES, how, split_rows, split_table

ROOT = Path(__file__).resolve().parents[1]
TARGET, README = ROOT / "docs" / "savings.md", ROOT / "README.md"
BLOCK = re.compile(r"(<!-- (?:savings|split) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 124
PRODUCT = "carbon-first"


def known(values: Any) -> Any:
    """As written, with NaN for null."""
    if isinstance(values, dict):
        return {name: known(value) for name, value in values.items()}
    if isinstance(values, list):
        return [known(value) for value in values]
    return math.nan if values is None else values


class Run(NamedTuple):
    """What a run wrote. ``head``: which it was; ``how``: as the terminal says it came to be."""

    name: str
    splits: Mapping[str, Any]
    head: str
    how: str
    seeds: int


def read(file: Path) -> Run:
    """A ``summary.json`` of `simulate`, or ``results.json`` of `demo`."""
    document = json.loads(file.read_text("utf-8"))
    if "scenario" not in document:
        seeds = document["seeds_of_split"]
        head = f"`demo`: mean of {seeds} seeds."
        return Run("demo", ordered(document["saving_split"]), head, "emulated, replayed", seeds)
    scenario, name = document["scenario"], document["scenario"]["name"]
    seeds = scenario["seeds_of_split"]
    what = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    hours = scenario["duration_s"] / 3600.0
    head = f"`{name}`: {hours:g} h from {scenario['start']}, {what}."
    splits = ordered(document["policies"][PRODUCT]["saving_split"])
    return Run(name, splits, head, how(document), len(seeds))


def ordered(splits: Mapping[str, Any]) -> dict[str, Any]:
    """As baselines run; JSON has them by name."""
    names = sorted(splits, key=lambda name: BASELINES.index(name) if name in BASELINES else -1)
    return {name: known(splits[name]) for name in names}


def markdown(run: Run) -> str:
    """A row for each baseline and order."""
    causes = [cause for cause in SavingCause if any(cause not in one["absent"] for one in
              run.splits.values())]  # fmt: skip
    titles = ("against", "order", "saves", *(TITLES[cause] for cause in causes), PACE_TITLE)
    rows = [row for name, one in run.splits.items() for row in split_rows(name, one, causes)]
    lines = [f"{run.head}\n", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def terminal(run: Run) -> str:
    """As `simulate` and `demo` print it."""
    console = Console(width=WIDTH, no_color=True, file=StringIO())
    with console.capture() as captured:
        console.print(split_table(PRODUCT, run.splits, run.how, run.seeds))
    lines = [line.rstrip() for line in captured.get().rstrip().splitlines()]
    return "```\n" + "\n".join(lines) + "\n```\n"


def fill(page: Path, tables: Mapping[str, str]) -> None:
    """Put ``tables`` where they belong, by name."""

    def table(found: re.Match[str]) -> str:
        head, name, end = found.groups()
        return head + tables.get(name, found[0][len(head) : -len(end)]) + end

    page.write_text(BLOCK.sub(table, page.read_text("utf-8")), encoding="utf-8")


def main() -> int:
    """Exit code 1, and nothing is written, where docs/savings.md has no place for a run."""
    runs = [read(Path(file)) for file in sys.argv[1:]]
    missing = {run.name for run in runs} - {
        name for _, name, _ in BLOCK.findall(TARGET.read_text("utf-8"))
    }
    if missing:
        print(f"docs/savings.md has no table for: {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    fill(TARGET, {run.name: markdown(run) for run in runs})
    fill(README, {run.name: terminal(run) for run in runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
