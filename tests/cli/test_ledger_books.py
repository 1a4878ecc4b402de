"""settle and report, as an operator calls them."""

import json

import pytest

from tests.cli.command_line import run
from tests.ledger.receipts import ledger_of, receipts
from tests.operator.reporting.conftest import wide_csv


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return ledger_of(receipts(600, hours=3.0), tmp_path_factory.mktemp("books") / "ledger")


def test_a_month_is_settled_and_reported(ledger, tmp_path, capsys):
    (tmp_path / "grid.csv").write_text(wide_csv(3))
    arguments = (
        "settle", str(ledger), "--intensities", str(tmp_path / "grid.csv"),
        "--at", "2026-11-05T00:00Z",
    )  # fmt: skip
    assert run(*arguments) == 0
    assert "9 hours priced, 0 revised" in capsys.readouterr().out
    assert run(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unchanged"] == 9
    out = str(tmp_path / "out")
    assert run("report", str(ledger), "--month", "2026-11", "--out", out) == 0
    assert "llama-3.1-8b" in capsys.readouterr().out
    assert (tmp_path / "out" / "transparency-llama-3.1-8b.html").is_file()
    assert run("report", str(ledger), "--month", "2026-11", "--per", "tenant", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["tenant"] for row in told["sci"]} >= {"team-0", "(all)"}
    images = ("--unit", "sd3=image:4", "--json")
    assert run("report", str(ledger), "--month", "2026-11", *images) == 0
    units = {row["functional_unit"] for row in json.loads(capsys.readouterr().out)["sci"]}
    assert units == {"request", "token", "output token", "image"}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("report", "{ledger}", "--month", "November"), 2, "no month"),
        (("report", "{ledger}", "--month", "2026-11", "--per", "planet"), 2, "one of tenant"),
        (("report", "{ledger}", "--month", "2026-11", "--unit", "sd3"), 2, "is not A=B"),
        (("report", "{ledger}", "--month", "2026-11", "--unit", "sd3=mile"), 2, "a unit of token"),
        (("report", "{ledger}", "--month", "2025-01"), 1, "no receipt ended in 2025-01"),
        (("report", "{ledger}/none", "--month", "2026-11"), 1, "no ledger"),
        (("report", "{ledger}", "--month", "2026-11", "--memory", "much"), 2, "--memory"),
        (("settle", "{ledger}"), 2, "--intensities"),
        (("settle", "{ledger}", "--intensities", "none.csv"), 2, "none.csv"),
        (("settle", "{ledger}", "--intensities", "x.csv", "--renamed", "SE"), 2, "is not A=B"),
    ],
)
def test_what_is_wrong_is_told(ledger, capsys, arguments, code, told):
    assert run(*(one.format(ledger=ledger) for one in arguments)) == code
    assert told in capsys.readouterr().err
