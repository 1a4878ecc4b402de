"""Failed requests: the right metric, the right line, and nothing of the payload in either."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from router import errors
from router.app.failures import FailureReporter
from router.gateway.failures import Arrival
from router.gateway.oip import status
from router.telemetry.logs import REQUESTS, RequestLog
from router.telemetry.metrics import Metrics
from router.telemetry.security import SecurityLog
from tests.director.support import Hands
from tests.factories import endpoint, fleet, request

SECRET = "my-social-security-number"


class Desk:
    """A FailureReporter whose metrics and lines can be looked at."""

    def __init__(self, caplog):
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry, codes=status.NAMES)
        metrics.know(fleet(endpoint("a", "near")))
        self.clock = Hands()
        self.caplog = caplog
        self.security = SecurityLog(self.registry, self.clock.monotonic)
        self.turned = []
        self.desk = FailureReporter(metrics, RequestLog(), self.clock, self.security, tracer=self)

    def turned_away(self, turned):
        self.turned.append(turned)
        return "7" * 32, "8" * 16

    def failed(self, error, code, reason, asked=None, method="ModelInfer", retries=0, arrival=None):
        self.desk.failed(method, asked, code, reason, error, retries, arrival)

    def count(self, name, **labels):
        return self.registry.get_sample_value(f"carbon_router_{name}", labels) or 0.0

    def requests(self, code, region="", model="llama"):
        return self.count("requests_total", region=region, model=model, code=code)

    @property
    def lines(self):
        return [record for record in self.caplog.records if record.name == REQUESTS]


@pytest.fixture
def desk(caplog):
    caplog.set_level(logging.INFO)
    return Desk(caplog)


def upstream(cls, text="broken"):
    error = cls(text)
    error.endpoint, error.region, error.attempts, error.decision_id = "a", "near", 2, "gw-7"
    return error


REFUSED = {
    errors.NothingFeasibleError("none"): "UNAVAILABLE",
    errors.ShedError("full"): "RESOURCE_EXHAUSTED",
    errors.ResidencyError("nowhere"): "FAILED_PRECONDITION",
    errors.PolicyExcludesError("too dirty"): "FAILED_PRECONDITION",
    errors.BudgetImpossibleError("too fast"): "DEADLINE_EXCEEDED",
    errors.DrainingError("closing"): "UNAVAILABLE",
}
WRONG = {
    errors.MalformedRequestError("byte 3"): "INVALID_ARGUMENT",
    errors.InvalidMetadataError("x-origin"): "INVALID_ARGUMENT",
    errors.UnknownModelError("gpt"): "NOT_FOUND",
}
UPSTREAM = {
    upstream(errors.UpstreamFaultError): ("UNAVAILABLE", "failed"),
    upstream(errors.UpstreamInternalError): ("INTERNAL", "failed"),
    upstream(errors.UpstreamBusyError): ("RESOURCE_EXHAUSTED", "failed"),
    upstream(errors.UpstreamTimeoutError): ("DEADLINE_EXCEEDED", "failed"),
    upstream(errors.UpstreamRejectedError): ("INVALID_ARGUMENT", "invalid"),
}


@pytest.mark.parametrize(("error", "code"), REFUSED.items(), ids=lambda one: type(one).__name__)
def test_a_refused_request(desk, error, code):
    desk.failed(error, code, error.reason, request(request_id="r1", origin="home"))
    assert desk.count("refused_total", reason=error.reason) == 1.0
    assert desk.requests(code) == 1.0
    (line,) = desk.lines
    assert (line.event, line.reason, line.code) == ("refused", error.reason, code)
    assert (line.model, line.request_id, line.origin) == ("llama", "r1", "home")
    assert line.levelname == "WARNING"


@pytest.mark.parametrize(("error", "code"), WRONG.items(), ids=lambda one: type(one).__name__)
def test_a_wrong_request(desk, error, code):
    desk.failed(error, code, error.reason, request(model="gpt"))
    assert desk.count("refused_total", reason=error.reason) == 1.0
    assert desk.requests(code, model="other") == 1.0
    (line,) = desk.lines
    assert (line.event, line.levelname) == ("invalid", "INFO")


def test_a_request_that_was_not_understood_has_no_model(desk):
    error = errors.MalformedRequestError("byte 0")
    desk.failed(error, "INVALID_ARGUMENT", error.reason)
    (line,) = desk.lines
    assert line.model == ""
    assert desk.requests("INVALID_ARGUMENT", model="other") == 1.0


@pytest.mark.parametrize(("error", "told"), UPSTREAM.items(), ids=lambda one: type(one).__name__)
def test_a_failed_request_names_where_it_was(desk, error, told):
    code, event = told
    desk.failed(error, code, error.reason, request(), "ModelStreamInfer")
    assert desk.requests(code, region="near") == 1.0
    assert desk.count("refused_total", reason=error.reason) == 0.0
    (line,) = desk.lines
    assert (line.event, line.endpoint, line.attempts) == (event, "a", 2)
    assert (line.decision_id, line.method) == ("gw-7", "ModelStreamInfer")
    assert not hasattr(line, "stack")


def test_a_caller_that_left_is_counted_and_not_logged(desk):
    desk.failed(asyncio.CancelledError(), "CANCELLED", "cancelled", request())
    assert desk.requests("CANCELLED") == 1.0
    assert desk.lines == []


def test_a_fault_of_the_gateways_own_is_logged_with_its_stack(desk):
    try:
        raise ZeroDivisionError(SECRET)
    except ZeroDivisionError as error:
        desk.failed(error, "INTERNAL", "internal", request())
    assert desk.requests("INTERNAL") == 1.0
    (line,) = desk.lines
    assert (line.event, line.error, line.levelname) == ("failed", "ZeroDivisionError", "ERROR")
    assert any(__file__ in frame for frame in line.stack)
    assert SECRET not in repr(line.__dict__)


def test_repeated_failures_are_counted_each_and_logged_now_and_then(desk):
    error = upstream(errors.UpstreamFaultError)
    for _ in range(50):
        desk.failed(error, "UNAVAILABLE", error.reason, request())
    assert desk.requests("UNAVAILABLE", region="near") == 50.0
    assert len(desk.lines) == 1
    desk.clock.advance(60.0)
    desk.failed(error, "UNAVAILABLE", error.reason, request())
    assert desk.lines[1].suppressed == 49


def test_neither_texts_nor_metadata_reach_the_log(desk):
    """An upstream quotes the request in its error; a caller puts things into headers and ids."""
    cases = [
        upstream(cls, f"bad tensor {SECRET}")
        for cls in (errors.UpstreamFaultError, errors.UpstreamRejectedError)
    ]
    cases += [errors.InvalidMetadataError(SECRET), errors.ShedError(SECRET), ValueError(SECRET)]
    for error in cases:
        error.trailers = (("x-secret", SECRET),)
        asked = request(tenant=SECRET, residency=frozenset({SECRET}))
        desk.failed(error, "INTERNAL", getattr(error, "reason", "internal"), asked)
        desk.clock.advance(60.0)
    assert len(desk.lines) == len(cases)
    for line in desk.lines:
        assert SECRET not in repr(line.__dict__)
        assert SECRET not in line.getMessage()
    assert SECRET not in generate_latest(desk.registry).decode()


def test_what_a_caller_invents_becomes_no_time_series_and_no_control_character(desk):
    error = errors.UnknownModelError("?")
    for number in range(100):
        name = f"model-{number}\n\x1b[31m" + "x" * 5000
        desk.failed(error, "NOT_FOUND", error.reason, request(model=name, request_id=name))
        desk.clock.advance(60.0)
    assert desk.requests("NOT_FOUND", model="other") == 100.0
    for line in desk.lines:
        assert len(line.model) <= 128
        assert line.model.isprintable()
        assert line.request_id.isprintable()


def test_what_a_client_asks_again_is_counted_beside_and_told(desk):
    shed = errors.ShedError("full")
    desk.failed(shed, "RESOURCE_EXHAUSTED", shed.reason, request(model="llama", client_retries=2))
    # Before it is understood, the front may know.
    full = errors.GatewayFullError("full")
    desk.failed(full, "RESOURCE_EXHAUSTED", full.reason, None, retries=1)
    desk.failed(shed, "RESOURCE_EXHAUSTED", shed.reason, request(model="llama"))
    assert desk.requests("RESOURCE_EXHAUSTED") == 2.0
    assert desk.count("client_retries_total", model="llama", code="RESOURCE_EXHAUSTED") == 1.0
    assert desk.count("client_retries_total", model="other", code="RESOURCE_EXHAUSTED") == 1.0
    assert [getattr(line, "client_retries", None) for line in desk.lines] == [2, 1]


ARRIVAL = Arrival("oip", (("traceparent", "..."),), False, 0.25)


@pytest.mark.parametrize(
    ("error", "stranger"),
    [
        (errors.MalformedRequestError("cut"), False),
        (errors.UnauthenticatedError("who?"), True),
        (errors.GatewayFullError("full"), True),
    ],
)
def test_what_no_director_saw_is_a_span_with_its_reason(desk, error, stranger):
    desk.failed(error, "INVALID_ARGUMENT", error.reason, request(), arrival=ARRIVAL)
    (turned,) = desk.turned
    assert (turned.reason, turned.is_stranger, turned.after_s) == (error.reason, stranger, 0.25)
    assert (turned.metadata, turned.protocol) == (ARRIVAL.metadata, "oip")


def test_the_line_of_a_request_leads_to_its_span(desk):
    error = errors.MalformedRequestError("cut")
    desk.failed(error, "INVALID_ARGUMENT", error.reason, request(), arrival=ARRIVAL)
    (line,) = desk.lines
    assert (line.trace_id, line.span_id) == ("7" * 32, "8" * 16)
    told = upstream(errors.UpstreamLostError)
    errors.tell_span(told, "5" * 32, "6" * 16)
    desk.failed(told, "UNAVAILABLE", told.reason, request(), arrival=ARRIVAL)
    assert (desk.lines[1].trace_id, desk.lines[1].span_id) == ("5" * 32, "6" * 16)
    assert len(desk.turned) == 1


def test_what_is_told_already_or_no_request_or_no_refusal_is_no_span(desk):
    told = errors.ShedError("full")
    errors.tell_span(told, "", "")
    desk.failed(told, "RESOURCE_EXHAUSTED", "shed", request(), arrival=ARRIVAL)
    desk.failed(errors.MalformedRequestError("cut"), "INVALID_ARGUMENT", "request_malformed")
    desk.failed(RuntimeError("ours"), "INTERNAL", "internal", request(), arrival=ARRIVAL)
    assert desk.turned == []
    assert not hasattr(desk.lines[0], "trace_id")
