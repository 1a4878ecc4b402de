"""A file of requests, line by line: what each asks, or what is wrong with it.

A line is read when the batch is, and once more when its request is made: it stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

import msgspec

from router.deferral.values import BadLine, LineError, NewJob

# OpenAI states no limit; this is one that no sensible id meets.
MOST_ID: Final = 512
_MOST_MODEL: Final = 256
_BOM: Final = b"\xef\xbb\xbf"
_SKIPPED_AT_ONCE: Final = 2**20
_NOTHING: Final = msgspec.Raw()
_NO_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Line(msgspec.Struct):
    custom_id: msgspec.Raw = _NOTHING
    method: msgspec.Raw = _NOTHING
    url: msgspec.Raw = _NOTHING
    body: msgspec.Raw = _NOTHING


class _Body(msgspec.Struct):
    model: msgspec.Raw = _NOTHING
    stream: msgspec.Raw = _NOTHING


_LINE: Final = msgspec.json.Decoder(_Line)
_BODY: Final = msgspec.json.Decoder(_Body)
_TEXT: Final = msgspec.json.Decoder(str)


class InputLine(NamedTuple):
    """``number``: from 1; ``offset``: of its first byte; ``text``: without what ends it, None
    where it is longer than is read."""

    number: int
    offset: int
    text: bytes | None


def split(file: BinaryIO, most_bytes: int) -> Iterator[InputLine]:
    """The lines of ``file`` that are not blank; no more than ``most_bytes`` of it, and one more
    read at once, are held."""
    number, offset = 0, 0
    if file.read(len(_BOM)) == _BOM:
        offset = len(_BOM)
    file.seek(offset)
    while piece := file.readline(most_bytes + 1):
        number += 1
        start, offset = offset, offset + len(piece)
        if len(piece) > most_bytes and not piece.endswith(b"\n"):
            while rest := file.readline(_SKIPPED_AT_ONCE):
                offset += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield InputLine(number, start, None)
        elif text := piece.rstrip(b"\r\n \t"):
            yield InputLine(number, start, text)


def read(line: InputLine, endpoint: str, most_bytes: int) -> NewJob | BadLine:
    """What a line of a batch for ``endpoint`` asks."""
    text = line.text
    if text is None:
        return _bad(line, "line_too_long", f"longer than {most_bytes} bytes")
    try:
        found = _LINE.decode(text)
        text.decode()
    except _NO_JSON as error:
        return _bad(line, "invalid_json_line", f"is no JSON object: {error}")
    custom_id = _text(found.custom_id)
    if not custom_id:
        said = "custom_id: give a string that no other line of the file has"
        return _bad(line, "invalid_custom_id", said, "", "custom_id")
    if len(custom_id) > MOST_ID:
        said = f"custom_id: longer than {MOST_ID} characters"
        return _bad(line, "invalid_custom_id", said, custom_id[:MOST_ID], "custom_id")
    if _text(found.method) != "POST":
        return _bad(line, "invalid_method", "method: say POST", custom_id, "method")
    if _text(found.url) != endpoint:
        said = f"url: say {endpoint}, for which the batch was asked"
        return _bad(line, "invalid_url", said, custom_id, "url")
    return _job(line, text, found.body, custom_id)


def body_of(text: bytes) -> bytes:
    """The request in a line that `read` found good."""
    return bytes(_LINE.decode(text).body)


def read_body(file: BinaryIO, offset: int, size_bytes: int) -> bytes:
    """The request in a line of a file, again. Raises OSError, and ValueError for a file that is
    not what it was."""
    file.seek(offset)
    text = file.read(size_bytes)
    if len(text) != size_bytes:
        raise ValueError("the file is shorter than it was")
    try:
        return body_of(text)
    except _NO_JSON as error:
        raise ValueError("the file is not what it was") from error


def _job(line: InputLine, text: bytes, raw: msgspec.Raw, custom_id: str) -> NewJob | BadLine:
    try:
        body = _BODY.decode(raw)
    except _NO_JSON:
        said = "body: give the request, a JSON object"
        return _bad(line, "invalid_body", said, custom_id, "body")
    model = _text(body.model)
    if not model or len(model) > _MOST_MODEL:
        said = f"body.model: say which model is meant, in up to {_MOST_MODEL} characters"
        return _bad(line, "invalid_body", said, custom_id, "body.model")
    if bytes(body.stream) not in (b"", b"false", b"null"):
        said = "body.stream: answers of a batch come in one piece; leave it out"
        return _bad(line, "invalid_body", said, custom_id, "body.stream")
    return NewJob(line.number, line.offset, len(text), custom_id, model, len(memoryview(raw)))


def _bad(
    line: InputLine, code: str, message: str, custom_id: str = "", param: str | None = None
) -> BadLine:
    error = LineError(code, f"line {line.number}: {message}"[:1024], line.number, param)
    return BadLine(line.number, custom_id, error)


def _text(raw: msgspec.Raw) -> str:
    """ "" for what is no string."""
    try:
        return _TEXT.decode(raw) if len(memoryview(raw)) else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def duplicate_line(line: int, custom_id: str) -> BadLine:
    """One whose custom_id an earlier line of its batch has."""
    text = f"line {line}: another line has this custom_id; each has to have its own"
    return BadLine(line, custom_id, LineError("duplicate_custom_id", text, line, "custom_id"))
