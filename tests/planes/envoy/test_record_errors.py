"""Whose fault it was that a request was not answered, as Envoy's records tell it."""

import pytest

from router.errors import (
    UpstreamBusyError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from router.gateway.oip.status import CODES
from router.gateway.openai.refusal import STATUSES
from router.planes.envoy.record_errors import REFUSALS, error_of
from tests.planes.envoy import host as hosts
from tests.planes.envoy.records import record

RESET = b"upstream_reset_before_response_started{connection_termination}"
REFUSED = b"upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error}"


@hosts.missing
def test_refusals_are_told_as_natively(host):
    for (reason, grpc, http), kind in zip(host.refusals(), REFUSALS, strict=True):
        if kind is not None:
            assert reason == kind.reason
            assert (grpc, http) == (CODES[kind].value[0], STATUSES[kind])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"grpc_status": 0, "status": 200}, None),
        ({"is_http": 1, "status": 200, "details": b"via_upstream"}, None),
        ({"is_http": 1, "status": 503, "details": b"via_upstream"}, UpstreamFaultError),
        ({"is_http": 1, "status": 429, "details": b"via_upstream"}, UpstreamBusyError),
        ({"is_http": 1, "status": 422, "details": b"via_upstream"}, UpstreamRejectedError),
        ({"grpc_status": 14, "status": 200}, UpstreamFaultError),
        ({"grpc_status": 3, "status": 200}, UpstreamRejectedError),
        # Of what HTTP alone wrote, gRPC has no status.
        ({"status": 200, "details": b"via_upstream"}, UpstreamInternalError),
        ({"status": 502, "details": b"via_upstream"}, UpstreamFaultError),
        ({"status": 404, "details": b"via_upstream"}, UpstreamRejectedError),
        # A caller's own deadline says nothing against the server.
        ({"grpc_status": 4, "details": b"max_duration_timeout"}, UpstreamTimeoutError),
        ({"status": 503, "details": RESET}, UpstreamLostError),
        ({"status": 503, "details": REFUSED}, UpstreamUnreachedError),
    ],
)
def test_an_end_says_whose_fault_it_was(fields, expected):
    error = error_of(record(**fields))
    assert error is None if expected is None else type(error) is expected


def test_a_caller_that_left_blames_nobody():
    for details in (b"downstream_remote_disconnect", b"http2.remote_reset", b"destroyed", b""):
        left = error_of(record(cut_short=1, details=details))
        assert left is not None and left.reason == "cancelled"
