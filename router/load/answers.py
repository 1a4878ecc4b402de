"""Whether an answer is one, and its size, read from a serialized ModelInferResponse as it is.

Only top-level fields are walked, and of each output its own; tensors are skipped by their length,
so the cost depends on the number of fields, of which at most MAX_FIELDS are looked at. What the
server states in the response's parameters of output tokens, and of cached ones, is read, too.
"""

from __future__ import annotations

import math
from struct import unpack_from

from router.contract import AnswerSize
from router.errors import UpstreamError, UpstreamFaultError, UpstreamInternalError
from router.load.orca import OrcaReader

# Model name, version, id, a dozen parameters, a few outputs and their tensors. None of 48 fields
# takes longer than 20 us, whatever they are (Python 3.11, 2 GHz); a usual answer takes 4.
MAX_FIELDS = 48

# The first byte of what is an answer: every field of a ModelInferResponse, and both of a
# ModelStreamInferResponse, is of bytes, and serializers write them in order.
_BEGINS_INFER = frozenset(number << 3 | 2 for number in range(1, 7))
_BEGINS_ERROR, _BEGINS_STREAMED = 0x0A, 0x12
# Fields of ModelStreamInferResponse, ModelInferResponse and its InferOutputTensor.
_INFER_RESPONSE = 2
_PARAMETERS, _OUTPUTS, _RAW_OUTPUTS = 4, 5, 6
_CONTENTS = 5
_BYTES = 2
_MOST_ENTRY = 128
_COUNTS = frozenset((b"output_tokens", b"completion_tokens", b"generated_tokens"))
_CACHED = frozenset((b"cached_tokens", b"num_cached_tokens"))
_UNKNOWN = AnswerSize(math.nan, math.nan)


class ServerReports(OrcaReader):
    """A ReportReader: ORCA trailers, and the sizes of answers."""

    def failure(self, message: bytes, streamed: bool) -> UpstreamError | None:
        """Of one ModelInferResponse, ``streamed``: of one ModelStreamInferResponse."""
        return failure_in_stream(message) if streamed else failure_of(message)

    def pieces(self, message: bytes) -> int:
        """Every message is one."""
        return 1

    def size(self, message: bytes, streamed: bool) -> AnswerSize:
        """Of one ModelInferResponse, ``streamed``: of one ModelStreamInferResponse."""
        return size_of(message, streamed)


def size_of(message: bytes, streamed: bool = False) -> AnswerSize:
    """Bytes of the output tensors and the tokens that the parameters state; NaN of what is not
    there, is malformed, or lies beyond MAX_FIELDS.
    """
    try:
        fields = _Fields()
        start, end = 0, len(message)
        if streamed:
            start, end = fields.find(message, _INFER_RESPONSE, start, end)
        return _size(message, fields, start, end)
    except (IndexError, _UnreadableError):
        return _UNKNOWN


def failure_of(message: bytes) -> UpstreamError | None:
    """The failure that a unary answer is; None where it may be an answer."""
    if message and message[0] in _BEGINS_INFER:
        return None
    return _no_answer(message)


def failure_in_stream(message: bytes) -> UpstreamError | None:
    """The failure that a streamed message tells of; None where it may be an answer.

    Triton tells in-band, under status OK and without a code, that a request of a stream failed.
    """
    if not message or message[0] == _BEGINS_STREAMED:
        return None
    if message[0] != _BEGINS_ERROR:
        return _no_answer(message)
    try:
        size, start = _varint(message, 1)
    except (IndexError, _UnreadableError):
        return _no_answer(message)
    if start + size > len(message):
        return _no_answer(message)
    text = message[start : start + size].decode(errors="replace")
    return UpstreamInternalError(text) if text else None


def _no_answer(message: bytes) -> UpstreamError:
    what = "bytes that are none" if message else "nothing"
    return UpstreamFaultError(f"the server gave {what} for an answer")


class _UnreadableError(ValueError):
    """Not protobuf, or more of it than is looked at."""


class _Fields:
    """Walks messages; all walks of one answer share one allowance of fields."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def next(self, data: bytes, pos: int, end: int) -> tuple[int, int, int]:
        """Of the field at ``pos``: number if it is one of bytes, else 0; where its payload starts
        and ends. Raises _UnreadableError.
        """
        self.left -= 1
        if self.left < 0:
            raise _UnreadableError
        tag = data[pos]
        pos += 1
        if tag > 0x7F:
            tag, pos = self.varint(data, pos - 1)
        wire = tag & 7
        if wire == _BYTES:
            size = data[pos]
            pos += 1
            if size > 0x7F:
                size, pos = self.varint(data, pos - 1)
            number, after = tag >> 3, pos + size
        elif wire == 0:
            number, after = 0, self.varint(data, pos)[1]
        elif wire == 1 or wire == 5:
            number, after = 0, pos + (8 if wire == 1 else 4)
        else:
            raise _UnreadableError
        if after > end:
            raise _UnreadableError
        return number, pos, after

    def varint(self, data: bytes, pos: int) -> tuple[int, int]:
        """One of several bytes, which takes as long as two fields."""
        self.left -= 2
        return _varint(data, pos)

    def find(self, data: bytes, wanted: int, pos: int, end: int) -> tuple[int, int]:
        """The payload of the first field with this number; empty when there is none."""
        while pos < end:
            number, body, pos = self.next(data, pos, end)
            if number == wanted:
                return body, pos
        return end, end


def _size(data: bytes, fields: _Fields, pos: int, end: int) -> AnswerSize:
    raw_bytes = inline_bytes = 0
    tokens = cached = math.nan
    while pos < end:
        number, body, pos = fields.next(data, pos, end)
        if number == _RAW_OUTPUTS:
            raw_bytes += pos - body
        elif number == _OUTPUTS:
            start, stop = fields.find(data, _CONTENTS, body, pos)
            inline_bytes += stop - start
        elif number == _PARAMETERS and pos - body <= _MOST_ENTRY:
            name, count = _stated_tokens(data, fields, body, pos)
            if name in _COUNTS and count == count:
                tokens = count
            elif name in _CACHED:
                cached = count
    # An answer has its tensors either inside its outputs or beside them.
    size = raw_bytes or inline_bytes
    return AnswerSize(float(size) if size else math.nan, tokens, cached)


def _stated_tokens(data: bytes, fields: _Fields, pos: int, end: int) -> tuple[bytes, float]:
    """A parameter that counts tokens, by name, and its number; NaN where it is none."""
    number, body, after = fields.next(data, pos, end)
    name = data[body:after]
    if number != 1 or after >= end or not (name in _COUNTS or name in _CACHED):
        return b"", math.nan
    return name, _number(data, fields, after, end)


def _number(data: bytes, fields: _Fields, pos: int, end: int) -> float:
    number, body, after = fields.next(data, pos, end)
    if number != 2 or body >= after:
        return math.nan
    tag = data[body]
    if tag == 0x10 or tag == 0x28:  # int64_param, uint64_param
        return float(fields.varint(data, body + 1)[0])
    if tag == 0x21 and after - body == 9:  # double_param
        return float(unpack_from("<d", data, body + 1)[0])
    if tag == 0x1A:  # string_param; its length fits one byte, as all of the entry nearly does
        text = data[body + 2 : after]
        return float(text) if text.isdigit() else math.nan
    return math.nan


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    raise _UnreadableError
