"""Receipts of the last while."""

import math

import pytest

from router.console.traffic import (
    WINDOW_S,
    OwnTotals,
    ReceiptTraffic,
    flows_document,
    receipt_document,
)
from router.model import Alternative, Budget, Request
from router.telemetry.metrics import saved_g
from tests.factories import endpoint, served
from tests.gateway.support import decision, receipt


def answered(region="west", nearest="east", **changes):
    first = Alternative(endpoint("n-0", nearest), served(), 300.0)
    return receipt(region=region, decision=decision(latency_first=first), **changes)


def test_flows_lead_from_where_latency_first_would_have_gone():
    receipts = [answered(), answered(), answered("east"), answered(gco2e=math.nan)]
    found = flows_document(receipts, 7, 2.0)
    assert (found["seen"], found["answered"], found["seconds"]) == (4, 7, 2.0)
    (stays, moves) = found["rows"]
    assert stays[:3] == ["east", "east", 1.0]
    assert moves[:3] == ["east", "west", 3.0]
    assert moves[3] == pytest.approx(2 * receipt().gco2e)
    assert moves[4] == pytest.approx(3 * saved_g(receipt()))


def test_latencies_are_of_the_last_while_and_of_one_owner():
    traffic = ReceiptTraffic()
    limits = Budget(ttft_ms=100.0, explicit=True)
    for number in range(20):
        who = "acme" if number % 2 else "other"
        traffic.take(
            receipt(request=Request("llama", tenant=who, budget=limits), ttft_ms=10.0 * number)
        )
    new, count = traffic.turn(50.0, ["acme"])
    assert len(new) == count == 20
    assert traffic.turn(50.5, ["acme"]) == ([], 0)
    (model,) = traffic.latency_document("acme")["models"]
    assert model["requests"] == 10
    assert model["ttft_ms"] == [90.0, 170.0]
    # At 10, 30, ..., 90 ms they kept to it; what took no time was not measured.
    assert model["ttft_budget"] == {"least_ms": 100.0, "met": 5, "missed": 5}
    assert model["e2e_budget"] is None
    assert traffic.latency_document(None)["models"][0]["requests"] == 20
    traffic.turn(51.0 + WINDOW_S)
    assert traffic.latency_document(None)["models"] == []
    # Of whom nobody asks any more, nothing is kept.
    assert traffic.latency_document("acme")["models"] == []


def test_more_than_is_kept_is_counted():
    traffic, one = ReceiptTraffic(), receipt()
    for _ in range(9000):
        traffic.take(one)
    new, count = traffic.turn(1.0)
    assert (len(new), count) == (8192, 9000)


def test_an_owners_sums_leave_out_what_is_not_known():
    own = OwnTotals(5.0)
    own.add(receipt(request=Request("llama", budget=Budget(e2e_ms=2000.0))))
    own.add(receipt(gco2e=math.nan, energy_j=math.nan))
    told = own.document()
    assert told["requests"] == 2
    assert told["gco2e_g"] == pytest.approx(receipt().gco2e)
    assert (told["met"], told["missed"], told["since"]) == (1, 0, 5.0)


def test_a_receipt_is_told_as_it_is():
    one = receipt(ttft_ms=math.nan)
    told = receipt_document(one)
    assert told["gco2e_g"] == one.gco2e and told["energy_j"] == one.energy_j
    assert told["energy_kind"] == "emulated" and told["ttft_ms"] is None
