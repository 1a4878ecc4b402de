from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import yaml

from router.ledger.month import Month
from router.operator.reporting import impact_framework
from router.operator.reporting.gather import ReportQuestion, gather
from router.operator.reporting.impact_framework import manifest
from router.operator.reporting.writing import files_of
from tests.ledger.receipts import ledger_of, receipts
from tests.operator.reporting.conftest import reported

ZONES = 3


def made_up(tmp_path, outcome, count=200):
    """A day in which callers asked for ``count`` models that are none, each one once."""
    rows = receipts(400, hours=24.0)
    for column, text in (("model", "made-up-{}"), ("outcome", outcome)):
        cells = np.array(rows.column(column).to_pylist(), dtype=object)
        cells[::2] = [text.format(at) for at in range(count)]
        place = rows.schema.get_field_index(column)
        array = pa.array(cells.tolist(), pa.string()).dictionary_encode()
        rows = rows.set_column(place, rows.schema.field(place), array)
    return gather(ReportQuestion(ledger_of(rows, tmp_path / "ledger"), Month(2026, 11)))


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_names_of_which_nothing_was_answered_are_one_child_a_grid_zone(tmp_path, outcome):
    report = made_up(tmp_path, outcome)
    text = manifest(report)
    children = yaml.safe_load(text)["tree"]["children"]
    assert "made-up" not in text
    assert len(children) <= (3 + 1) * ZONES
    rows = [row for child in children.values() for row in child["inputs"]]
    grams = sum(row["energy"] * row["grid/carbon-intensity"] for row in rows)
    assert grams == pytest.approx(report.total.mass("operational_g").g, rel=1e-9)
    assert sum(row["energy"] for row in rows) == pytest.approx(
        report.total.energy("facility_q").kwh
    )
    embodied = sum(row["carbon-embodied"] for row in rows)
    assert embodied == pytest.approx(report.total.mass("embodied_g").g, rel=1e-9)
    assert sum(row["requests"] for row in rows) == report.total.count("answered")
    assert sum(row["energy"] for row in children["nothing answered, SE"]["inputs"]) > 0.0


def test_names_of_which_nothing_was_answered_have_no_page(tmp_path):
    told = files_of(made_up(tmp_path, "failed"), "command")
    pages = [name for name in told if name.startswith(("spdx-", "transparency-"))]
    assert len(pages) == 2 * 3
    # Tables have all of them.
    assert b"made-up-199" in told["hours.csv"]


def test_two_groups_of_one_name_are_added_up(settled):
    report = reported(settled)
    whole = yaml.safe_load(manifest(report))["tree"]["children"]["sd3/SE"]["inputs"]
    twice = impact_framework._summed(replace(report, group_hours=report.group_hours * 2))
    sums = [one for (name, _), one in twice.items() if name == "sd3/SE"]
    once = sum(row["energy"] for row in whole)
    assert sum(one.energy("facility_q").kwh for one in sums) == pytest.approx(2.0 * once)


def test_without_libyaml_it_is_the_same_bytes(settled, monkeypatch):
    text = manifest(reported(settled))
    monkeypatch.setattr(impact_framework, "_DUMPER", yaml.SafeDumper)
    assert manifest(reported(settled)) == text
