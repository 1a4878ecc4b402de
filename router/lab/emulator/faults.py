"""Faults that an emulated endpoint can be told to show, so that failure paths can be tested."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

FAULT_HEADER = "x-emulate-fault"


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
    """One fault. ``code``: gRPC status name, for CODE. ``factor``: of the run time, for SLOW."""

    kind: FaultKind
    code: str = ""
    factor: float = 1.0


def parse_fault(text: str) -> EmulatedFault:
    """``hang`` | ``reset`` | ``garbage`` | ``half`` | ``code:UNAVAILABLE`` | ``slow:3``.

    * hang: never answers; * reset: the whole server drops its connections and comes back (in a
    stream, after half the tokens); * garbage: an answer that is not protobuf; * half: a stream
    that ends with status OK after half its tokens; * code: that status; * slow: the answer comes
    after ``factor`` times its run. Raises ValueError for anything else.
    """
    kind, _, argument = text.partition(":")
    match kind, argument:
        case (("hang" | "reset" | "garbage" | "half"), ""):
            return EmulatedFault(FaultKind(kind))
        case "code", code if code.isascii() and code.isupper():
            return EmulatedFault(FaultKind.CODE, code=code)
        case "slow", factor:
            try:
                value = float(factor)
            except ValueError:
                value = math.nan
            if 1.0 <= value < math.inf:
                return EmulatedFault(FaultKind.SLOW, factor=value)
    raise ValueError(
        f"fault {text!r}: give hang, reset, garbage, half, code:<STATUS> or slow:<factor >= 1>"
    )
