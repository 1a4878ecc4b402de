from __future__ import annotations

import io
import json
import math

from rich.console import Console

from router.lab.replicate.paper import PaperTable, Replication, paper_row
from router.lab.replicate.report import render, replication_json
from router.lab.replicate.run import Rerun

ROWS = (
    paper_row("greedy", (244.38, 206.98), (244.38, 206.2)),
    paper_row("least", (math.nan, math.nan), (225.6, math.nan)),
)
TABLE = PaperTable("Capacity", "g/kWh", "file.csv", "what", ("100 ms", "250 ms"), ROWS, ("mind",))
RERUN = Rerun(
    (Replication("capacity", "A study", (TABLE,), ("ODbL",)),), {"casper": "no folder of data"}
)


def shown(rerun: Rerun) -> str:
    file = io.StringIO()
    Console(width=120, file=file).print(render(rerun))
    return file.getvalue()


def test_equal_figures_are_told_from_others() -> None:
    text = shown(RERUN)
    assert "244.38 = 244.38" in text
    assert "206.98 / 206.20" in text
    assert "1 of 2 published figures come out" in text
    line = next(line for line in text.splitlines() if "least" in line)
    assert "225.60" in line and "nan" not in line and " - " not in line


def test_sources_remarks_notices_and_what_was_not_run_are_told() -> None:
    text = shown(RERUN)
    for part in ("published = ours: file.csv", "mind", "ODbL", "NOT RUN: casper: no folder"):
        assert part in text


def test_json_holds_the_same() -> None:
    found = json.loads(replication_json(RERUN))
    assert (found["same"], found["compared"]) == (1, 2)
    assert found["not_run"] == {"casper": "no folder of data"}
    (table,) = found["studies"][0]["tables"]
    assert table["rows"][1]["figures"] == [
        {"published": None, "ours": 225.6, "digits": 2},
        {"published": None, "ours": None, "digits": 2},
    ]


def test_nothing_compared_has_no_score() -> None:
    assert "come out" not in shown(Rerun((), {}))
