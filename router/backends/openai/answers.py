"""Whether what came under a good status is an answer of the API that was asked.

Answers of the APIs that are read are JSON objects, or events where a stream was asked for. A page
of something in between, or nothing, is no answer, and another server may have one. Only how it
begins is looked at: whether the rest holds is the caller's to see.
"""

from __future__ import annotations

from typing import Final

from router.contract import Metadata
from router.errors import UpstreamFaultError
from router.http_api import OTHER, HttpApi
from router.model import Endpoint

_BOM: Final = b"\xef\xbb\xbf"
# A line of an event: a field's name, or none in a comment; ``error`` is llama.cpp's of 2024.
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")


def require_answer(endpoint: Endpoint, api: HttpApi, fields: Metadata, begins: bytes) -> None:
    """``begins``: an answer in one piece, or as much of it as has come.

    Raises UpstreamFaultError where it can be none.
    """
    if api is OTHER or _is_compressed(fields) or _bare(begins).startswith(b"{"):
        return
    raise _no_answer(endpoint, begins)


def require_stream(endpoint: Endpoint, api: HttpApi, fields: Metadata, begins: bytes) -> None:
    """As `require_answer`, of what answers a request for a stream: events, or JSON after all."""
    bare = _bare(begins)
    # Of the first line only a part may have come.
    is_event = bare.startswith(_FIELDS) or any(one.startswith(bare) for one in (_BOM, *_FIELDS))
    if api is OTHER or _is_compressed(fields) or bare.startswith(b"{") or (begins and is_event):
        return
    raise _no_answer(endpoint, begins)


def _bare(begins: bytes) -> bytes:
    return begins[:64].removeprefix(_BOM).lstrip()


def _is_compressed(fields: Metadata) -> bool:
    return any(key == "content-encoding" and value != "identity" for key, value in fields)


def _no_answer(endpoint: Endpoint, begins: bytes) -> UpstreamFaultError:
    what = "what is none" if begins else "nothing"
    return UpstreamFaultError(f"{endpoint.name}: the server gave {what} for an answer")
