"""One row for each leaf of the error tree, and nothing that a caller must not see."""

import grpc
import pytest

from router import errors
from router.gateway.oip.status import CODES, passable, passable_head, status_of

C = grpc.StatusCode


def leaves(cls=errors.CarbonRouterError):
    below = [
        child
        for child in cls.__subclasses__()
        if child.__module__.startswith(f"{errors.__name__}.")
    ]
    return [leaf for child in below for leaf in leaves(child)] or [cls]


def test_every_leaf_has_a_row_and_every_row_is_a_leaf():
    assert set(CODES) == set(leaves())


def test_no_row_escapes_as_unknown():
    assert C.UNKNOWN not in CODES.values()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("INVALID_ARGUMENT", C.INVALID_ARGUMENT),
        ("UNAUTHENTICATED", C.UNAUTHENTICATED),
        ("RESOURCE_EXHAUSTED", C.RESOURCE_EXHAUSTED),
        ("UNKNOWN", C.INTERNAL),
        ("OK", C.INTERNAL),
        ("no such code", C.INTERNAL),
        ("", C.INTERNAL),
    ],
)
def test_a_rejection_keeps_its_own_code(name, code):
    assert status_of(errors.UpstreamRejectedError("why", status=name)).code is code


@pytest.mark.parametrize("hint", [None, -1.0, float("inf"), float("nan")])
def test_a_hint_that_is_no_time_is_left_out(hint):
    status = status_of(errors.ShedError("full", retry_after_s=hint))
    assert status.trailers == (("x-carbon-reason", "shed"),)


def test_busy_upstreams_pass_their_hint_on():
    busy = errors.UpstreamBusyError("w: busy", retry_after_s=0.0015)
    assert ("grpc-retry-pushback-ms", "2") in status_of(busy).trailers


def test_a_subclass_of_a_leaf_takes_its_row():
    class Special(errors.ShedError):
        """A refinement that the table does not know."""

    status = status_of(Special("full"))
    assert (status.code, status.reason) == (C.RESOURCE_EXHAUSTED, "shed")


@pytest.mark.parametrize("error", [KeyError("secret"), errors.TraceError("secret"), MemoryError()])
def test_internal_errors_tell_the_caller_nothing(error):
    status = status_of(error)
    assert status.code is C.INTERNAL
    assert "secret" not in repr(status)


def test_long_messages_and_trailers_cannot_burst_the_header_block():
    long = status_of(errors.UpstreamRejectedError("x" * 5000, status="INVALID_ARGUMENT"))
    wide = status_of(errors.UpstreamRejectedError("é" * 5000, status="INVALID_ARGUMENT"))
    assert len(long.message) == 1027
    assert len(wide.message) < 200
    fat = errors.UpstreamRejectedError("x", status="NOT_FOUND", trailers=[("a", "b" * 5000)])
    assert status_of(fat).trailers == (("x-carbon-reason", "upstream_rejected"),)


def test_what_a_client_may_see_of_a_backend():
    metadata = [
        ("ce-id", "1"),
        ("blob-bin", b"\xff"),
        ("grpc-status-details-bin", b"d"),
        ("grpc-message", "x"),
        (":path", "x"),
        ("content-type", "application/grpc"),
        ("server", "x"),
        ("endpoint-load-metrics", "TEXT a=1"),
        ("endpoint-load-metrics-bin", b"x"),
        ("x-carbon-gco2e", "0"),
        ("x-carbon", "0"),
        ("x_carbon_gco2e", "0"),
        ("x-carbon-gco2e-bin", b"0"),
        ("name", "é"),
    ]
    assert passable(metadata) == [("ce-id", "1"), ("blob-bin", b"\xff")]
    assert ("grpc-status-details-bin", b"d") in passable(metadata, ("grpc-status-details-bin",))


def test_what_http_writes_by_itself_is_no_head_of_an_answer():
    head = (("date", "Mon"), ("trailer", "grpc-status"), ("server", "x"), ("ce-id", "1"))
    assert passable_head(head) == [("ce-id", "1")]
    # In trailers they are an application's own.
    assert ("date", "Mon") in passable(head)


def test_a_failure_upstream_names_the_decision_that_the_log_names():
    fault = errors.UpstreamFaultError("w: gone")
    fault.decision_id, fault.attempts = "gw-7", 3
    trailers = status_of(fault).trailers
    assert ("x-carbon-decision-id", "gw-7") in trailers
    assert ("x-carbon-attempts", "3") in trailers


def test_a_budget_that_is_spent_is_not_to_be_waited_for_with_the_call_open():
    status = status_of(errors.CarbonBudgetError("spent", 7200.5))
    assert status.code is C.RESOURCE_EXHAUSTED
    assert status.trailers == (
        ("x-carbon-reason", "carbon_budget_exhausted"),
        ("grpc-retry-pushback-ms", "-1"),
        ("x-carbon-retry-after-s", "7201"),
    )
    held = status_of(errors.CarbonBudgetHeldError("held", 1.0))
    assert ("grpc-retry-pushback-ms", "1000") in held.trailers
