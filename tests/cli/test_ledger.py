from __future__ import annotations

import json

import pytest

from router.units import DAY_S
from tests.cli.command_line import run
from tests.ledger.rows import SEVEN_S, cells
from tests.ledger.support import Writing, files, links


@pytest.fixture
def ledger(tmp_path):
    made = Writing(tmp_path / "ledger")
    for _ in range(3):
        made.record(cells(4))
        made.seal()
    made.killed()
    return made.root


def test_days_are_listed(ledger, capsys) -> None:
    assert run("ledger", "ls", str(ledger)) == 0
    assert "2026-11-30" in capsys.readouterr().out
    assert run("ledger", "ls", str(ledger), "--json") == 0
    (day,) = json.loads(capsys.readouterr().out)["receipts"]
    assert (day["files"], day["rows"], day["writers"], day["missing"]) == (3, 12, 1, 0)


def test_a_whole_ledger_is_verified(ledger, capsys) -> None:
    newest = links(ledger)[-1].hash
    assert run("ledger", "verify", str(ledger), "--expect", newest) == 0
    told = capsys.readouterr().out
    assert "whole: 3 files, 12 rows, 0 known to be missing" in told
    assert newest in told


def test_a_fault_is_exit_code_1_and_named(ledger, capsys) -> None:
    newest = links(ledger)[-1].hash
    files(ledger)[1].unlink()
    assert run("ledger", "verify", str(ledger)) == 1
    assert "rows 5 to 8 of gw-0-x are missing" in capsys.readouterr().out
    assert run("ledger", "verify", str(ledger), "--json") == 1
    found = json.loads(capsys.readouterr().out)["receipts"]
    assert len(found["faults"]) == 2
    assert found["heads"]["gw-0-x"] == {"link": 3, "hash": newest}


def test_what_was_cut_off_is_known_by_a_hash(ledger, capsys) -> None:
    newest = links(ledger)[-1].hash
    files(ledger)[-1].unlink()
    assert run("ledger", "verify", str(ledger)) == 0
    assert run("ledger", "verify", str(ledger), "--expect", newest) == 1
    assert f"the batch with the hash {newest} is not there" in capsys.readouterr().out


def test_files_are_made_fewer_and_old_ones_removed(tmp_path, capsys) -> None:
    made = Writing(tmp_path / "ledger")
    for _ in range(3):
        made.record(cells(4, SEVEN_S - 1000 * DAY_S))
        made.seal()
    where = str(made.root)
    assert run("ledger", "compact", where) == 0
    assert "receipts: 3 files became 1" in capsys.readouterr().out
    assert run("ledger", "prune", where, "--older-than", "15000") == 0
    assert "receipts: 0 files of before" in capsys.readouterr().out
    assert run("ledger", "prune", where, "--older-than", "30") == 0
    assert "receipts: 1 files of before" in capsys.readouterr().out
    assert run("ledger", "verify", where) == 0


def test_what_is_no_ledger_is_told(tmp_path, capsys) -> None:
    assert run("ledger", "verify", str(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "data_invalid" in told and "no ledger, or none with receipts" in told
    assert run("ledger", "ls", "gopher://x") == 1
    assert run("ledger", "ls", str(tmp_path), "--table", "x") == 2


def test_rows_of_a_period_are_csv(ledger, capsysbinary) -> None:
    period = ("--from", "2026-11-30", "--to", "2026-12-01")
    assert run("ledger", "receipts", str(ledger), *period) == 0
    assert capsysbinary.readouterr().out.count(b"\n") == 13
    assert run("ledger", "receipts", str(ledger), *period, "--tenant", "name 2", "--plain") == 0
    some = capsysbinary.readouterr().out
    assert 1 < some.count(b"\n") < 13 and b'"name 2"' in some
    assert run("ledger", "receipts", str(ledger), *period, "--tenant", "name 2") == 0
    assert capsysbinary.readouterr().out.count(b"\n") == 1
    assert run("ledger", "receipts", str(ledger), "--from", "soon") == 2
    files(ledger)[0].write_bytes(b"x")
    assert run("ledger", "receipts", str(ledger), *period) == 1
    told = capsysbinary.readouterr()
    assert told.out.count(b"\n") == 9 and b"without the rows of" in told.err
