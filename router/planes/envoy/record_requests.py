"""What a record of the ring says of a request, as the native gateway has it; bounded first."""

from __future__ import annotations

import math
import re
from typing import Final

from router.core.lengths import Expected
from router.core.question import ORIGIN_UNKNOWN, Question
from router.director import View
from router.model import Budget, Request
from router.planes.envoy.layout import DEPARTED, ENDED, NO_MODEL, REFUSED, RequestRecord
from router.planes.envoy.seats import NO_SEAT
from router.planes.envoy.shared_file import SEATS

# A request's grams are no more than so many micrograms, whatever was read.
MOST_UG: Final = 2**60
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
# As `router.backends.openai.events` reads it, of a whole line.
_ENERGY: Final = re.compile(rb"^: energy ([^\r\n]*)\r?\n", re.MULTILINE)


def model_at(view: View, place: int) -> tuple[str, str]:
    """Name and version of the model in this place of the table."""
    return list(view.snapshot.columns)[place]


def text_of(field: bytes) -> str:
    """What is no UTF-8 is replaced."""
    return field.decode(errors="replace")


def request_of(record: RequestRecord, model: tuple[str, str]) -> Request:
    """What was asked for, of `model_at`."""
    ttft_ms, tpot_ms, e2e_ms = record.asked.figures[4:7]
    return Request(
        model[0],
        "" if model[1] == "*" else model[1],
        text_of(record.request_id),
        origin=text_of(record.origin),
        tenant=text_of(record.tenant),
        budget=Budget(ttft_ms, tpot_ms, e2e_ms, bool(record.explicit_budget)),
        input_tokens=record.input_tokens,
        max_output_tokens=record.max_output_tokens,
        payload_bytes=int(record.payload_bytes),
        prompt_bytes=int(record.prompt_bytes),
    )


def question_of(record: RequestRecord, request: Request, view: View) -> Question:
    """As the module asked the kernel."""
    columns = list(view.snapshot.columns.values())[record.model]
    scalars = record.asked.scalars()
    flags: tuple[str, ...] = ()
    if request.origin and request.origin not in columns.origin_rows:
        flags = (ORIGIN_UNKNOWN,)
    return Question(
        columns, record.asked.rtt_row, Expected(*scalars[1:4]), scalars[4],
        record.asked.residency, flags, scalars, columns.uncached,
    )  # fmt: skip


def usage_of(record: RequestRecord) -> bytes:
    """``{"usage": ...}`` as the end of a JSON answer, or of a stream of events, has it; b"" where
    it has none. What it says is for the protocol's reader to judge."""
    if not record.tail_length:
        return b""
    tail = bytes(record)[RequestRecord.tail.offset :][: record.tail_length]
    found = list(_USAGE.finditer(tail))
    if not found:
        return b""
    said = b"{" + tail[found[-1].start() :]
    # An event is a line.
    return said.splitlines()[0] if record.streams else said


def energy_of(record: RequestRecord) -> bytes:
    """What a comment at the end of a stream says that it took; b"" where there is none."""
    if not (record.streams and record.tail_length):
        return b""
    tail = bytes(record)[RequestRecord.tail.offset :][: record.tail_length]
    found = _ENERGY.findall(tail)
    return found[-1] if found else b""


def is_sound(record: RequestRecord, view: View) -> bool:
    """Whether it can be: the ring is memory that another process writes, and rows of it are read
    by compiled code, which checks none."""
    snapshot = view.snapshot
    if record.kind == REFUSED:
        is_known = record.model == NO_MODEL or record.model < len(snapshot.columns)
        return bool(is_known and record.started_s <= record.ended_s < math.inf)
    if record.kind not in (DEPARTED, ENDED) or record.model >= len(snapshot.columns):
        return False
    columns = list(snapshot.columns.values())[record.model]
    rows, n = columns.table.shape
    found = record.found
    is_placed = (
        0 <= found.row < n
        and 0 <= found.first_row < n
        and 0 <= record.asked.rtt_row < rows
        and record.rung < len(snapshot.green_rungs if record.is_greenest else snapshot.rungs)
        and 0 <= record.ask_ug < MOST_UG
        and NO_SEAT < record.seat < SEATS
        and NO_SEAT < record.first_seat < SEATS
    )
    is_timed = record.started_s <= record.departed_s < math.inf
    if record.kind == ENDED:
        is_timed = is_timed and record.departed_s <= record.ended_s < math.inf
    return bool(is_placed and is_timed and 0.0 <= record.payload_bytes < math.inf)
