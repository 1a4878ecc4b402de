"""Decisions taken again by another policy."""

import pytest

from router.console.decisions import ShownDecisions
from router.console.feed import json_of
from router.console.what_if import effect_document, policy_names, what_if
from router.core.seen import DecisionKind
from router.errors import ConfigError
from tests.ledger.kept import kept_decisions


@pytest.fixture(scope="module")
def shown():
    kept = ShownDecisions()
    for one in kept_decisions(5, 200, share=0.5):
        kept.keep(one)
    return kept.turn()


def test_by_another_policy_requests_go_elsewhere(shown):
    effect = what_if(shown, "latency-first")
    first = [one.kept.sight for one in shown if one.kept.kind is DecisionKind.FIRST]
    weight = sum(1.0 / sight.probability for sight in first)
    assert effect.total.requests == pytest.approx(weight)
    assert 0.0 < effect.total.elsewhere.share <= 1.0
    then = sum(region.requests_then for region in effect.regions)
    refused = sum(1.0 / one.probability for one in first if one.answered.decision is None)
    assert then == pytest.approx(weight - refused)
    json_of(effect_document(effect))


def test_only_names_of_shipped_policies_are_taken(shown):
    assert "carbon-first" in policy_names()
    for chosen in ("../../etc/passwd", "/etc/passwd", "x.yaml", "", "carbon-first.yaml"):
        with pytest.raises(ConfigError, match="shipped"):
            what_if(shown, chosen)


def test_of_no_decisions_nothing_is_said():
    effect = what_if([], "carbon-first")
    assert effect.total.requests == 0.0
    assert effect_document(effect)["total"]["elsewhere"]["share"] is None
