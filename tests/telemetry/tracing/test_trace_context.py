"""Held against OpenTelemetry's own propagator, as the slow twin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router.telemetry.tracing.trace_context import TraceParent, passed_on, read, traceparent

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PARENT = TraceParent(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)

hexadecimal = st.text("0123456789abcdef", min_size=0, max_size=34)
headers = st.one_of(
    st.builds("{}-{:032x}-{:016x}-{:02x}{}".format,
              st.sampled_from(["00", "01", "cc", "ff", "0", "000", "0A"]),
              st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255),
              st.sampled_from(["", "-", "-more", "more"])),
    st.builds("{}-{}-{}-{}".format, hexadecimal, hexadecimal, hexadecimal, hexadecimal),
    st.text(max_size=80),
)  # fmt: skip


def by_the_sdk(header):
    context = TraceContextTextMapPropagator().extract({"traceparent": header})
    found = get_current_span(context).get_span_context()
    return (found.trace_id, found.span_id, found.trace_flags) if found.is_valid else None


@given(headers)
def test_what_is_read_is_what_the_sdk_reads(header):
    header = header.strip()
    ours = read([("traceparent", header)])
    theirs = by_the_sdk(header)
    if ours is None and theirs is not None:
        # It takes capitals, which the specification does not, and later versions whatever follows.
        assert header != header.lower() or not header.startswith("00")
        return
    assert (None if ours is None else ours[:3]) == theirs


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
def test_what_is_written_is_read(trace_id, span_id, flags):
    header = traceparent(trace_id, span_id, flags)
    assert read([("traceparent", header)]) == (trace_id, span_id, flags, "")
    assert by_the_sdk(header) == (trace_id, span_id, flags)


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("traceparent", GOOD), ("traceparent", GOOD)],
        [("traceparent", GOOD.encode())],
        [("traceparent", GOOD.upper())],
        [("traceparent", GOOD + "-more")],
        [("traceparent", "ff" + GOOD[2:])],
        [("traceparent", "00-" + "0" * 32 + GOOD[35:])],
        [("traceparent", GOOD[:36] + "0" * 16 + "-01")],
        [("traceparent", "01" + GOOD[2:] + "-" + "x" * 600)],
        [("tracestate", "a=1")],
    ],
)
def test_what_does_not_hold_is_no_parent(metadata):
    assert read(metadata) is None


def test_a_later_version_is_read_as_far_as_it_is_known():
    assert read([("traceparent", "01" + GOOD[2:] + "-and-more")]) == PARENT


def test_state_comes_along_whole_or_not_at_all():
    several = [("tracestate", "a=1"), ("traceparent", GOOD), ("tracestate", " b=2 ")]
    assert read(several) == PARENT._replace(state="a=1,b=2")
    assert read([("traceparent", GOOD), ("tracestate", "x" * 9000)]) == PARENT
    most = ",".join(f"k{number}=v" for number in range(32))
    assert read([("traceparent", GOOD), ("tracestate", most)]) == PARENT._replace(state=most)
    assert read([("traceparent", GOOD), ("tracestate", most + ",one=more")]) == PARENT
    assert read([("traceparent", GOOD), ("tracestate", "," * 8000)]) == PARENT


def test_an_attempt_carries_its_own_header_and_all_else():
    asked = [("x-origin", "here"), ("traceparent", "old"), ("tracestate", "a=1"), ("k-bin", b"\0")]
    assert passed_on(asked, GOOD, "a=1") == [
        ("x-origin", "here"), ("k-bin", b"\0"), ("traceparent", GOOD), ("tracestate", "a=1"),
    ]  # fmt: skip
    assert passed_on(asked, GOOD, "") == [
        ("x-origin", "here"), ("k-bin", b"\0"), ("traceparent", GOOD)
    ]  # fmt: skip
