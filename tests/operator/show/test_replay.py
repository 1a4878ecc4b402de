import io
import json
import math

import pytest
from rich.console import Console

from router.core.answered import KeptAnswer
from router.ledger.decisions.code_version import code_version
from router.ledger.decisions.reading import DecisionLedger
from router.operator.replaying import OtherPolicy, Replay, replay, tell
from router.operator.show.replay import (
    _change,
    render_replay,
    render_told,
    replay_json,
    told_json,
)
from tests.ledger.kept import kept_decisions, write_all, writer_of


def text(renderable):
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    kept = list(kept_decisions(1, 400, share=0.5))
    write_all(writer_of(folder, code_version()), kept)
    return folder, kept


def test_a_replay_says_that_nothing_differs(ledger):
    folder, kept = ledger
    found = replay(DecisionLedger(folder))
    told = text(render_replay(found))
    assert f"{len(kept)} taken again, 0 differences" in told
    assert f"{code_version()} (this code)" in told
    plain = json.loads(replay_json(found))
    assert plain["exact"]
    assert plain["first"].endswith("Z")
    assert plain["codes"][0]["otherwise"] == 0
    assert plain["effect"] is None


def test_another_policy_is_told_in_one_line_and_two_tables(ledger):
    folder, _ = ledger
    found = replay(DecisionLedger(folder), OtherPolicy("latency-first"))
    told = text(render_replay(found))
    for part in (
        "by latency-first: of about", "would go elsewhere", "predicted grams", "p95 TTFT",
        "refused", "llama", "image", "all", "share of requests", "First order",
    ):  # fmt: skip
        assert part in told
    plain = json.loads(replay_json(found))
    assert plain["effect"]["total"]["elsewhere"]["share"] > 0.0


def test_differences_and_holes_are_told(ledger):
    folder, _ = ledger
    reads = list(DecisionLedger(folder))
    wrong = [reads[0]._replace(row=reads[0].row._replace(code="0.0.9", answer=KeptAnswer("whim")))]
    found = replay([*wrong, reads[1]._replace(kept=None)])
    told = text(render_replay(found))
    assert "0.0.9: 1 taken again, 1 differences, 1 of them go elsewhere" in told
    assert "1 cannot be taken again" in told


def test_where_nothing_could_be_taken_again_that_is_said(ledger):
    folder, _ = ledger
    found = replay([one._replace(kept=None) for one in DecisionLedger(folder)],
                   OtherPolicy("latency-first"))  # fmt: skip
    told = text(render_replay(found))
    assert "none of them could be taken again" in told
    assert "would go elsewhere" not in told
    assert json.loads(replay_json(found))["exact"] is False
    assert Replay().is_exact and not Replay().is_void


def test_names_in_a_ledger_are_shown_and_not_obeyed(ledger):
    folder, _ = ledger
    (read, *_) = DecisionLedger(folder)
    found = replay([read._replace(row=read.row._replace(code="0\x1b[2J", policy="[red]p\n"))])
    told = text(render_replay(found))
    assert "0\ufffd[2J: 1 taken again" in told
    assert "by [red]p\ufffd" in told


def test_nothing_is_told_as_nothing():
    assert "no kept decision" in text(render_replay(Replay()))
    assert json.loads(replay_json(Replay()))["first"] is None


def test_one_decision_with_its_candidates(ledger):
    folder, kept = ledger
    one = next(one for one in kept if one.sight.answered.decision and one.attempt == 1)
    found = tell(DecisionLedger(folder), one.decision_id)
    told = text(render_told(found))
    assert f"{one.decision_id} attempt 1 (first); snapshot" in told
    assert f"it went to {one.sight.answered.decision.endpoint.name}" in told
    assert "chosen" in told
    (plain,) = json.loads(told_json(found))
    assert plain["answered"]["endpoint"] == one.sight.answered.decision.endpoint.name
    assert not math.isnan(plain["explanation"]["candidates"][0]["ttft_ms"])
    refused = next(one for one in kept if one.sight.answered.decision is None)
    read = next(r for r in DecisionLedger(folder) if r.row.answer.refusal)
    told = text(render_told(tell([read], read.row.decision_id)))
    assert "it was refused: " in told
    assert refused.sight.answered.refusal
    changed = found[0]._replace(otherwise=("ttft_ms",))
    assert "this code decides otherwise: ttft_ms" in text(render_told([changed]))


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [(2.0, 1.0, "-50.0%"), (1.0, 9.0, "+800.0%"), (0.001, 16.0, "x 16,000"), (0.0, 1.0, "-")],
)
def test_of_next_to_nothing_a_change_is_told_by_how_often(then, now, told):
    assert _change(then, now) == told
