"""Takes in a file that is uploaded, straight to the disk: none of it is held for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, NamedTuple, TypeVar

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from router.deferral.blobs import BlobWriter
from router.errors import MalformedRequestError, MessageTooLargeError, RequestStalledError
from router.gateway.openai.forms import is_form
from router.gateway.openai.intake import STALLED_S

Got = TypeVar("Got")

# All of one upload, from its first piece to its last: a large file over a slow line.
WHOLE_S: Final = 3600.0
_PIECE: Final = 2**16
# So much of it is held before it goes to the disk.
_HELD: Final = 2**20
_MOST_PARTS: Final = 16
_MOST_FIELD: Final = 1024
_AS_IT_IS: Final = frozenset(("", "7bit", "8bit", "binary"))
_MOST_NAME: Final = 255
_PURPOSE: Final = "batch"
_ANCHOR: Final = "expires_after[anchor]"
_SECONDS: Final = "expires_after[seconds]"
# As OpenAI has it.
LEAST_KEPT_S: Final = 3600
MOST_KEPT_S: Final = 30 * 86_400


class Uploaded(NamedTuple):
    """``keep_s``: None where the caller does not say."""

    filename: str
    purpose: str
    keep_s: float | None


async def receive(request: web.BaseRequest, writer: BlobWriter, most_bytes: int) -> Uploaded:
    """Write the file of a form to ``writer``, which the caller keeps; what the form says of it.

    Raises MalformedRequestError, MessageTooLargeError, RequestStalledError, and as `BlobWriter`.
    """
    if not is_form(request.headers.get("content-type", "")):
        raise MalformedRequestError("send the file as multipart/form-data, with a purpose")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise MalformedRequestError("content-encoding: send the file as it is")
    told = request.content_length or 0
    if told > most_bytes + 2**16:
        raise _too_large(most_bytes)
    try:
        async with asyncio.timeout(WHOLE_S):
            return await _read(request, writer, most_bytes)
    except TimeoutError:
        raise RequestStalledError(f"the file did not end within {WHOLE_S:g} s") from None
    except web.RequestPayloadError as error:
        raise MalformedRequestError(f"the file cannot be read: {error}") from None
    except (HttpProcessingError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        # However aiohttp says that a form is none.
        text = str(error)[:256].encode("ascii", "replace").decode()
        raise MalformedRequestError(f"the form cannot be read: {text}") from None


async def _read(request: web.BaseRequest, writer: BlobWriter, most_bytes: int) -> Uploaded:
    form = MultipartReader(request.headers, request.content)
    fields: dict[str, str] = {}
    filename: str | None = None
    for _ in range(_MOST_PARTS):
        part = await _in_time(form.next())
        if part is None:
            return _uploaded(fields, filename)
        if not isinstance(part, BodyPartReader) or (
            part.headers.get("content-transfer-encoding", "").lower() not in _AS_IT_IS
        ):
            raise MalformedRequestError("the form has a part that is no plain field")
        name = part.name or ""
        if name == "file":
            if filename is not None:
                raise MalformedRequestError("file: given twice")
            filename = _plain(part.filename or "")
            await _store(part, writer, most_bytes)
        elif name in fields:
            raise MalformedRequestError(f"{name[:64]}: given twice")
        else:
            fields[name] = await _field(part, name)
    raise MalformedRequestError(f"the form has more than {_MOST_PARTS} parts")


async def _store(part: BodyPartReader, writer: BlobWriter, most_bytes: int) -> None:
    held = bytearray()
    while piece := await _in_time(part.read_chunk(_PIECE)):
        held += piece
        if writer.size_bytes + len(held) > most_bytes:
            raise _too_large(most_bytes)
        if len(held) >= _HELD:
            await asyncio.to_thread(writer.add, held)
            held = bytearray()
    await asyncio.to_thread(writer.add, held)


async def _field(part: BodyPartReader, name: str) -> str:
    value = bytearray()
    while piece := await _in_time(part.read_chunk(_PIECE)):
        value += piece
        if len(value) > _MOST_FIELD:
            raise MalformedRequestError(f"{name[:64]}: longer than {_MOST_FIELD} bytes")
    return value.decode()


async def _in_time(waited: Awaitable[Got]) -> Got:
    try:
        async with asyncio.timeout(STALLED_S):
            return await waited
    except TimeoutError:
        raise RequestStalledError(f"the file stopped coming for {STALLED_S:g} s") from None


def _uploaded(fields: dict[str, str], filename: str | None) -> Uploaded:
    if filename is None:
        raise MalformedRequestError("file: missing")
    purpose = fields.get("purpose", "")
    if purpose != _PURPOSE:
        raise MalformedRequestError(
            f"purpose: say {_PURPOSE}; files are kept here for nothing else"
        )
    if _ANCHOR not in fields and _SECONDS not in fields:
        return Uploaded(filename, purpose, None)
    return Uploaded(filename, purpose, kept_s(fields.get(_ANCHOR), fields.get(_SECONDS)))


def kept_s(anchor: object, seconds: object) -> float:
    """How long a file is to be kept. Raises MalformedRequestError."""
    text = str(seconds)
    whole = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if anchor != "created_at" or not LEAST_KEPT_S <= whole <= MOST_KEPT_S:
        raise MalformedRequestError(
            "expires_after: give the anchor created_at, and from "
            f"{LEAST_KEPT_S} to {MOST_KEPT_S} seconds"
        )
    return float(whole)


def _plain(name: str) -> str:
    """A file's name as its caller has it, to be told again: it is no path here."""
    shown = "".join(letter if letter.isprintable() else "_" for letter in name)
    return shown[-_MOST_NAME:] or "file.jsonl"


def _too_large(most_bytes: int) -> MessageTooLargeError:
    return MessageTooLargeError(f"the file has more than {most_bytes} bytes: make several of it")
