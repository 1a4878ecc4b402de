import pytest

from router.lab.emulator.faults import EmulatedFault, FaultKind, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hang", EmulatedFault(FaultKind.HANG)),
        ("reset", EmulatedFault(FaultKind.RESET)),
        ("garbage", EmulatedFault(FaultKind.GARBAGE)),
        ("half", EmulatedFault(FaultKind.HALF)),
        ("code:UNAVAILABLE", EmulatedFault(FaultKind.CODE, code="UNAVAILABLE")),
        ("slow:2.5", EmulatedFault(FaultKind.SLOW, factor=2.5)),
    ],
)
def test_every_fault_parses(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text", ["", "nope", "hang:1", "code:", "code:oops", "slow", "slow:x", "slow:0.5", "slow:inf"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="fault"):
        parse_fault(text)
