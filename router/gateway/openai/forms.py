"""The field ``model`` of multipart/form-data, as audio and pictures come: each byte is met once.

Servers read odd forms in different ways, and which model a caller may use is decided here: a form
that two of them might read differently is refused. What SDKs, browsers and curl write is not odd.
"""

from __future__ import annotations

import re
from typing import Final

from router.errors import MalformedRequestError

# A quote within quotes has a backslash before it for some, and ends them for others.
_PARAMETER: Final = re.compile(
    r';[ \t]*([A-Za-z0-9_-]+\*?)=(?:"((?:[^"\\\r\n]|\\(?!"))*)"|([^\s;"\\,]+))[ \t]*'
)
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
_CHARSETS: Final = frozenset(("utf-8", "us-ascii"))
_KIND: Final = "multipart/form-data"
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
# In which a value would have to be decoded first.
_AS_IT_IS: Final = frozenset(("7bit", "8bit", "binary"))
# Of one part's own fields.
_HEAD_BYTES: Final = 2048
_MODEL_BYTES: Final = 1024
_MOST_PARTS: Final = 256
# Lines after the last part's end.
_MOST_EPILOGUE_BYTES: Final = 4


def is_form(content_type: str) -> bool:
    """Whether a body with this content type is one."""
    return content_type.lower().lstrip().startswith(_KIND)


def model_in(body: bytes | bytearray, content_type: str) -> str:
    """The model that a form names; "" where it names none. Raises as `model_at` does."""
    first, stop = model_at(body, content_type)
    return _text(bytes(body[first : min(stop, first + _MODEL_BYTES)]))


def with_model(body: bytes | bytearray, content_type: str, model: str) -> bytes:
    """``body``, a form that names one, with another ``model``. Raises as `model_at` does."""
    first, stop = model_at(body, content_type)
    return b"".join((body[:first], model.encode(), body[stop:]))


def model_at(body: bytes | bytearray, content_type: str) -> tuple[int, int]:
    """Where in a form the model's name stands; nowhere, ``(0, 0)``, where it names none.

    Raises MalformedRequestError for one that cannot be read in one way alone: with preamble, a
    boundary that is none, a part whose name is not plain, two models, too many parts.
    """
    boundary = b"--" + _boundary(content_type)
    if not body:
        return 0, 0
    if not body.startswith(boundary):
        raise MalformedRequestError("the form does not begin with its boundary")
    model: tuple[int, int] | None = None
    start = len(boundary)
    for _ in range(_MOST_PARTS):
        ends = bytes(body[start : start + 2])
        if ends == b"--":
            rest = bytes(body[start + 2 : start + 7])
            if len(rest) > _MOST_EPILOGUE_BYTES or rest.strip(b"\r\n"):
                raise MalformedRequestError("the form goes on after its end")
            return model or (0, 0)
        head = body.find(b"\r\n\r\n", start, start + _HEAD_BYTES)
        stop = body.find(b"\r\n" + boundary, head + 2)
        if ends != b"\r\n" or head < 0 or stop < 0:
            raise MalformedRequestError("a part of the form has no head or no end")
        if _is_model(bytes(body[start + 2 : head])):
            if model is not None:
                raise MalformedRequestError("model: given twice")
            model = (head + 4, max(stop, head + 4))
        start = stop + 2 + len(boundary)
    raise MalformedRequestError(f"the form has more than {_MOST_PARTS} parts")


def _boundary(content_type: str) -> bytes:
    said = _parameters(content_type.strip()[len(_KIND) :].lstrip(), "content-type")
    boundary = said.get("boundary", "")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise MalformedRequestError(f"content-type: {_KIND} without a boundary")
    if said.get("charset", "utf-8").lower() not in _CHARSETS:
        raise MalformedRequestError("content-type: a form is UTF-8")
    return boundary.encode()


def _parameters(text: str, what: str) -> dict[str, str]:
    """Those after a value, by name in lower case. Raises MalformedRequestError where they are not
    all plain, and for one that is given twice."""
    found: dict[str, str] = {}
    at = 0
    for one in _PARAMETER.finditer(text):
        name = one[1].lower()
        if one.start() != at or name in found:
            break
        found[name] = one[2] if one[2] is not None else one[3]
        at = one.end()
    if text[at:].strip("; \t"):
        raise MalformedRequestError(f"{what}: its parameters are odd, or one is given twice")
    return found


def _is_model(head: bytes) -> bool:
    """Whether a part with this head is the field."""
    name: str | None = None
    encoding = ""
    for line in head.decode("latin-1").split("\r\n"):
        field = _FIELD.fullmatch(line)
        if field is None:
            raise MalformedRequestError("a part of the form has a field that is none")
        key, value = field[1].lower(), field[2].strip()
        if key == "content-transfer-encoding":
            encoding = value.lower()
        elif key == "content-disposition":
            if name is not None:
                raise MalformedRequestError("a part of the form has two names")
            name = _name(value)
    if name is None:
        raise MalformedRequestError("a part of the form has no name")
    if name.lower() != "model":
        return False
    if encoding and encoding not in _AS_IT_IS:
        raise MalformedRequestError("model: send it as it is")
    return True


def _name(disposition: str) -> str:
    kind, _, _ = disposition.partition(";")
    said = _parameters(disposition[len(kind) :], "a part of the form")
    name = said.get("name", "")
    if kind.strip().lower() != "form-data" or not name or "name*" in said or set(name) & set("\\%"):
        raise MalformedRequestError("a part of the form has no plain name")
    return name


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedRequestError("model: not UTF-8") from None
