"""What waiting saved, by tenant: added up by hand, and said with its baseline."""

import csv
import json

import pytest
from rich.console import Console

from router.ledger.month import Month
from router.ledger.sealed_files import seal_rows
from router.ledger.tables import RECEIPTS
from router.operator.reporting.gather import Per, ReportQuestion, gather
from router.operator.reporting.waiting import BASELINE
from router.operator.reporting.writing import files_of
from router.operator.show.report import render_report, report_json
from tests.ledger.receipts import ledger_of, receipts
from tests.ledger.rows import SEVEN_S, cells

NAMES = [column.name for column in RECEIPTS.columns[2:]]
AVERAGE, MARGINAL = "average/lifecycle", "marginal/lifecycle"
# A millisecond before December.
LAST_US = round((SEVEN_S + 17 * 3600.0) * 1e6) - 1000


def row(tenant, gco2e=None, at_once=None, basis=AVERAGE, kind="forecast", **changes):
    told = {
        "tenant": tenant, "outcome": "answered", "waited_s": 5400.0, "gco2e": gco2e,
        "at_once_gco2e": at_once, "at_once_basis": basis, "at_once_kind": kind,
        "basis": "average", "factors": "lifecycle", "finished_at": LAST_US, "run_s": 1.0,
        "energy_j": 3.6e6, "pue": 1.0, "network_j": 0.0, **changes,
    }  # fmt: skip
    (made,) = cells(1)
    return tuple(told.get(name, value) for name, value in zip(NAMES, made, strict=True))


ROWS = [
    row("acme", 1.0, 1.5),
    row("acme", 2.0, 1.75, kind="measured"),
    # Found no place when it came: it waited, and there is nothing to compare it with.
    row("acme", 4.0, None, None, None),
    row("zeta", 8.0, 10.0, MARGINAL),
    row("zeta", 1.0, 3.0),
    # None of these is an answer that waited, in November.
    row("zeta", 1.0, 99.0, outcome="moved"),
    row("zeta", 1.0, 99.0, outcome="failed"),
    row("zeta", 1.0, None, None, None, waited_s=None),
    row("zeta", 1.0, 99.0, finished_at=LAST_US + 2000, run_s=0.0),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("waited") / "ledger"
    seal_rows(RECEIPTS, ROWS[:4], root, "gw")
    seal_rows(RECEIPTS, ROWS[4:], root, "other")
    return gather(ReportQuestion(root, Month(2026, 11), per=Per.TENANT))


def test_it_is_told_by_tenant_and_basis_and_bases_are_never_added(report):
    told = json.loads(report_json(report))["waiting"]
    found = {(one["tenant"], one["basis"]): one for one in told}
    assert list(found) == [
        ("acme", None), ("acme", AVERAGE), ("zeta", AVERAGE), ("zeta", MARGINAL),
        ("(all)", None), ("(all)", AVERAGE), ("(all)", MARGINAL),
    ]  # fmt: skip
    acme = found["acme", AVERAGE]
    assert (acme["answers_that_waited"], acme["waited_h"], acme["mean_wait_h"]) == (2, 3.0, 1.5)
    assert (acme["at_once_g"], acme["emitted_g"], acme["saved_g"]) == (3.25, 3.0, 0.25)
    assert acme["saved_share"] == pytest.approx(0.25 / 3.25)
    assert acme["baseline_intensity"] == "forecast; measured"
    assert acme["how"].startswith("estimated") and acme["baseline"] == BASELINE
    whole = found["(all)", AVERAGE]
    assert (whole["answers_that_waited"], whole["saved_g"]) == (3, 2.25)
    assert found["(all)", MARGINAL]["saved_g"] == 2.0


def test_what_has_nothing_to_be_compared_with_is_counted_and_is_not_0(report):
    told = json.loads(report_json(report))["waiting"]
    (unknown,) = [one for one in told if (one["tenant"], one["basis"]) == ("acme", None)]
    assert (unknown["answers_that_waited"], unknown["answers_compared"]) == (1, 0)
    assert unknown["saved_g"] is unknown["at_once_g"] is unknown["saved_share"] is None


def test_it_is_in_the_files_and_on_the_terminal(report, tmp_path):
    files = files_of(report, "carbon-router report")
    rows = list(csv.DictReader(files["waiting.csv"].decode().splitlines()))
    assert [one["tenant"] for one in rows][:3] == ["acme", "acme", "zeta"]
    assert json.loads(files["report.json"])["waiting"][0]["baseline"] == BASELINE
    console = Console(width=200)
    with console.capture() as printed:
        console.print(render_report(report, None))
    text = printed.get()
    assert "waiting, estimated" in text and BASELINE in text
    assert "answers that waited and have no baseline: 1" in text


def test_a_month_in_which_nothing_waited_has_no_such_table(tmp_path):
    ledger = ledger_of(receipts(200, hours=2.0), tmp_path / "ledger")
    report = gather(ReportQuestion(ledger, Month(2026, 11)))
    assert report.waited == ()
    assert "waiting.csv" not in files_of(report, "carbon-router report")
    console = Console(width=200)
    with console.capture() as printed:
        console.print(render_report(report, None))
    assert "waiting" not in printed.get()
