"""The newest decisions: bounded, and each told as it was."""

import random

from router.console.decisions import (
    ShownDecisions,
    decision_document,
    explained,
    explanation_document,
)
from router.console.feed import json_of
from router.core.seen import explain_again
from router.unknown_figures import plain_values
from tests.gateway.support import receipt
from tests.ledger.kept import kept_decisions


def shown(count=60, **bounds):
    kept = ShownDecisions(**bounds)
    decisions = list(kept_decisions(3, count))
    for one in decisions:
        kept.keep(one)
    return kept, decisions


def test_a_row_says_what_was_decided():
    kept, decisions = shown()
    new = kept.turn()
    assert len(new) == len(decisions) and kept.turn() == []
    assert len({one.key for one in new}) == len(new)
    for one, source in zip(new, decisions, strict=True):
        row, answered = decision_document(one), source.sight.answered
        json_of(row)
        assert row["refusal"] == answered.refusal
        if answered.decision is None:
            assert "endpoint" not in row
            continue
        assert row["endpoint"] == answered.decision.endpoint.name
        assert row["latency_first"]["endpoint"] == answered.decision.latency_first_endpoint
        known = answered.decision.gco2e
        assert row["gco2e_g"] == (known if known == known else None)


def test_every_term_is_that_of_the_decision():
    kept, _ = shown()
    for one in kept.turn():
        found = explained(one)
        sight = one.kept.sight
        again = explain_again(sight.seen, sight.snapshot)
        assert plain_values(found.candidates) == plain_values(again.candidates)
        told = explanation_document(one, found)
        json_of(told)
        decided = one.kept.sight.answered.decision
        if decided is None:
            continue
        (chosen,) = [
            candidate
            for candidate in told["candidates"]
            if candidate["endpoint"] == decided.endpoint.name and candidate["rank"] == 1
        ]
        assert chosen["ttft_ms"] == decided.ttft_ms and chosen["energy_j"] == decided.energy_j
        assert all(one["excluded"] for one in told["candidates"] if one["cost"] is None)


def test_an_explanation_of_many_candidates_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr("router.console.decisions.MOST_CANDIDATES", 2)
    kept, _ = shown()
    for one in kept.turn():
        found = explained(one)
        told = explanation_document(one, found)
        assert len(told["candidates"]) + told["not_shown"] == len(found.candidates)
        assert sum(told["by_exclusion"].values()) == len(found.candidates)
        if found.decision is not None:
            names = {candidate["endpoint"] for candidate in told["candidates"]}
            assert {found.decision.endpoint.name, found.decision.latency_first_endpoint} <= names


def test_the_oldest_go_by_number_and_by_bytes():
    kept, _ = shown(most=10)
    kept.turn()
    assert len(kept.all()) == 10
    kept, decisions = shown(most_bytes=250_000)
    kept.turn()
    assert 0 < len(kept.all()) < len(decisions)
    assert kept._bytes <= 250_000
    first = decisions[0].decision_id
    assert kept.find(first) is None
    last = kept.all()[-1]
    assert kept.find(last.key) is last
    kept.clear()
    assert (kept._bytes, kept.all(), kept._snapshots) == (0, [], {})


def test_an_answer_joins_its_decision_once():
    kept, _ = shown()
    rows = [one for one in kept.turn() if one.kept.decision_id]
    chosen = random.Random(1).choice(rows)
    one = receipt(decision_id=chosen.kept.decision_id)
    assert kept.answered([one, receipt(decision_id="of nobody")]) == [chosen]
    assert kept.answered([one]) == []
    assert chosen.receipt is one
