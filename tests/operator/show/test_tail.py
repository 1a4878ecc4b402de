import json

from router.operator.show.tail import decision_json, decision_line
from router.operator.watching.shapes import FeedDecision, decoded
from tests.fakes.console_feed import HOSTILE, decision

RECEIPT = {"gco2e_g": 0.2, "ttft_ms": 80.0, "e2e_ms": 950.0, "attempts": 1}


def one(**changes):
    return decoded(json.dumps(decision(**changes)).encode(), FeedDecision)


def test_what_was_asked_where_it_went_and_what_that_takes():
    assert decision_line(one(receipt=RECEIPT)) == (
        "22:13:20  llama  acme  -> north/north-0  0.200 g (-75% of south)  950 ms of 2000  "
        "carbon_stale  gw-1"
    )


def test_what_is_predicted_says_so():
    line = decision_line(one(budget={"ttft_ms": 150.0}, attempt=2, emulated=True, relaxed=["slo"]))
    assert "~0.250 g" in line
    assert "~900 ms, ttft 90.0 of 150" in line
    assert "attempt 2  emulated  relaxed:slo" in line


def test_a_refusal_has_its_reason_and_no_figures():
    line = decision_line(one(refusal="shed", flags=[], tenant=""))
    assert line == "22:13:20  llama  -  REFUSED shed  gw-1"


def test_no_name_reaches_the_terminal_as_it_is():
    hostile = one(name=lambda text: text + HOSTILE)
    assert decision_line(hostile).isprintable()
    assert decision_json(hostile).isascii()
