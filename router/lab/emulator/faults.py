"""Faults that an emulated endpoint can be told to show, so that failure paths can be tested."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FAULT_HEADER = "x-emulate-fault"

# By gRPC status, the HTTP status that google/rpc/code.proto names for it; where several share one,
# the first is what that HTTP status stands for over gRPC.
_HTTP_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_GRPC_CODE: Final = {status: code for code, status in reversed(_HTTP_STATUS.items())}


class FaultKind(StrEnum):
    """What goes wrong."""

    HANG = "hang"
    RESET = "reset"
    CODE = "code"
    GARBAGE = "garbage"
    SLOW = "slow"
    HALF = "half"


@dataclass(frozen=True, slots=True)
class EmulatedFault:
    """One fault. ``code``: see `grpc_code`, for CODE. ``factor``: of the run time, for SLOW."""

    kind: FaultKind
    code: str = ""
    factor: float = 1.0


def parse_fault(text: str) -> EmulatedFault:
    """``hang`` | ``reset`` | ``garbage`` | ``half`` | ``code:UNAVAILABLE`` | ``code:503`` |
    ``slow:3``.

    * hang: never answers; * reset: the whole server drops its connections and comes back (in a
    stream, after half the tokens); * garbage: an answer that is not protobuf, or not JSON; *
    half: a stream that ends as if all were well after half its tokens (over gRPC with status OK,
    over HTTP without the event that ends it); * code: that status, of gRPC by name or of HTTP by
    number, 400 to 599; * slow: the answer comes after ``factor`` times its run. Raises ValueError
    for anything else.
    """
    kind, _, argument = text.partition(":")
    match kind, argument:
        case (("hang" | "reset" | "garbage" | "half"), ""):
            return EmulatedFault(FaultKind(kind))
        case "code", code:
            if code in _HTTP_STATUS or (
                code.isascii() and code.isdecimal() and len(code) == 3 and 400 <= int(code) <= 599
            ):
                return EmulatedFault(FaultKind.CODE, code=code)
        case "slow", factor:
            try:
                value = float(factor)
            except ValueError:
                value = math.nan
            if 1.0 <= value < math.inf:
                return EmulatedFault(FaultKind.SLOW, factor=value)
    raise ValueError(
        f"fault {text!r}: give hang, reset, garbage, half, code:<a gRPC status, or an HTTP status "
        "from 400 to 599> or slow:<factor >= 1>"
    )


def grpc_code(code: str) -> str:
    """The gRPC status that a fault's ``code`` shows as over gRPC, by name.

    A name is its own. A number is the status that has it in google/rpc/code.proto; any other of
    4xx is FAILED_PRECONDITION and of 5xx UNAVAILABLE, as 502 is.
    """
    if not code.isdecimal():
        return code
    other = "FAILED_PRECONDITION" if int(code) < 500 else "UNAVAILABLE"
    return _GRPC_CODE.get(int(code), other)


def http_status(code: str) -> int:
    """The HTTP status that a fault's ``code`` shows as over HTTP, by google/rpc/code.proto."""
    return int(code) if code.isdecimal() else _HTTP_STATUS[code]
