"""The field ``model`` of multipart/form-data, as audio and pictures come: each byte is met once."""

from __future__ import annotations

import re
from typing import Final

from router.errors import MalformedRequestError

_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NAMED_MODEL: Final = re.compile(rb';\s*name=(?:"model"|model)\s*(?:;|\r\n|$)', re.IGNORECASE)
# A part's own fields; what is longer is none of a client that names a model.
_HEAD_BYTES: Final = 1024
_MODEL_BYTES: Final = 1024
_MOST_PARTS: Final = 256


def is_form(content_type: str) -> bool:
    """Whether a body with this content type is one."""
    return content_type.lower().lstrip().startswith("multipart/form-data")


def model_in(body: bytes | bytearray, content_type: str) -> str:
    """The model that a form names; "" where it names none.

    Raises MalformedRequestError for one without a boundary, with too many parts, and for a name
    that is no text.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise MalformedRequestError("content-type: multipart/form-data without a boundary")
    boundary = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    start = body.find(boundary)
    for _ in range(_MOST_PARTS):
        if start < 0:
            return ""
        start += len(boundary)
        stop = body.find(boundary, start)
        name = _model_of(body, start, stop if stop >= 0 else len(body))
        if name is not None:
            return name
        start = stop
    raise MalformedRequestError(f"the form has more than {_MOST_PARTS} parts")


def _model_of(body: bytes | bytearray, start: int, stop: int) -> str | None:
    """What the part says, where it is the field; None where it is another one."""
    ends = body.find(b"\r\n\r\n", start, min(stop, start + _HEAD_BYTES))
    if ends < 0 or _NAMED_MODEL.search(body, start, ends + 2) is None:
        return None
    value = bytes(body[ends + 4 : min(stop, ends + 4 + _MODEL_BYTES)])
    try:
        return value.removesuffix(b"\r\n").decode()
    except UnicodeDecodeError:
        raise MalformedRequestError("model: not UTF-8") from None
