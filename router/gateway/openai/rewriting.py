"""Small changes to JSON bodies, in their bytes: all else stays as its sender wrote it."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

import msgspec

from router.errors import MalformedRequestError


class _WithPriority(msgspec.Struct):
    priority: msgspec.Raw = msgspec.Raw()


_LEFT: Final = msgspec.json.Decoder(_WithPriority).decode
_PRIORITY: Final = re.compile(rb'(?<!\\)("priority")\s*:\s*')
_COMMA: Final = re.compile(rb"\s*,")
_NAMED_USAGE: Final = re.compile(rb'(?<!\\)"usage"\s*:\s*')
_ASKING: Final = b'"stream_options":{"include_usage":true},'
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NO_OBJECT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _WithModel(msgspec.Struct):
    model: str = ""


_MODEL_OF: Final = msgspec.json.Decoder(_WithModel).decode
_NAMED_MODEL: Final = re.compile(rb'(?<!\\)"model"\s*:\s*("(?:[^"\\]|\\.)*")')
# Whole strings, and what nests: of a body that is JSON all else is none of these.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_COLON: Final = re.compile(rb"\s*:\s*")


def with_model(body: bytes | bytearray, model: str) -> bytes:
    """``body``, a JSON object, with another ``model`` in its top-level field of that name."""
    value = msgspec.json.encode(model)
    found = list(islice(_NAMED_MODEL.finditer(body), 2))
    if len(found) == 1:
        # Nearly always; but it may stand further in, and the field be written otherwise.
        changed = b"".join((body[: found[0].start(1)], value, body[found[0].end(1) :]))
        if _MODEL_OF(changed).model == model:
            return changed
    first, stop = _model_at(body)
    return b"".join((body[:first], value, body[stop:]))


def _model_at(body: bytes | bytearray) -> tuple[int, int]:
    """Where the value of the last top-level ``model`` stands. Raises MalformedRequestError where
    there is none, as in a body that nobody has read before."""
    depth = 0
    at = (-1, -1)
    tokens = _TOKENS.finditer(body)
    for token in tokens:
        text = token[0]
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and msgspec.json.decode(text) == "model":
            colon = _COLON.match(body, token.end())
            value = next(tokens, None) if colon is not None else None
            if colon is not None and value is not None and value.start() == colon.end():
                at = value.span()
    if at[0] < 0:
        raise MalformedRequestError("model: cannot be told from other fields of that name")
    return at


def asks_for_usage(stream_options: bytes) -> bool:
    """Whether ``stream_options``, a request's own, ask for usage at the end of the stream.

    Any word for it but none and no: whether it means yes is the server's to say, and what it then
    states was asked for. vLLM takes usage in every event for a wish for the last one as well.
    """
    options = _options(stream_options)
    wish = options.get("include_usage", options.get("continuous_usage_stats"))
    return wish is not None and not _is_no(wish)


def asking_for_usage(body: bytes | bytearray, stream_options: bytes) -> bytes | None:
    """``body`` with ``include_usage``; None where its ``stream_options`` are none or cannot be
    told from another field of that name."""
    if not stream_options:
        at = body.index(b"{") + 1
        return b"".join((body[:at], _ASKING, body[at:]))
    options = _options(stream_options)
    if stream_options != b"null" and not stream_options.startswith(b"{"):
        return None
    at = _value_at(body, "stream_options", stream_options)
    if at < 0:
        return None
    # Values stay as they stand: a number may be none that Python has.
    changed = msgspec.json.encode({**options, "include_usage": msgspec.Raw(b"true")})
    return b"".join((body[:at], changed, body[at + len(stream_options) :]))


def without_priority(body: bytes | bytearray, priority: bytes) -> bytes | None:
    """``body`` without its top-level field ``priority``, which stands there as it is; None where it
    is none that can be told from others of that name further in."""
    for found in _PRIORITY.finditer(body):
        if not body.startswith(priority, found.end()):
            continue
        changed = _cut(body, found.start(1), found.end() + len(priority))
        try:
            if not len(memoryview(_LEFT(changed).priority)):
                return changed
        except msgspec.DecodeError:
            # It was inside something.
            continue
    return None


def _cut(body: bytes | bytearray, first: int, stop: int) -> bytes:
    """``body`` without a field, and without the comma after it, or else before it."""
    after = _COMMA.match(body, stop)
    if after is not None:
        return b"".join((body[:first], body[after.end() :]))
    before = body[:first].rstrip().removesuffix(b",")
    return b"".join((before, body[stop:]))


def with_energy(answer: bytes, usage: bytes, energy: bytes) -> bytes | None:
    """``answer`` with ``energy`` in its object ``usage``, which is known as it stands; None where
    that cannot be found."""
    if not usage.startswith(b"{"):
        return None
    # By its name, for an empty object may be another field's, too.
    named = [
        found.end()
        for found in _NAMED_USAGE.finditer(answer)
        if answer.startswith(usage, found.end())
    ]
    if not named:
        return None
    at = named[-1]
    end = at + len(usage)
    if b'"energy"' in usage:
        # The server's own word, which is in the receipt as far as it is believed.
        told = {**_FIELDS(usage), "energy": msgspec.Raw(energy)}
        return b"".join((answer[:at], msgspec.json.encode(told), answer[end:]))
    comma = b"," if usage[1:-1].strip() else b""
    return b"".join((answer[: end - 1], comma, b'"energy":', energy, answer[end - 1 :]))


def _value_at(body: bytes | bytearray, name: str, value: bytes) -> int:
    """Where the value of the only field called ``name`` stands; -1 where it is not the only one.

    Inside a string the quotes of such a name would have a backslash before them.
    """
    found = re.compile(rb'(?<!\\)"' + re.escape(name.encode()) + rb'"\s*:\s*').findall(body)
    if len(found) != 1:
        return -1
    at = body.index(found[0]) + len(found[0])
    return at if body[at : at + len(value)] == value else -1


def _options(stream_options: bytes) -> dict[str, msgspec.Raw]:
    if not stream_options:
        return {}
    try:
        return _FIELDS(stream_options)
    except _NO_OBJECT:
        return {}


def _is_no(wish: msgspec.Raw) -> bool:
    return bytes(wish) in (b"false", b"null")
