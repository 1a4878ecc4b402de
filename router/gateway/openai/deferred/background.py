"""Responses that are made in the background: a batch of one line each, under a response's id.

``background_options.completion_window`` says until when they may wait; ``soonest``, or none: they
do not, but for whoever waits for an answer.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any, Final

import msgspec

from router.deferral.blobs import Blobs, deleted_on_failure, new_file_id, told_of
from router.deferral.queue import DeferredQueue
from router.deferral.values import (
    NO_SUMS,
    Batch,
    BatchStatus,
    BatchTerms,
    Counts,
    Quota,
    StoredFile,
)
from router.errors import (
    MalformedRequestError,
    UnknownBatchError,
    UnknownFileError,
    UnknownResponseError,
)
from router.gateway.openai.calls import Incoming
from router.gateway.openai.deferred.asked_batch import asked_grant, owner_of
from router.http_api import RESPONSES
from router.identity.narrowing import RegionMask

SOONEST: Final = "soonest"
PURPOSE: Final = "background"
# The last is no window: by then there is something wrong.
_WINDOWS_S: Final = {"2h": 7200.0, "8h": 28_800.0, SOONEST: 3600.0}
_ID: Final = re.compile(r"resp_bg[0-9a-f]{32}")
_OURS: Final = frozenset(("background", "background_options"))
# Of one that is not to be stored.
_SHORT_S: Final = 600.0
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Options(msgspec.Struct):
    completion_window: str | None = None
    continuation_id: str | None = None


class _Kept(msgspec.Struct):
    response: Any = None
    error: Any = None


def is_background_id(response_id: str) -> bool:
    """Whether a response's id is one of these."""
    return _ID.fullmatch(response_id) is not None


class BackgroundResponses:
    """Of one process."""

    def __init__(self, queue: DeferredQueue, blobs: Blobs, keep_s: float, quota: Quota) -> None:
        """``keep_s``: of those that are stored."""
        self._queue = queue
        self._blobs = blobs
        self._keep_s = keep_s
        self._quota = quota

    async def create(
        self, head: Incoming, body: bytes | bytearray, model: str, regions: RegionMask, now: float
    ) -> dict[str, Any]:
        """Take one in, for good; what it is then. ``body``: of a request that asks for
        ``background``.

        Raises MalformedRequestError, InvalidMetadataError, and as `DeferredQueue.add_batch`.
        """
        fields = _FIELDS(body)
        if bytes(fields.get("stream", b"null")) not in (b"false", b"null"):
            raise MalformedRequestError("stream: a response in the background is not streamed here")
        window = _window(fields.get("background_options"))
        grant = asked_grant(head, regions)
        response_id = f"resp_bg{secrets.token_hex(16)}"
        line = msgspec.json.encode({
            "custom_id": response_id, "method": "POST", "url": RESPONSES.path,
            "body": {name: raw for name, raw in fields.items() if name not in _OURS},
        }) + b"\n"  # fmt: skip
        is_stored = bytes(fields.get("store", b"true")) != b"false"
        keep_s = self._keep_s if is_stored else _SHORT_S
        deadline = now + _WINDOWS_S[window]
        owner, file_id = owner_of(head), new_file_id()
        with self._blobs.write(file_id) as writer:
            await asyncio.to_thread(writer.add, line)
            await asyncio.to_thread(writer.keep)
        file = StoredFile(
            file_id, owner, f"{response_id}.jsonl", PURPOSE, len(line), now, deadline + keep_s
        )
        terms = BatchTerms(RESPONSES.path, file_id, window, grant, {"model": model}, keep_s)
        batch = Batch(
            response_id, owner, BatchStatus.VALIDATING, terms, now, deadline, {}, Counts(),
            NO_SUMS, (), "", "",
        )  # fmt: skip
        async with deleted_on_failure(self._blobs, file_id):
            await self._queue.add_batch(batch, self._quota, file)
        return _document(batch, "queued")

    async def get(self, head: Incoming, response_id: str) -> dict[str, Any]:
        """What has become of one. Raises UnknownResponseError."""
        batch = await self._batch(head, response_id)
        if batch.status is BatchStatus.COMPLETED:
            return await self._ended(batch)
        if batch.status in (BatchStatus.CANCELLED, BatchStatus.CANCELLING):
            return _document(batch, "cancelled")
        if batch.status in (BatchStatus.FAILED, BatchStatus.EXPIRED):
            text = "it could not be made within its completion window"
            if batch.errors:
                text = batch.errors[0].message
            return _document(batch, "failed", {"code": "server_error", "message": text})
        under_way = await self._queue.under_way(response_id)
        return _document(batch, "in_progress" if under_way else "queued")

    async def cancel(self, head: Incoming, response_id: str, now: float) -> dict[str, Any]:
        """It is not made, or let go. Raises UnknownResponseError, BatchEndedError."""
        batch = await self._batch(head, response_id)
        return _document(await self._queue.cancel(batch.owner, batch.id, now), "cancelled")

    async def delete(self, head: Incoming, response_id: str, now: float) -> dict[str, Any]:
        """Nobody finds its answer any more. Raises UnknownResponseError."""
        batch = await self._batch(head, response_id)
        if not batch.status.is_final and batch.status is not BatchStatus.FINALIZING:
            await self._queue.cancel(batch.owner, batch.id, now)
        for file_id in (batch.output_file_id, batch.error_file_id, batch.terms.input_file_id):
            try:
                await self._queue.delete_file(batch.owner, file_id)
            except UnknownFileError:
                continue
        return {"id": response_id, "object": "response", "deleted": True}

    async def _batch(self, head: Incoming, response_id: str) -> Batch:
        owner = owner_of(head)
        try:
            batch = await self._queue.batch(owner, response_id)
            # Deleted with it, or past its time.
            await self._queue.file(owner, batch.terms.input_file_id)
        except (UnknownBatchError, UnknownFileError):
            text = f"no response {response_id[:64]!r} is kept here"
            raise UnknownResponseError(text) from None
        return batch

    async def _ended(self, batch: Batch) -> dict[str, Any]:
        file_id = batch.output_file_id or batch.error_file_id
        try:
            text = await asyncio.to_thread(_whole, self._blobs, file_id)
        except FileNotFoundError:
            raise UnknownResponseError(f"no response {batch.id!r} is kept here") from None
        except OSError as failure:
            raise told_of(failure) from None
        kept = msgspec.json.decode(text, type=_Kept)
        body = kept.response["body"] if kept.response else None
        if batch.output_file_id and isinstance(body, dict):
            # The server's own id means nothing here; what it says otherwise stands.
            return body | {"id": batch.id, "background": True}
        error = body.get("error") if isinstance(body, dict) else None
        told = error if isinstance(error, dict) else kept.error or {}
        message = str(told.get("message") or "it could not be made")
        code = str(told.get("code") or "server_error")
        return _document(batch, "failed", {"code": code, "message": message})


def _window(raw: msgspec.Raw | None) -> str:
    try:
        options = msgspec.json.decode(raw or b"null", type=_Options | None) or _Options()
    except msgspec.DecodeError as error:
        raise MalformedRequestError(f"background_options: {error}") from None
    window = SOONEST if options.completion_window is None else options.completion_window
    if window not in _WINDOWS_S:
        raise MalformedRequestError("background_options.completion_window: say soonest, 2h or 8h")
    if options.continuation_id is not None:
        text = "background_options.continuation_id: nothing is kept to go on from; leave it out"
        raise MalformedRequestError(text)
    return window


def _document(batch: Batch, status: str, error: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "id": batch.id, "object": "response", "created_at": int(batch.created_at),
        "status": status, "background": True, "error": error, "incomplete_details": None,
        "instructions": None, "metadata": {}, "model": (batch.terms.metadata or {}).get("model"),
        "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": None,
    }  # fmt: skip


def _whole(blobs: Blobs, file_id: str) -> bytes:
    with blobs.open(file_id) as file:
        return file.read()
