import csv
import io
from datetime import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.ledger.asking.csv_rows import CSV_COLUMNS, FORMULA, csv_header, csv_rows, harmless
from router.ledger.asking.row_places import plain_rows
from router.ledger.asking.settled import SettledFigures
from router.ledger.columns import CellType
from router.ledger.tables import RECEIPTS, arrow_table
from router.model import Kind
from tests.ledger.asking.support import row

PRICE = SettledFigures(30.0, 29.0, 31.0, 0.25, Kind.MEASURED, "=op", 2, 1.8e9)


def told(cells, price=None):
    """Rows as who reads the CSV has them."""
    table = plain_rows(pa.Table.from_batches(arrow_table(RECEIPTS, "gw", 1, cells).to_batches()))
    text = (csv_header() + csv_rows(table, lambda row: price)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_cells_are_those_of_the_row_with_the_settled_ones_beside():
    (found,) = told([row(1, gco2e=0.125, ttft_ms=None)], PRICE)
    assert list(found) == [column.name for column in CSV_COLUMNS]
    assert not {"writer", "seq"} & found.keys()
    assert (found["gco2e"], found["settled_gco2e"], found["ttft_ms"]) == ("0.125", "0.25", "")
    assert datetime.fromisoformat(found["finished_at"]).utcoffset().total_seconds() == 0
    assert found["settled_source"] == "'=op" and found["settled_revision"] == "2"
    (found,) = told([row(1)])
    assert {found[name] for name in found if name.startswith("settled_")} == {""}


UNITLESS = ("pue", "quality", "quality_floor")


def test_times_and_figures_have_columns_with_units():
    for column in CSV_COLUMNS:
        # Ratios and scores have none.
        if column.type in (CellType.SINGLE, CellType.DOUBLE) and column.name not in UNITLESS:
            assert column.unit


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_no_text_of_a_caller_is_run_by_a_spreadsheet(text):
    (found,) = told([row(1, model=text, tenant=text)])
    assert not found["model"].startswith(FORMULA) and not found["tenant"].startswith(FORMULA)
    assert found["model"] == harmless(text)


@pytest.mark.parametrize("first", FORMULA)
def test_each_sign_that_a_formula_begins_with_is_shown(first):
    assert harmless(f"{first}1+1") == f"'{first}1+1"
    (found,) = told([row(1, model=f"{first}1+1", flags=f"{first}a")])
    assert found["model"] == f"'{first}1+1" and found["flags"] == f"'{first}a"


def test_figures_below_zero_are_none():
    assert harmless(-1.5) == -1.5 and harmless(None) is None
