import json

import pytest

from router.errors import DataError
from router.operator.watching.connection import FeedEvent
from router.operator.watching.lines import DecisionFilter, DecisionLines, decision_values
from tests.fakes.console_feed import decision, tick

RECEIPT = {"gco2e_g": 0.2, "ttft_ms": 80.0, "e2e_ms": 950.0, "attempts": 1}


def decisions(*documents):
    return FeedEvent("decisions", json.dumps(documents).encode())


TICK = FeedEvent("tick", json.dumps(tick()).encode())


def test_a_decision_is_told_once_with_its_answer():
    lines = DecisionLines(DecisionFilter())
    assert lines.take(decisions(decision())) == []
    assert lines.take(TICK) == []
    assert (lines.share, lines.has_settled) == (0.25, False)
    (one,) = lines.take(decisions(decision(receipt=RECEIPT)))
    assert one.receipt.e2e_ms == 950.0
    assert lines.take(decisions(decision(receipt=RECEIPT))) == []


def test_its_share_is_worth_telling_once_the_gateway_has_found_it():
    lines = DecisionLines(DecisionFilter())
    for _ in range(5):
        assert not lines.has_settled
        lines.take(TICK)
    assert lines.has_settled


def test_a_refusal_is_told_at_once_and_what_is_not_answered_in_the_end():
    lines = DecisionLines(DecisionFilter(), patience_ticks=2)
    (refused,) = lines.take(decisions(decision("r", refusal="shed"), decision("late")))
    assert refused.refusal == "shed"
    assert lines.take(TICK) == []
    (late,) = lines.take(TICK)
    assert (late.key, late.receipt) == ("late", None)
    assert lines.take(decisions(decision("late", receipt=RECEIPT))) == []


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (DecisionFilter(), "abc"),
        (DecisionFilter(tenant="acme"), "ab"),
        (DecisionFilter(model="tiny"), "b"),
        (DecisionFilter(region="south"), "c"),
        (DecisionFilter(reason="shed"), "a"),
        (DecisionFilter(reason="latency"), "b"),
        (DecisionFilter(reason="carbon_stale"), "abc"),
        (DecisionFilter(tenant="acme", model="tiny", region="south"), ""),
    ],
)
def test_only_what_is_wanted(wanted, keys):
    lines = DecisionLines(wanted)
    found = lines.take(
        decisions(
            decision("a", refusal="shed"),
            decision("b", model="tiny", relaxed=["latency"], receipt=RECEIPT),
            decision("c", tenant="beta", region="south", receipt=RECEIPT),
        )
    )
    assert "".join(one.key for one in found) == keys


def test_what_waits_and_what_is_remembered_is_bounded():
    lines = DecisionLines(DecisionFilter())
    told = []
    for part in range(10):
        told += lines.take(decisions(*(decision(f"{part}-{i}") for i in range(1000))))
    assert len(lines._waiting) == 4096
    assert len(lines._told) == 4096
    assert len(told) == 10_000 - 4096


def test_garbage_is_an_error():
    with pytest.raises(DataError):
        DecisionLines(DecisionFilter()).take(FeedEvent("decisions", b'[{"key": 1}]'))


def test_for_programs_it_is_as_it_came():
    lines = DecisionLines(DecisionFilter())
    (one,) = lines.take(decisions(decision(receipt=RECEIPT)))
    assert decision_values(one)["receipt"] == RECEIPT
