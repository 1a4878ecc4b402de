"""Request headers: which are ours, which were meant to be, and which are nobody's business."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidMetadataError
from router.gateway.caller import Caller
from router.gateway.headers import KNOWN, RESIDENCY, misspelt, retries_of, slips_between

WORDS = st.text("abx-", max_size=6)


def naive_slips(a, b):
    """The same distance by its definition, from the end."""
    if not a or not b:
        return len(a) + len(b)
    ways = [
        naive_slips(a[:-1], b) + 1,
        naive_slips(a, b[:-1]) + 1,
        naive_slips(a[:-1], b[:-1]) + (a[-1] != b[-1]),
    ]
    if len(a) > 1 and len(b) > 1 and a[-1] == b[-2] and a[-2] == b[-1]:
        ways.append(naive_slips(a[:-2], b[:-2]) + 1)
    return min(ways)


@given(WORDS, WORDS, st.integers(0, 6))
def test_slips_are_counted_up_to_the_limit(a, b, most):
    slips = naive_slips(a, b)
    assert slips_between(a, b, most) == slips or min(slips_between(a, b, most), slips) > most


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("x-residencies", RESIDENCY),
        ("x-resdency", RESIDENCY),
        ("x-residancy", RESIDENCY),
        ("x-redisency", RESIDENCY),
        ("x-residence", RESIDENCY),
        ("x-residency-zone", RESIDENCY),
        ("x-data-residency", RESIDENCY),
        ("x_residency", RESIDENCY),
        ("xresidency", RESIDENCY),
        ("residency", RESIDENCY),
        ("x-residency-bin", RESIDENCY),
        ("x-ttft-budget", "x-ttft-budget-ms"),
        ("x-ttft-ms", "x-ttft-budget-ms"),
        ("x-tpot-budget-s", "x-tpot-budget-ms"),
        ("x-latency-budget", "x-latency-budget-ms"),
        ("x-e2e-budget-ms", "x-latency-budget-ms"),
        ("x-latencey-budget-ms", "x-latency-budget-ms"),
        ("x-orgin", "x-origin"),
        ("x-origins", "x-origin"),
        ("x-tenent", "x-tenant"),
        ("x-tneant", "x-tenant"),
        ("x-energy", "x-energy-data"),
        ("x-energy-date", "x-energy-data"),
        ("x_energy_data", "x-energy-data"),
    ],
)
def test_what_was_meant_to_be_ours_is_refused_by_the_name_that_was_meant(key, meant):
    assert meant in misspelt(key)
    with pytest.raises(InvalidMetadataError, match=f"{key}: .*{meant}"):
        Caller(((key, "eu"),))


@pytest.mark.parametrize(
    "key",
    [
        "x-carbon-reciept",
        "x_carbon_receipt",
        "x-carbon-residency",
        "x-carbon-gco2e",
        "x-carbon-",
        "x-carbon",
        "X-Carbon-1",
        "x_carbon_a",
    ],
)
def test_the_whole_namespace_of_answers_is_refused_in_requests(key):
    with pytest.raises(InvalidMetadataError, match="x-residency"):
        Caller(((key, "eu"),))


@pytest.mark.parametrize(
    "key",
    [
        "x-energy-data",
        *("x-request-id", "x-b3-traceid", "x-b3-sampled", "x-forwarded-for", "x-real-ip"),
        *("x-amzn-trace-id", "x-envoy-attempt-count", "x-envoy-original-path", "x-goog-api-key"),
        *("x-cloud-trace-context", "x-datadog-origin", "x-client-latency-ms", "x-api-key"),
        *(
            "x-tenant-id",
            "x-original-host",
            "x-region",
            "x-resident-id",
            "x-carbonite",
            "x-budget",
            "x-origin-bin",
        ),
        *("traceparent", "user-agent", "authorization", "grpc-timeout", "baggage", "origin", "te"),
        *("triton_grpc_error", "endpoint-load-metrics-format", "x-test-fault"),
    ],
)
def test_headers_of_others_pass(key):
    Caller(((key, "anything"),))


@given(st.sampled_from(sorted(KNOWN)), st.integers(0, 40), st.sampled_from("abcxyz-"))
def test_one_slip_never_passes_in_silence(header, place, letter):
    key = header[: place % len(header)] + letter + header[place % len(header) + 1 :]
    if key in KNOWN:
        return
    assert misspelt(key)


@given(st.text(max_size=200))
def test_any_name_gets_a_verdict_of_printable_ascii(key):
    assert misspelt(key).isascii()


@pytest.mark.parametrize(
    ("value", "count"),
    [("0", 0), ("2", 2), ("999", 999), ("1000", 0), ("-1", 0), ("1.5", 0), ("", 0), ("two", 0),
     ("\u0661", 0), ("\u00b2", 0), (b"\xff", 0)],
)  # fmt: skip
def test_how_often_a_client_asked_before(value, count):
    assert retries_of(value) == count
