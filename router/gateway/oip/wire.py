"""Reads what routing needs from a serialized ModelInferRequest, without decoding its tensors.

Only the top level of the message is walked: tensors are skipped by their length, so the cost
depends on the number of fields, not on their size. Wire format: protobuf.dev/programming-guides/
encoding; the accepted set is that of protobuf's own decoder at the top level, within limits far
above any real request that keep the worst message to a few milliseconds of the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from struct import unpack_from

from google.protobuf.message import DecodeError

from router._pb.inference_pb2 import InferParameter, ModelInferRequest
from router.core import claims
from router.errors import MalformedRequestError
from router.gateway.caller import NOWHERE, RoutingFields
from router.gateway.oip.tensors import inline_tensor
from router.model import UNLIMITED

# Inputs + outputs + tensors + parameters, and what is inside groups.
MAX_FIELDS = 4_096
# Entries of the parameter map in a layout that no encoder writes, which protobuf takes apart.
MAX_ODD_PARAMETERS = 16
# Names and ids together, should they be given again and again.
MAX_TEXT_BYTES = 65_536
_MAX_LENGTH = 2**31 - 1
_MAX_TAG = 2**32 - 1
_MAX_VARINT = 2**70 - 1
_MAX_NAME = 1024
_MAX_SEQUENCE_ID = 256
# As in protobuf's decoders.
_MAX_DEPTH = 100
# Two length bytes; an entry of such a size holds no token count and no sequence id.
_MAX_ENTRY = 0x3FFF

_OUTPUT_LIMITS = frozenset(("max_tokens", "max_output_tokens", "max_new_tokens"))
_INPUT_COUNTS = frozenset(("input_tokens", "prompt_tokens"))
_DEADLINE = "deadline-s"
_WANTED = {
    name.encode(): name
    for name in (
        *_OUTPUT_LIMITS, *_INPUT_COUNTS, "sequence_id", "sequence_start", "sequence_end", _DEADLINE
    )
}  # fmt: skip

Parameter = bool | int | float | str


def scan(data: bytes) -> RoutingFields:
    """The routing fields of a serialized ModelInferRequest.

    Repeated singular fields: the last one wins, as in protobuf. Raises MalformedRequestError that
    names the byte for anything ill-formed at the top level, beyond a limit, and for an empty model
    name.
    """
    model = version = request_id = ""
    raw = inline = NOWHERE
    longest = 0
    parameters: dict[str, Parameter | None] | None = None
    end = len(data)
    pos = text_bytes = odd = 0
    fields = iter(range(MAX_FIELDS))
    try:
        for _ in fields:
            if pos >= end:
                break
            start = pos
            tag = data[pos]
            pos += 1
            if tag > 0x7F:
                tag, pos = _varint(data, start, 5, _MAX_TAG)
            kind = tag & 7
            if kind == 2:
                size = data[pos]
                pos += 1
                if size > 0x7F:
                    size, pos = _varint(data, pos - 1, 5, _MAX_LENGTH)
                body = pos
                pos += size
                if pos > end:
                    raise _malformed(start, f"field {tag >> 3} is longer than the message")
                if tag == 0x0A or tag == 0x12 or tag == 0x1A:
                    text_bytes += size
                    if text_bytes > MAX_TEXT_BYTES:
                        raise _malformed(start, _TOO_MUCH_TEXT)
                    text = data[body:pos].decode()
                    if tag == 0x0A:
                        model = text
                    elif tag == 0x12:
                        version = text
                    else:
                        request_id = text
                elif tag == 0x22:
                    named = _parameter(data, body, pos)
                    if named is _ODD:
                        odd += 1
                        if odd > MAX_ODD_PARAMETERS:
                            raise _malformed(start, _TOO_MANY_ODD)
                        named = _decoded_parameter(data[body:pos])
                    if named is not None:
                        if parameters is None:
                            parameters = {}
                        parameters[named[0]] = named[1]
                elif tag == 0x3A:
                    if size > longest:
                        raw, longest = (body, pos), size
                elif tag == 0x2A:
                    if size > inline[1] - inline[0]:
                        inline = (body, pos)
                elif tag < 8:
                    raise _malformed(start, "field number 0")
            elif kind == 3:
                pos = _skip_group(data, tag, start, pos, fields)
            else:
                pos = _skip(data, tag, start, pos)
        else:
            if pos < end:
                raise _malformed(pos, _TOO_MANY_FIELDS)
    except IndexError:
        raise _malformed(end, "the message ends inside a field") from None
    except UnicodeDecodeError:
        raise _malformed(start, f"field {tag >> 3} is not valid UTF-8") from None
    if pos > end:
        raise _malformed(end, "the message ends inside a field")
    prompt = raw if longest else inline_tensor(data, *inline)
    return _routing_fields(model, version, request_id, parameters, prompt)


def with_model(data: bytes, model: str) -> bytes:
    """A message as it is, for another model: of a field that comes again the last one counts. All
    messages that name a model do so in their first field."""
    name = model.encode()
    size = len(name)
    length = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    return b"".join((data, b"\x0a", length, name))


_ODD = ("", None)
_TOO_MANY_FIELDS = f"more than {MAX_FIELDS} top-level fields"
_TOO_MUCH_TEXT = f"names and ids of more than {MAX_TEXT_BYTES} bytes together"
_TOO_MANY_ODD = f"more than {MAX_ODD_PARAMETERS} parameters that are encoded in an unusual way"


def _malformed(pos: int, problem: str) -> MalformedRequestError:
    return MalformedRequestError(f"ModelInferRequest, byte {pos}: {problem}")


def _varint(data: bytes, pos: int, longest: int, most: int) -> tuple[int, int]:
    """The varint at ``pos`` and the position after it. IndexError at the end of the data."""
    start = pos
    value = 0
    for shift in range(0, 7 * longest, 7):
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > most:
                break
            return value, pos
    raise _malformed(start, "a number is too large")


def _skip(data: bytes, tag: int, start: int, pos: int) -> int:
    """The position after a field of fixed size or a varint, which routing has no use for."""
    kind = tag & 7
    if tag < 8:
        raise _malformed(start, "field number 0")
    if kind == 0:
        return _varint(data, pos, 10, _MAX_VARINT)[1]
    if kind == 1:
        return pos + 8
    if kind == 5:
        return pos + 4
    raise _malformed(start, f"wire type {kind} is not valid here")


def _skip_group(data: bytes, tag: int, start: int, pos: int, fields: Iterator[int]) -> int:
    """The position after a group, long deprecated; what it holds counts against ``fields``.

    Inside, protobuf does not look at field numbers, not even at 0.
    """
    end = len(data)
    opened = [tag >> 3]
    if tag < 8:
        raise _malformed(start, "field number 0")
    while opened:
        if next(fields, None) is None:
            raise _malformed(pos, _TOO_MANY_FIELDS)
        start = pos
        tag, pos = _varint(data, start, 5, _MAX_TAG)
        kind = tag & 7
        if kind == 4:
            if opened.pop() != tag >> 3:
                raise _malformed(start, f"field {tag >> 3} ends a group that it did not begin")
        elif kind == 3:
            opened.append(tag >> 3)
            if len(opened) > _MAX_DEPTH:
                raise _malformed(start, "groups are nested too deep")
        elif kind == 2:
            size, pos = _varint(data, pos, 5, _MAX_LENGTH)
            pos += size
        else:
            pos = _skip(data, tag | 8, start, pos)
        if pos > end:
            raise _malformed(start, f"field {tag >> 3} is longer than the message")
    return pos


def _parameter(data: bytes, start: int, end: int) -> tuple[str, Parameter | None] | None:
    """A wanted parameter from one entry of the map: its name and value; None for the others.

    Takes the layout that every encoder writes (key, value holding one field) apart by hand;
    _ODD for any other, which is left to protobuf.
    """
    if end - start > 4 and data[start] == 0x0A and data[start + 1] < 0x80:
        key_end = start + 2 + data[start + 1]
        if key_end + 2 < end and data[key_end] == 0x12:
            size = data[key_end + 1]
            body = key_end + 2
            if size > 0x7F:
                size, body = _varint(data, key_end + 1, 5, _MAX_LENGTH)
            if body + size == end:
                name = _WANTED.get(data[start + 2 : key_end])
                if name is None:
                    return None
                value = _value(data, body, end)
                if value is not None:
                    return name, value
    return _ODD


def _value(data: bytes, pos: int, end: int) -> Parameter | None:
    """An InferParameter that holds exactly one field, else None."""
    tag = data[pos]
    if tag == 0x10 or tag == 0x28 or tag == 0x08:
        number = data[pos + 1]
        after = pos + 2
        if number > 0x7F:
            number, after = _varint(data, pos + 1, 10, _MAX_VARINT)
            number &= 2**64 - 1  # what overflows is dropped, as every decoder does
        if after != end:
            return None
        if tag == 0x08:
            return number != 0
        return number - 2**64 if tag == 0x10 and number >= 2**63 else number
    if tag == 0x1A and end - pos < 0x82 and data[pos + 1] == end - pos - 2:
        return data[pos + 2 : end].decode()
    if tag == 0x21 and end - pos == 9:
        return float(unpack_from("<d", data, pos + 1)[0])
    return None


def _decoded_parameter(entry: bytes) -> tuple[str, Parameter | None] | None:
    if len(entry) > _MAX_ENTRY:
        return None
    head = bytes((0x22, len(entry) & 0x7F | 0x80, len(entry) >> 7))
    try:
        parameters = ModelInferRequest.FromString(head + entry).parameters
    except DecodeError:
        raise MalformedRequestError("ModelInferRequest.parameters cannot be decoded") from None
    for name in parameters:
        if name.encode() in _WANTED:
            return name, _chosen(parameters[name])
    return None


def _chosen(parameter: InferParameter) -> Parameter | None:
    choice = parameter.WhichOneof("parameter_choice")
    value: Parameter | None = getattr(parameter, choice) if choice else None
    return value


def _routing_fields(
    model: str,
    version: str,
    request_id: str,
    parameters: dict[str, Parameter | None] | None,
    prompt: tuple[int, int],
) -> RoutingFields:
    if len(model) > _MAX_NAME or len(version) > _MAX_NAME or len(request_id) > _MAX_NAME:
        raise MalformedRequestError(
            f"ModelInferRequest: model_name, model_version and id may have {_MAX_NAME} characters"
        )
    if not model:
        raise MalformedRequestError(
            "ModelInferRequest.model_name is empty: say which model the request is for"
        )
    if not parameters:
        return RoutingFields(model, version, request_id, prompt=prompt)
    sequence_id = ""
    input_tokens, max_output_tokens = math.nan, UNLIMITED
    deadline_s = math.inf
    ignored: tuple[str, ...] = ()
    for name, value in parameters.items():
        if name in _OUTPUT_LIMITS:
            limit = _count(value)
            if limit < max_output_tokens:
                max_output_tokens = limit
            elif math.isnan(limit):
                ignored = (*ignored, claims.OUTPUT_LIMIT_IGNORED)
        elif name in _INPUT_COUNTS:
            count = _count(value)
            if count > input_tokens or math.isnan(input_tokens):
                input_tokens = count
            if math.isnan(count):
                ignored = (*ignored, claims.INPUT_TOKENS_IGNORED)
        elif name == _DEADLINE:
            deadline_s = _deadline_s(value)
        elif name == "sequence_id" and value:
            sequence_id = _sequence_id(value)
    return RoutingFields(
        model,
        version,
        request_id,
        sequence_id,
        bool(parameters.get("sequence_start")),
        bool(parameters.get("sequence_end")),
        input_tokens,
        max_output_tokens,
        tuple(dict.fromkeys(ignored)),
        prompt,
        deadline_s=deadline_s,
    )


def _sequence_id(value: Parameter) -> str:
    """Triton takes integers (0: none) and strings; any other type is for the backend to judge."""
    if isinstance(value, (bool, float)):
        return ""
    text = str(value)
    if len(text) > _MAX_SEQUENCE_ID:
        raise MalformedRequestError(
            f"ModelInferRequest.parameters: sequence_id exceeds {_MAX_SEQUENCE_ID} characters"
        )
    return text


def _deadline_s(value: Parameter | None) -> float:
    try:
        deadline_s = math.nan if value is None or isinstance(value, bool) else float(value)
    except ValueError:
        deadline_s = math.nan
    if not 0.0 < deadline_s < math.inf:
        raise MalformedRequestError(
            f"ModelInferRequest.parameters: {_DEADLINE} is to be a number of seconds above 0"
        )
    return deadline_s


def _count(value: Parameter | None) -> float:
    """A positive number, or NaN for what is none; whether it is a count is `claims`' to judge."""
    if value is None or isinstance(value, (bool, str)):
        return math.nan
    return float(value) if 0 < value < math.inf else math.nan
