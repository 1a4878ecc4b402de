"""What servers say of a request over HTTP: usage in every shape, energy, failures, pieces."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.contract import UNTIMED, AnswerSize, BackendReport, StatedTimes
from router.errors import UpstreamBusyError, UpstreamFaultError, UpstreamInternalError
from router.http_api import BODY, END, ENERGY, USAGE
from router.load.orca import NOTHING
from router.load.usage import HttpReports

NAN = math.nan


def event(value: Any, name: str = "") -> bytes:
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(value)}\n\n".encode()


def same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Equal, NaN being equal to NaN."""
    return repr(found) == repr(expected)


@pytest.fixture
def reports() -> HttpReports:
    return HttpReports()


# Events that state usage -> (input, output, cached) tokens.
USAGES = {
    "openai": (
        [{"usage": {
            "prompt_tokens": 9, "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 4},
        }}],
        (9.0, 3.0, 4.0),
    ),
    "nulls": (
        [{"usage": {"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None}}],
        (9.0, NAN, NAN),
    ),
    "responses": (
        [{"response": {"usage": {
            "input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4},
        }}}],
        (9.0, 3.0, 4.0),
    ),
    "anthropic": (
        [
            {"message": {"usage": {
                "input_tokens": 2, "output_tokens": 1, "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 3,
            }}},
            {"usage": {"output_tokens": 7}},
        ],
        (9.0, 7.0, 4.0),
    ),
    "llama.cpp": (
        [{"usage": {"prompt_tokens": 9, "completion_tokens": 3}, "timings": {"cache_n": 4}}],
        (9.0, 3.0, 4.0),
    ),
    "continuous": (
        [{"usage": {"completion_tokens": 1}}, {"usage": {"completion_tokens": 3}}],
        (NAN, 3.0, NAN),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", USAGES)
def test_usage_is_read_in_every_shape(reports: HttpReports, shape: str) -> None:
    stated, (tokens, output, cached) = USAGES[shape]
    trailers = [(USAGE, event(one)) for one in stated]
    expected = BackendReport(NAN, NAN, output, False, cached, tokens)
    assert same(reports.read(trailers), expected)
    assert reports.malformed == 0


@pytest.mark.parametrize("shape", sorted(USAGES.keys() - {"anthropic", "continuous"}))
def test_an_answer_in_one_piece_states_it_as_well(reports: HttpReports, shape: str) -> None:
    [stated], (tokens, output, cached) = USAGES[shape]
    body = json.dumps(stated).encode()
    assert same(reports.size(body, False), AnswerSize(float(len(body)), output, cached, tokens))


def test_the_bytes_of_an_answer_are_those_of_its_output(reports: HttpReports) -> None:
    body = b'{"id":"x","choices":[{"message":{}}],"usage":{}}'
    assert reports.size(body, False).output_bytes == len(b'[{"message":{}}]')
    assert reports.size(b"\x1f\x8b", False).output_bytes == 2.0
    streamed = reports.size(event({"usage": {"completion_tokens": 3}}), True)
    assert same(streamed, AnswerSize(NAN, NAN))


# Events that say where the time went -> queue, reading, decoding, ms.
TIMES = {
    "vllm": (
        {"usage": {"prompt_tokens": 9}, "metrics": {
            "time_to_first_token_ms": 40.5, "generation_time_ms": 200, "queue_time_ms": 3.5,
            "mean_itl_ms": 10.0, "tokens_per_second": 83.2, "speculative_decoding": {"x": 1},
        }},
        StatedTimes(3.5, 40.5, 200.0),
    ),
    "vllm, responses": (
        {"response": {"usage": {}, "metrics": {"generation_time_ms": 7.0}}},
        StatedTimes(decoding_ms=7.0),
    ),
    "vllm, one token": (
        {"usage": {}, "metrics": {"time_to_first_token_ms": 4.0, "generation_time_ms": None}},
        StatedTimes(reading_ms=4.0),
    ),
    "llama.cpp": (
        {"usage": {}, "timings": {"cache_n": 4, "prompt_ms": 43.2, "predicted_ms": 238.7}},
        StatedTimes(math.nan, 43.2, 238.7),
    ),
    "other metrics": ({"usage": {}, "metrics": {"score": "high"}}, UNTIMED),
    "no metrics": ({"usage": {}, "metrics": [1]}, UNTIMED),
}  # fmt: skip


@pytest.mark.parametrize("shape", TIMES)
def test_where_the_time_went_is_read_in_every_shape(reports: HttpReports, shape: str) -> None:
    stated, times = TIMES[shape]
    assert same(reports.read([(USAGE, event(stated))]).times, times)
    assert same(reports.size(json.dumps(stated).encode(), False).times, times)
    assert reports.malformed == 0


@pytest.mark.parametrize("absurd", ["-1", "true", '"9"', "[]"])
def test_a_time_that_is_none_is_counted_and_not_read(reports: HttpReports, absurd: str) -> None:
    said = b'data: {"usage":{},"metrics":{"queue_time_ms":3,"generation_time_ms":%s}}\n\n'
    found = reports.read([(USAGE, said % absurd.encode())])
    assert same(found.times, StatedTimes(queue_ms=3.0)) and found.malformed
    assert reports.malformed == 1


def test_of_a_large_answer_the_end_alone_is_looked_at(reports: HttpReports) -> None:
    vectors = [{"embedding": [0.125] * 50_000}]
    body = json.dumps({"data": vectors, "model": "m", "usage": {"prompt_tokens": 9}}).encode()
    found = reports.size(body, False)
    assert (found.output_bytes, found.input_tokens) == (float(len(body)), 9.0)
    assert math.isnan(reports.size(body.replace(b'"usage"', b'"other"'), False).input_tokens)


def test_the_event_that_ends_a_stream_counts_where_no_other_does(reports: HttpReports) -> None:
    end = event({"response": {"usage": {"output_tokens": 3}}}, "response.completed")
    assert reports.read([(END, end)]).output_tokens == 3.0
    usage = event({"usage": {"output_tokens": 4}})
    assert reports.read([(USAGE, usage), (END, end)]).output_tokens == 4.0
    assert reports.read([(END, b"data: [DONE]\n\n")]) is NOTHING


ENERGIES = {
    "draft": (USAGE, event({"usage": {"energy": {"joules": 2.5, "wh": 1}}})),
    "neuralwatt": (USAGE, event({"energy": {"energy_joules": 2.5}})),
    "an answer in one piece": (USAGE, b'{"choices":[],"energy":{"energy_joules":2.5}}'),
    "comment, draft": (ENERGY, b'{"joules":2.5}'),
    "comment, neuralwatt": (ENERGY, b'{"energy_joules":2.5,"carbon_g_co2eq":1}'),
    "comment, nested": (ENERGY, b'{"energy":{"joules":2.5}}'),
}


@pytest.mark.parametrize("shape", ENERGIES)
def test_energy_is_read_in_every_shape(reports: HttpReports, shape: str) -> None:
    assert reports.read([ENERGIES[shape]]).energy_j == 2.5
    assert reports.malformed == 0


def test_orca_goes_before_usage_in_energy_and_behind_in_counts(reports: HttpReports) -> None:
    text = "TEXT request_cost.energy_j=7, request_cost.output_tokens=9"
    usage = event({"usage": {"completion_tokens": 3, "energy": {"joules": 2.5}}})
    found = reports.read([("endpoint-load-metrics", text), (USAGE, usage)])
    assert (found.energy_j, found.output_tokens) == (7.0, 3.0)
    alone = reports.read([("endpoint-load-metrics", text)])
    assert (alone.energy_j, alone.output_tokens) == (7.0, 9.0)
    gauges = ("endpoint-load-metrics", "TEXT named_metrics.kv_cache_usage_perc=0.1")
    assert reports.read([gauges, (USAGE, usage)]).energy_j == 2.5


@pytest.mark.parametrize(
    "said",
    [
        (USAGE, b"data: {\n\n"),
        (USAGE, b'data: {"usage":7}\n\n'),
        (USAGE, event({"usage": {"completion_tokens": -1}})),
        (USAGE, event({"usage": {"completion_tokens": "3"}})),
        (USAGE, event({"usage": {"completion_tokens": True}})),
        (USAGE, event({"usage": {"completion_tokens": 10**400}})),
        (USAGE, b'data: {"usage":{"completion_tokens":NaN}}\n\n'),
        (USAGE, b'data: {"usage":{"completion_tokens":1e999}}\n\n'),
        (USAGE, b'data: {"usage":' + b"[" * 20_000 + b"\n\n"),
        (USAGE, event({"usage": {"energy": {"joules": 0}}})),
        (ENERGY, b"{"),
        (ENERGY, b'{"joules":"2"}'),
    ],
)
def test_what_is_no_figure_is_counted_and_ignored(said: tuple[str, bytes]) -> None:
    told: list[int] = []
    reports = HttpReports(lambda: told.append(1))
    found = reports.read([said])
    assert found.malformed
    assert math.isnan(found.output_tokens) and math.isnan(found.energy_j)
    assert (reports.malformed, told) == (1, [1])


def test_energy_that_was_not_measured_is_none(reports: HttpReports) -> None:
    said = b'{"energy_joules":0,"measurement_available":false}'
    assert math.isnan(reports.read([(ENERGY, said)]).energy_j)
    assert reports.malformed == 0


FAILURES = {
    "openai": (event({"error": {"message": "why", "code": 500}}), UpstreamInternalError),
    "no space": (b'data:{"error":{"message":"why"}}\r\n\r\n', UpstreamInternalError),
    "anthropic": (
        event({"type": "error", "error": {"type": "api_error", "message": "why"}}, "error"),
        UpstreamInternalError,
    ),
    "llama.cpp": (b'error: {"code":500,"message":"why"}\n\n', UpstreamInternalError),
    "after others": (
        event({"choices": []}) + event({"error": {"message": "why"}}), UpstreamInternalError,
    ),
    "busy": (event({"error": {"message": "why", "code": 429}}), UpstreamBusyError),
    "busy, a word": (event({"error": {"message": "why", "code": "429"}}), UpstreamBusyError),
    "overloaded": (
        event({"type": "error", "error": {"type": "overloaded_error", "message": "why"}}, "error"),
        UpstreamBusyError,
    ),
    "fault": (event({"error": {"message": "why", "code": 503}}), UpstreamFaultError),
}  # fmt: skip


@pytest.mark.parametrize("shape", FAILURES)
def test_an_event_that_is_an_error_is_one(reports: HttpReports, shape: str) -> None:
    message, leaf = FAILURES[shape]
    error = reports.failure(message, True)
    assert (type(error), str(error)) == (leaf, "why")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        event({"choices": [{"delta": {"content": '{"error": 1}\ndata: {"error":'}}]}),
        event({"response": {"error": None}}, "response.created"),
        b": error\n\n",
    ],
)
def test_a_word_of_error_is_none(reports: HttpReports, message: bytes) -> None:
    assert reports.failure(message, True) is None


def test_an_error_under_status_200_is_one(reports: HttpReports) -> None:
    body = b'{"error":{"message":"why","code":503}}'
    assert type(reports.failure(body, False)) is UpstreamFaultError
    body = b'{"object":"error","message":"why"}'
    error = reports.failure(body, False)
    assert isinstance(error, UpstreamInternalError)
    assert error.trailers == ((BODY, body),)
    assert reports.failure(body, True) is not None
    for good in (b'{"id":"x","error":null}', b'{"error":null,"output":[]}', b"", b"\xff", b"[]"):
        assert reports.failure(good, False) is None


@pytest.mark.parametrize(
    ("message", "pieces"),
    [
        (b"", 0),
        (b": ping\n\n", 0),
        (event({}), 1),
        (event({}) * 3, 3),
        (b": ping\n\n" + event({}), 1),
        (event({"t": "\ndata: \ndelta\n"}), 1),
        (event({}, "content_block_delta") * 2 + event({}, "content_block_stop"), 2),
        (event({}, "response.output_text.delta").replace(b"\n", b"\r\n"), 1),
        (event({}, "message_start") + event({}, "ping"), 0),
        (event({}, "message_delta"), 0),
        (b"\x00\x01", 0),
        (b'{"a":1}\n', 0),
    ],
)
def test_pieces_are_events_with_output(reports: HttpReports, message: bytes, pieces: int) -> None:
    assert reports.pieces(message) == pieces


figures = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.none())
)
names = st.sampled_from([
    "usage", "energy", "message", "response", "timings", "joules", "energy_joules", "cache_n",
    "metrics", "queue_time_ms",
    "prompt_tokens", "output_tokens", "input_tokens", "prompt_tokens_details", "cached_tokens",
    "cache_read_input_tokens", "error", "choices", "code", "measurement_available",
])  # fmt: skip
values = st.recursive(
    figures, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12
)
bodies = st.one_of(
    values.map(lambda value: json.dumps(value).encode()), values.map(event), st.binary(max_size=80)
)


@given(st.lists(st.tuples(st.sampled_from([USAGE, END, ENERGY]), bodies), max_size=3))
@example([(USAGE, b"event: message_delta")])
def test_nothing_that_a_server_says_breaks_it(trailers: list[tuple[str, bytes]]) -> None:
    reports = HttpReports()
    found = reports.read(trailers)
    for figure in (found.energy_j, found.output_tokens, found.cached_tokens, found.input_tokens):
        assert math.isnan(figure) or 0.0 <= figure < math.inf
    for _, said in trailers:
        for streamed in (False, True):
            reports.failure(said, streamed)
            reports.size(said, streamed)
        assert reports.pieces(said) >= 0
