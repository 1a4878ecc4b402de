import json

import pytest
from rich.console import Console

from router.ledger.month import Month
from router.operator.reporting.gather import ReportQuestion, gather
from router.operator.show.report import _wait_text, render_report, report_json
from tests.ledger.receipts import ledger_of, receipts


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    ledger = ledger_of(receipts(900, hours=4.0), tmp_path_factory.mktemp("books") / "ledger")
    (lost,) = (ledger / "receipts" / "date=2026-11-01" / "hour=02").iterdir()
    lost.unlink()
    return gather(ReportQuestion(ledger, Month(2026, 11)))


def test_sums_and_what_is_missing_are_shown(report, tmp_path):
    console = Console(width=200)
    with console.capture() as printed:
        console.print(render_report(report, tmp_path))
    text = printed.get()
    assert "llama-3.1-8b" in text and "all" in text
    assert "rows of gw-1 are lost" in text
    assert "have no embodied figure" in text
    assert str(tmp_path) in text


def test_json_has_the_tables_without_the_long_ones(report):
    body = json.loads(report_json(report))
    assert body["month"] == "2026-11"
    assert body["lost_rows"][0]["writer"] == "gw-1"
    assert "hours" not in body


@pytest.mark.parametrize(
    ("hours", "text"), [(0.0, "0 s"), (6.6 / 3600, "6.6 s"), (0.04, "144 s"), (1.5, "1.5 h")]
)
def test_a_wait_of_seconds_is_not_0_hours(hours, text):
    assert _wait_text(hours) == text
