import json
from datetime import date

from rich.console import Console

from router.ledger.links import Gap, GapReason
from router.ledger.upkeep import DayOfFiles
from router.ledger.verification import LedgerFault, Verified, WriterGap
from router.operator.show.ledger import days_json, render_days, render_verified, verified_json

GAP = Gap(GapReason.KILLED, 4, 9, 1_796_022_000.0, 1_796_022_005.0)
FOUND = Verified(2, 20, (LedgerFault("a/b.parquet", "broken"),), (WriterGap("gw", GAP),), {})


def text_of(what) -> str:
    console = Console(width=200)
    with console.capture() as shown:
        console.print(what)
    return shown.get()


def test_faults_and_gaps_are_told_with_their_times() -> None:
    told = text_of(render_verified({"receipts": FOUND}))
    assert "receipts: a/b.parquet: broken" in told
    assert "receipts: gw: 6 rows missing (killed), 4 to 9, between 2026-11-30T07:00" in told
    assert "receipts: 1 faults: 2 files, 20 rows, 6 known to be missing" in told
    assert json.loads(verified_json({"receipts": FOUND}))["receipts"]["gaps"][0]["first_seq"] == 4


def test_names_of_files_and_writers_are_shown_and_not_obeyed() -> None:
    fault = LedgerFault("a\x1b[2J/[bold]b\nreceipts: whole.parquet", "broken \x9b2J")
    found = FOUND._replace(faults=(fault,), gaps=(WriterGap("gw\x1b]0;x\x07\u202e", GAP),))
    told = text_of(render_verified({"receipts": found}))
    assert "receipts: a\ufffd[2J/[bold]b\ufffdreceipts: whole.parquet: broken \ufffd2J" in told
    assert "receipts: gw\ufffd]0;x\ufffd\ufffd: 6 rows missing" in told
    plain = verified_json({"receipts": found})
    assert plain.isascii() and plain.isprintable()
    assert json.loads(plain)["receipts"]["faults"][0]["file"] == fault.file


def test_a_day_says_what_a_row_takes() -> None:
    day = DayOfFiles(date(2026, 11, 30), 2, 100, 5_230, 1, 0)
    assert "52.3" in text_of(render_days({"receipts": [day]}))
    assert json.loads(days_json({"receipts": [day]}))["receipts"][0]["day"] == "2026-11-30"
