from pathlib import Path

from router.ledger.month import Month
from router.ledger.quantities import FunctionalUnit
from router.operator.reporting.command import command_of, make_report
from router.operator.reporting.gather import ReportQuestion
from tests.operator.reporting.conftest import ROWS


def test_the_command_names_no_folder_of_ours():
    question = ReportQuestion(
        Path("/srv/books/ledger"),
        Month(2026, 11),
        pue=Path("/srv/pue.csv"),
        units={"sd 3": (FunctionalUnit.VIDEO_SECOND, 5.0)},
    )
    assert command_of(question) == (
        "carbon-router report ledger --month 2026-11 --per model --factors lifecycle "
        "--pue pue.csv --unit 'sd 3=video-second:5' --out OUT"
    )


def test_files_are_written_where_they_are_asked_for(ledger, tmp_path):
    report = make_report(ReportQuestion(ledger, Month(2026, 11)), tmp_path / "out")
    assert report.total.count("rows") == ROWS
    assert (tmp_path / "out" / "sci.csv").is_file()
