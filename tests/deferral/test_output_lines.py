import json
import math

import msgspec
import pytest

from router.deferral.output_lines import answered, failed, sums_of, written
from router.deferral.values import CANCELLED, EXPIRED, BadLine, LineError, StoredLine
from tests.gateway.support import receipt


def one(outcome, custom_id="mine"):
    line = StoredLine(3, custom_id, outcome.is_ok, outcome.document, "")
    text = written("batch_1", line)
    assert text.endswith(b"\n") and text.count(b"\n") == 1
    return json.loads(text)


def test_an_answer_stays_as_the_server_wrote_it():
    body = b'{"id":"c","n":1.0,"big":12345678901234567890123}'
    outcome = answered(200, "gw-1", body, {"gco2e": 0.5})
    assert outcome.is_ok
    assert body in outcome.document
    assert one(outcome) == {
        "id": "batch_1_req_3", "custom_id": "mine", "error": None, "carbon": {"gco2e": 0.5},
        "response": {"status_code": 200, "request_id": "gw-1", "body": json.loads(body)},
    }  # fmt: skip


def test_an_answer_over_several_lines_is_one():
    assert one(answered(200, "", b'{\n  "id": "c"\n}'))["response"]["body"] == {"id": "c"}


@pytest.mark.parametrize("body", [b"<html>\xff</html>", b"", b"{" * 5000])
def test_what_is_no_json_is_a_string(body):
    told = one(answered(502, "", body))
    assert told["response"]["body"] == body.decode(errors="replace")
    assert "carbon" not in told


def test_what_was_answered_badly_is_an_error_with_its_answer():
    outcome = answered(404, "gw-1", b'{"error":{"code":"model_unknown"}}')
    assert not outcome.is_ok
    assert one(outcome)["response"]["status_code"] == 404


def test_what_was_not_answered_says_why():
    assert one(failed("lost", "it is"))["error"] == {"code": "lost", "message": "it is"}
    for code in (EXPIRED, CANCELLED):
        told = json.loads(written("b", StoredLine(1, "mine", False, None, code)))
        assert (told["error"]["code"], told["response"], told["custom_id"]) == (code, None, "mine")


def test_what_asked_nothing_has_its_line_and_its_id():
    bad = BadLine(2, "mine", LineError("invalid_url", "line 2: url", 2, "url"))
    line = StoredLine(2, "", False, msgspec.json.encode(bad), "invalid_url")
    told = json.loads(written("b", line))
    assert told["custom_id"] == "mine"
    assert told["error"] == {
        "code": "invalid_url", "message": "line 2: url", "line": 2, "param": "url",
    }  # fmt: skip


def test_what_is_not_known_adds_nothing():
    sums = sums_of(receipt(input_tokens=math.nan, output_tokens=math.inf, gco2e=0.5), math.nan)
    assert sums == (0, 0, 0.5, 0.0, 1, 0)
