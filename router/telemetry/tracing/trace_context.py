"""W3C Trace Context (https://www.w3.org/TR/trace-context-2/): read from a call's headers, and put
into an attempt's. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from router.contract import Metadata

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
SAMPLED: Final = 0x01
# Of level 2: the id's lower 56 bits are random. What it says of a trace stays true further on.
_RANDOM: Final = 0x02
_HEADER: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_VERSION: Final = "ff"
_OURS: Final = "00"
# A header of later versions may have more; of so much nobody writes.
_MAX_CHARACTERS: Final = 512
# Section 3.3.1.5: what is longer need not be passed on. Some is by those who write more.
_MAX_STATE: Final = 8192
# Section 3.3.1.1; empty ones count. With more it is no state.
_MAX_MEMBERS: Final = 32


class TraceParent(NamedTuple):
    """Of whose span a call is part. ``state``: of ``tracestate``, as it came, "" where none did."""

    trace_id: int
    span_id: int
    flags: int
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether whoever called records the trace."""
        return bool(self.flags & SAMPLED)


def read(metadata: Metadata) -> TraceParent | None:
    """What a call says of its trace; None where it says nothing, or nothing that holds."""
    header: str | bytes | None = None
    states: list[str] = []
    for key, value in metadata:
        if key == TRACEPARENT:
            if header is not None:
                return None
            header = value
        elif key == TRACESTATE and isinstance(value, str):
            states.append(value)
    if not isinstance(header, str) or len(header) > _MAX_CHARACTERS:
        return None
    found = _HEADER.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _NO_VERSION or (version == _OURS and more):
        return None
    ids = int(trace_id, 16), int(span_id, 16)
    if not all(ids):
        return None
    return TraceParent(*ids, int(flags, 16), _one_state(states))


def _one_state(states: list[str]) -> str:
    state = ",".join(one.strip() for one in states if one.strip())
    is_one = len(state) <= _MAX_STATE and state.count(",") < _MAX_MEMBERS
    return state if is_one else ""


def traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """The header of a call that is part of this span."""
    return f"{_OURS}-{trace_id:032x}-{span_id:016x}-{flags & (SAMPLED | _RANDOM):02x}"


def passed_on(metadata: Metadata, header: str, state: str) -> Metadata:
    """``metadata`` of a call as an attempt carries it: as part of the span in ``header``, with the
    ``state`` of its trace."""
    made = [pair for pair in metadata if pair[0] != TRACEPARENT and pair[0] != TRACESTATE]
    made.append((TRACEPARENT, header))
    if state:
        made.append((TRACESTATE, state))
    return made
