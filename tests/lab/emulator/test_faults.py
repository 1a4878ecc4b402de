import grpc
import pytest

from router.lab.emulator.faults import EmulatedFault, FaultKind, grpc_code, http_status, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hang", EmulatedFault(FaultKind.HANG)),
        ("reset", EmulatedFault(FaultKind.RESET)),
        ("garbage", EmulatedFault(FaultKind.GARBAGE)),
        ("half", EmulatedFault(FaultKind.HALF)),
        ("code:UNAVAILABLE", EmulatedFault(FaultKind.CODE, code="UNAVAILABLE")),
        ("code:503", EmulatedFault(FaultKind.CODE, code="503")),
        ("slow:2.5", EmulatedFault(FaultKind.SLOW, factor=2.5)),
    ],
)
def test_every_fault_parses(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nope",
        "hang:1",
        "code:",
        "code:oops",
        "code:NO_SUCH_CODE",
        "code:200",
        "code:5x3",
        "code:1503",
        "slow",
        "slow:x",
        "slow:0.5",
        "slow:inf",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="fault"):
        parse_fault(text)


@pytest.mark.parametrize(
    ("code", "over_grpc", "over_http"),
    [
        ("UNAVAILABLE", "UNAVAILABLE", 503),
        ("ABORTED", "ABORTED", 409),
        ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", 429),
        ("429", "RESOURCE_EXHAUSTED", 429),
        ("400", "INVALID_ARGUMENT", 400),
        ("500", "INTERNAL", 500),
        ("418", "FAILED_PRECONDITION", 418),
        ("529", "UNAVAILABLE", 529),
    ],
)
def test_a_code_shows_over_either_protocol(code, over_grpc, over_http):
    assert grpc_code(code) == over_grpc and over_grpc in grpc.StatusCode.__members__
    assert http_status(code) == over_http
