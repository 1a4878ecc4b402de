"""What records say of requests, and that what cannot be is not learned from."""

import json
import math

import pytest

from router.director import View
from router.http_api import ENERGY, USAGE
from router.load.usage import HttpReports
from router.planes.envoy.layout import DEPARTED, ENDED, NO_MODEL, REFUSED
from router.planes.envoy.record_requests import energy_of, is_sound, usage_of
from tests import factories as f
from tests.planes.envoy.records import record


def reported(made):
    return HttpReports().read(((USAGE, usage_of(made)),))


def test_usage_is_read_from_the_end_of_an_answer():
    usage = {
        "prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}
    }  # fmt: skip
    tail = (b'ut off "usage": {1} ' + json.dumps({"usage": usage}).encode())[-1024:]
    made = record(is_http=1, tail=tail, tail_length=len(tail))
    said = reported(made)
    assert (said.output_tokens, said.cached_tokens, said.input_tokens) == (5.0, 2.0, 7.0)
    for broken in (
        b'"usage": {"completion_tokens": ', b'{"usage": null}', b"",
        b'"usage":{"completion_tokens":' + b"[" * 990,
        b'"usage":{"completion_tokens":1e999}', b'"usage":{"completion_tokens":-5}}',
    ):  # fmt: skip
        made = record(is_http=1, tail=broken, tail_length=len(broken))
        assert math.isnan(reported(made).output_tokens)


def test_usage_is_read_from_the_last_event_of_a_stream():
    events = (
        b'data: {"choices":[],"usage":{"completion_tokens":1}}\n\n'
        b'data: {"choices":[],"usage":{"completion_tokens":5,"energy":{"joules":3.5}}}\r\n\r\n'
        b"data: [DONE]\n\n"
    )
    made = record(is_http=1, streams=1, tail=events, tail_length=len(events))
    assert (reported(made).output_tokens, reported(made).energy_j) == (5.0, 3.5)


def test_energy_is_read_from_the_comment_at_the_end_of_a_stream():
    events = (
        b'data: {"choices":[],"usage":{"completion_tokens":5}}\n\n'
        b': energy {"joules": 2.5, "source": "measured"}\n\ndata: [DONE]\n\n'
    )
    made = record(is_http=1, streams=1, tail=events, tail_length=len(events))
    said = HttpReports().read(((USAGE, usage_of(made)), (ENERGY, energy_of(made))))
    assert (said.output_tokens, said.energy_j) == (5.0, 2.5)
    # Of no line that was cut off, and in no answer in one piece.
    cut = events[: events.index(b"joules")]
    for fields in ({"streams": 1, "tail": cut}, {"streams": 0, "tail": events}):
        assert energy_of(record(is_http=1, tail_length=len(fields["tail"]), **fields)) == b""


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": 0}, {"kind": 4}, {"model": 99}, {"model": NO_MODEL}, {"rung": 99}, {"seat": -1},
        {"seat": 0}, {"first_seat": 10**6}, {"row": 2}, {"row": -1}, {"nearest": 2},
        {"rtt_row": 10**6}, {"rtt_row": -1}, {"departed_s": math.nan}, {"departed_s": 0.5},
        {"ended_s": math.inf}, {"ended_s": 1.5}, {"payload_bytes": math.nan},
        {"payload_bytes": -1.0},
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_is_not_learned_from(fields):
    fleet = f.fleet(f.endpoint("a", "north"), f.endpoint("b", "south"))
    snapshot = f.snapshot(fleet, f.policy(), f.forecasts(north=[100.0] * 24, south=[100.0] * 24))
    view = View(snapshot, f.board(snapshot))
    for kind in (DEPARTED, ENDED):
        times = {"started_s": 1.0, "departed_s": 2.0, "ended_s": 3.0}
        sound = {"kind": kind, "seat": 1, "first_seat": 1, **times}
        assert is_sound(record(**sound), view)
        if kind == ENDED or "ended_s" not in fields:
            assert not is_sound(record(**{**sound, **fields}), view)
    refused = record(kind=REFUSED, model=NO_MODEL, started_s=1.0, ended_s=2.0)
    assert is_sound(refused, view)
    refused.model = 7
    assert not is_sound(refused, view)
