import json

import pytest

from router.core.seen import Answered
from router.ledger.decisions.code_version import code_version
from tests.cli.command_line import run
from tests.ledger.kept import kept_decisions, write_all, writer_of


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    kept = list(kept_decisions(1, 200))
    write_all(writer_of(folder, code_version()), kept)
    return str(folder), kept


def test_replay_says_that_nothing_differs(ledger, capsys):
    folder, kept = ledger
    assert run("replay", folder) == 0
    assert f"{len(kept)} taken again, 0 differences" in capsys.readouterr().out
    span = ("--from", "2023-11-14T00:00Z", "--to", "2023-11-15T00:00Z")
    assert run("replay", folder, "--json", *span) == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == len(kept)
    assert run("replay", folder, "--to", "2023-11-14T00:00Z") == 0
    assert "no kept decision" in capsys.readouterr().out


def test_replay_by_another_policy(ledger, capsys):
    folder, _ = ledger
    assert run("replay", folder, "--policy", "latency-first", "--model", "image") == 0
    assert "would go elsewhere" in capsys.readouterr().out


def test_replay_tells_one_decision(ledger, capsys):
    folder, kept = ledger
    name = next(one.decision_id for one in kept if one.decision_id)
    assert run("replay", folder, "--id", name) == 0
    assert name in capsys.readouterr().out
    assert run("replay", folder, "--id", name, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["decision_id"] == name
    assert run("replay", folder, "--id", "nobody") == 1
    assert "no such decision was kept" in capsys.readouterr().err


def test_differences_by_this_code_are_a_failure(tmp_path, capsys):
    kept = [
        one._replace(sight=one.sight._replace(answered=Answered(None, "whim")))
        for one in kept_decisions(1, 5)
    ]
    write_all(writer_of(tmp_path, code_version()), kept)
    assert run("replay", str(tmp_path)) == 1
    assert "5 differences" in capsys.readouterr().out
    write_all(writer_of(tmp_path / "other", "0.0.9"), kept)
    assert run("replay", str(tmp_path / "other")) == 0


def test_a_replay_of_nothing_that_could_be_taken_again_is_a_failure(tmp_path, capsys):
    write_all(writer_of(tmp_path, "0.0.9"), list(kept_decisions(1, 12)))
    for path in (tmp_path / "documents").rglob("*.parquet"):
        path.unlink()
    assert run("replay", str(tmp_path)) == 1
    assert "none of them could be taken again" in capsys.readouterr().out
    assert run("replay", str(tmp_path), "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["exact"], told["unreplayable"]) == (False, told["decisions"])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--policy", "latncy-first"), 2, "latency-first"),
        (("--from", "yesterday"), 2, "--from"),
    ],
)
def test_replay_refuses_what_is_wrong(ledger, capsys, arguments, code, told):
    assert run("replay", ledger[0], *arguments) == code
    assert told in capsys.readouterr().err
