"""The hand-written scan agrees with protobuf, and nothing a backend sends can raise."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import BackendReport, ReportReader, StatedLoad
from router.load.orca import (
    BINARY_KEY,
    MAX_BYTES,
    NOTHING,
    TEXT_KEY,
    UNREADABLE,
    MalformedReportError,
    OrcaReader,
    parse_binary,
    parse_text,
)

orca_pb2 = pytest.importorskip(
    "router._pb.orca_pb2", reason="LOUD: the generated ORCA stub is not there"
)


def message(**fields: Any) -> bytes:
    serialized: bytes = orca_pb2.OrcaLoadReport(**fields).SerializeToString()
    return serialized


def same(left: BackendReport, right: BackendReport) -> bool:
    return all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(left, right, strict=True)
    )


def read(value: str | bytes, key: str = BINARY_KEY) -> tuple[BackendReport, int]:
    reader = OrcaReader()
    return reader.read([("x-other", "1"), (key, value)]), reader.malformed


def test_reads_energy_from_request_cost_and_tokens_from_named_metrics() -> None:
    report, malformed = read(
        message(
            cpu_utilization=0.5,
            rps_fractional=12.0,
            request_cost={"energy_j": 12.5, "marginal_energy_j": 0.5, "usd": 0.001},
            named_metrics={"output_tokens": 200.0, "batch": 32.0},
        )
    )
    assert report == BackendReport(12.5, 0.5, 200.0)
    assert malformed == 0


def test_named_metrics_stand_in_for_request_cost() -> None:
    report, _ = read(message(named_metrics={"energy_j": 3.0}))
    assert report.energy_j == 3.0
    report, _ = read(message(named_metrics={"energy_j": 3.0}, request_cost={"energy_j": 4.0}))
    assert report.energy_j == 4.0


def test_without_a_report_everything_is_unknown() -> None:
    reader: ReportReader = OrcaReader()
    assert reader.read([]) is NOTHING
    assert all(math.isnan(value) for value in NOTHING[:3]) and not NOTHING.malformed
    report, malformed = read(message(cpu_utilization=0.5))
    assert same(report, NOTHING)
    assert malformed == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 0.0])
def test_an_impossible_energy_is_unknown_and_counted(value: float) -> None:
    report, malformed = read(message(request_cost={"energy_j": value, "marginal_energy_j": 2.0}))
    assert math.isnan(report.energy_j)
    assert (report.marginal_energy_j, report.malformed) == (2.0, True)
    assert malformed == 1


def test_zero_tokens_and_zero_marginal_energy_are_possible() -> None:
    report, malformed = read(
        message(request_cost={"marginal_energy_j": 0.0}, named_metrics={"output_tokens": 0.0})
    )
    assert (report.marginal_energy_j, report.output_tokens, malformed) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    "value",
    [
        "TEXT request_cost.energy_j=12.5, named_metrics.output_tokens=200",
        "TEXT cpu_utilization=0.3,named_metrics.output_tokens=2e2,request_cost.energy_j=12.5,",
        'JSON {"request_cost": {"energy_j": 12.5}, "named_metrics": {"output_tokens": 200}}',
        'JSON {"requestCost": {"energy_j": 12.5}, "namedMetrics": {"output_tokens": 200}}',
        'JSON {"eps":1,"request_cost":{"energy_j":12.5},"named_metrics":{"output_tokens":2e2}}',
        b"TEXT request_cost.energy_j=12.5, named_metrics.output_tokens=200",
        "BIN "
        + base64.b64encode(
            message(request_cost={"energy_j": 12.5}, named_metrics={"output_tokens": 200.0})
        ).decode(),
    ],
)
def test_text_forms(value: str | bytes) -> None:
    report, malformed = read(value, TEXT_KEY)
    assert report.energy_j == 12.5
    assert report.output_tokens == 200.0
    assert malformed == 0


def test_a_real_vllm_header_says_nothing_of_energy() -> None:
    header = "TEXT named_metrics.num_requests_waiting=0.0, named_metrics.kv_cache_usage_perc=0.0"
    report, malformed = read(header, TEXT_KEY)
    assert same(report._replace(load=None), NOTHING)
    assert (report.load.queued, report.load.kv_fraction, malformed) == (0.0, 0.0, 0)
    assert math.isnan(report.load.running)


FORMS = {
    "text": lambda named: (
        TEXT_KEY,
        "TEXT " + ", ".join(f"named_metrics.{key}={value!r}" for key, value in named.items()),
    ),
    "json": lambda named: (TEXT_KEY, "JSON " + json.dumps({"named_metrics": named})),
    "binary": lambda named: (BINARY_KEY, message(named_metrics=named)),
    "base64": lambda named: (
        TEXT_KEY,
        "BIN " + base64.b64encode(message(named_metrics=named)).decode(),
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_load_is_read_in_every_form(form) -> None:
    key, value = form({
        "num_requests_running": 7.0, "num_requests_waiting": 3.0, "kv_cache_usage_perc": 0.25,
    })  # fmt: skip
    report, malformed = read(value, key)
    assert (report.load, malformed) == (StatedLoad(7.0, 3.0, 0.25), 0)


def test_tritons_word_for_the_cache_is_read_and_a_capacity_is_none() -> None:
    report, malformed = read(
        "TEXT named_metrics.kv_cache_utilization=0.98, named_metrics.max_token_capacity=1024",
        TEXT_KEY,
    )
    assert (report.load.kv_fraction, malformed) == (0.98, 0)
    assert math.isnan(report.load.queued) and math.isnan(report.load.running)


def test_what_a_request_cost_is_no_load() -> None:
    report, _ = read(message(request_cost={"num_requests_waiting": 9.0}))
    assert report.load is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e6 + 1.0])
def test_a_count_out_of_bounds_is_unknown_and_counted_and_costs_the_energy_nothing(value) -> None:
    named = {"num_requests_waiting": value, "num_requests_running": 2.0, "energy_j": 3.0}
    report, malformed = read(message(named_metrics=named))
    assert math.isnan(report.load.queued) and report.load.running == 2.0
    assert (report.energy_j, report.malformed, malformed) == (3.0, False, 1)


def test_a_percentage_is_no_share_and_a_share_just_above_one_is_one() -> None:
    report, malformed = read(message(named_metrics={"kv_cache_usage_perc": 50.0}))
    assert (report.load, malformed) == (None, 1)
    report, malformed = read(message(named_metrics={"kv_cache_usage_perc": 1.0005}))
    assert (report.load.kv_fraction, malformed) == (1.0, 0)


@given(
    st.sampled_from(sorted(FORMS)),
    st.dictionaries(
        st.sampled_from([
            "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
            "kv_cache_utilization", "energy_j",
        ]),
        st.floats() | st.sampled_from([0.0, 1.0, 1e6]),
    ),
)  # fmt: skip
def test_whatever_load_is_told_stays_within_bounds(form: str, named: dict[str, float]) -> None:
    key, value = FORMS[form](named)
    reader = OrcaReader()
    load = reader.read([(key, value)]).load
    if load is None:
        return
    for figure, most in zip(load, (1e6, 1e6, 1.0), strict=True):
        assert math.isnan(figure) or 0.0 <= figure <= most
    assert math.isnan(load.queued) or load.queued == named["num_requests_waiting"]


def test_binary_over_http_is_base64_without_padding() -> None:
    data = message(request_cost={"energy_j": 12.5})
    report, malformed = read(base64.b64encode(data).decode().rstrip("="))
    assert (report.energy_j, malformed) == (12.5, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (BINARY_KEY, b"\xff\xff\xff"),
        (BINARY_KEY, b"\x22\x05ab"),
        (BINARY_KEY, b"\x00\x01"),
        (BINARY_KEY, b"\x09\x00\x00"),
        (BINARY_KEY, b"\x0d\x00"),
        (BINARY_KEY, b"\x18" + b"\xff" * 10 + b"\x01"),
        (BINARY_KEY, b"\x0b"),
        (BINARY_KEY, b"\x00" * (MAX_BYTES + 1)),
        (BINARY_KEY, "not base64!"),
        (BINARY_KEY, "\u00e9\u00e9\u00e9\u00e9"),
        (TEXT_KEY, ""),
        (TEXT_KEY, "request_cost.energy_j=1"),
        (TEXT_KEY, "TEXT request_cost.energy_j"),
        (TEXT_KEY, "TEXT request_cost.energy_j=lots"),
        (TEXT_KEY, "JSON {"),
        (TEXT_KEY, "JSON []"),
        (TEXT_KEY, 'JSON {"request_cost": 3}'),
        (TEXT_KEY, 'JSON {"request_cost": {"energy_j": "3"}}'),
        (TEXT_KEY, 'JSON {"request_cost": {"energy_j": true}}'),
        (TEXT_KEY, 'JSON {"request_cost": {"energy_j": 1' + "0" * 400 + "}}"),
        (TEXT_KEY, "JSON " + "[" * 16_000),
        (TEXT_KEY, "TEXT " + "a=1," * MAX_BYTES),
        (TEXT_KEY, b"\xff\xfe"),
        (TEXT_KEY, "BIN ###"),
    ],
)
def test_malformed_reports_are_ignored_and_counted(key: str, value: str | bytes) -> None:
    calls: list[int] = []
    reader = OrcaReader(on_malformed=lambda: calls.append(1))
    assert reader.read([(key, value)]) is UNREADABLE
    assert reader.malformed == len(calls) == 1


doubles = st.floats(allow_nan=True, allow_infinity=True)
maps = st.dictionaries(
    st.sampled_from(["energy_j", "marginal_energy_j", "output_tokens", "", "x" * 200])
    | st.text(max_size=8),
    doubles,
    max_size=6,
)
# Fields that a newer report may have: varint, fixed64, bytes and fixed32, numbers above 15.
unknown = st.sampled_from(
    [b"", b"\xf8\x01\x96\x01", b"\xf9\x01" + b"8" * 8, b"\xfa\x01\x03abc", b"\xfd\x01" + b"4" * 4]
)


def twin(data: bytes) -> tuple[dict[bytes, float], dict[bytes, float]]:
    report = orca_pb2.OrcaLoadReport.FromString(data)
    return (
        {key.encode(): value for key, value in report.request_cost.items()},
        {key.encode(): value for key, value in report.named_metrics.items()},
    )


def equal(left: dict[bytes, float], right: dict[bytes, float]) -> bool:
    return left.keys() == right.keys() and all(
        value == right[key] or (math.isnan(value) and math.isnan(right[key]))
        for key, value in left.items()
    )


@given(maps, maps, maps, doubles, st.integers(0, 2**64 - 1), unknown, unknown)
def test_any_report_reads_as_protobuf_reads_it(
    costs: dict[str, float],
    named: dict[str, float],
    utilization: dict[str, float],
    cpu: float,
    rps: int,
    before: bytes,
    after: bytes,
) -> None:
    body = message(
        cpu_utilization=cpu,
        rps=rps,
        request_cost=costs,
        utilization=utilization,
        named_metrics=named,
    )
    # A second copy of the maps exercises "the last one counts".
    data = before + message(request_cost=dict.fromkeys(costs, 1.0)) + body + after
    figures = parse_binary(data)
    expected_costs, expected_named = twin(data)
    assert equal(figures.request_cost, expected_costs)
    assert equal(figures.named_metrics, expected_named)


# Absent, repeated and long-tagged halves. Foreign fields inside an entry are left out: protobuf
# implementations disagree on those (upb drops the whole entry).
entry_parts = st.lists(
    st.sampled_from(
        [
            b"\x0a\x08energy_j",
            b"\x0a\x00",
            b"\x11" + b"\x00" * 6 + b"\x29\x40",
            b"\x8a\x00\x01k",
            b"\x0a\x85\x00abcde",
        ]
    ),
    max_size=4,
).map(b"".join)


@given(st.lists(entry_parts, max_size=4))
def test_unusual_map_entries_read_as_protobuf_reads_them(entries: list[bytes]) -> None:
    data = b"".join(b"\x22" + bytes([len(entry)]) + entry for entry in entries)
    expected, _ = twin(data)
    assert equal(parse_binary(data).request_cost, expected)


@given(st.binary(max_size=120))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    reader = OrcaReader()
    for trailer in (
        (BINARY_KEY, data),
        (TEXT_KEY, data),
        (TEXT_KEY, b"TEXT " + data),
        (TEXT_KEY, b"JSON " + data),
    ):
        report = reader.read([trailer])
        figures = (*report[:3], report.cached_tokens, *(report.load or ()))
        assert all(math.isnan(value) or 0.0 <= value < math.inf for value in figures)


@given(st.text(max_size=60))
def test_arbitrary_text_never_raises(text: str) -> None:
    reader = OrcaReader()
    for form in ("", "TEXT ", "JSON ", "BIN "):
        reader.read([(TEXT_KEY, form + text)])
    reader.read([(BINARY_KEY, text)])


@given(maps)
def test_json_reads_what_json_says(costs: dict[str, float]) -> None:
    figures = parse_text("JSON " + json.dumps({"request_cost": costs}))
    assert equal(figures.request_cost, {key.encode(): value for key, value in costs.items()})


def test_parsers_raise_only_their_own_error() -> None:
    with pytest.raises(MalformedReportError):
        parse_binary(b"\x22\x05ab")
