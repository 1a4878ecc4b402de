"""Anthropic's Message Batches: batches of one file each, which is made of the call that asks.

Their lines are those of OpenAI's batches for ``/v1/messages``, in the same queue; told as
Anthropic's API tells them.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from router.deferral import input_lines
from router.deferral.blobs import Blobs, deleted_on_failure, new_file_id, told_of
from router.deferral.queue import DeferredQueue, ListPage
from router.deferral.values import (
    CANCELLED,
    EXPIRED,
    NO_SUMS,
    Batch,
    BatchStatus,
    BatchTerms,
    Counts,
    NewJob,
    Quota,
    StoredFile,
)
from router.errors import BatchOpenError, MalformedRequestError, UnknownBatchError, UnknownFileError
from router.gateway.caller import Caller
from router.gateway.openai.calls import Incoming
from router.gateway.openai.deferred.asked_batch import (
    LONGEST_S,
    SHORTEST_S,
    asked_grant,
    owner_of,
)
from router.http_api import MESSAGES
from router.identity.narrowing import RegionMask

FAMILY: Final = "msgbatch"
# What only the batch itself knows of: its own file is no file of its owner's.
PURPOSE: Final = "background"
# As Anthropic has them.
_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_MOST: Final = 100_000
_PIECE: Final = 2**20
_RESULTS: Final = {EXPIRED: "expired", CANCELLED: "canceled"}
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Asked(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Body(msgspec.Struct):
    requests: list[_Asked]


class _Line(msgspec.Struct):
    """Of an output or error file."""

    custom_id: str | None = None
    response: Any = None
    error: Any = None
    carbon: msgspec.Raw = msgspec.Raw()


_BODY: Final = msgspec.json.Decoder(_Body)
_LINE: Final = msgspec.json.Decoder(_Line)


class MessageBatches:
    """Of one process."""

    def __init__(self, queue: DeferredQueue, blobs: Blobs, keep_s: float, quota: Quota) -> None:
        self._queue = queue
        self._blobs = blobs
        self._keep_s = keep_s
        self._quota = quota

    async def create(
        self, head: Incoming, body: bytes | bytearray, regions: RegionMask, now: float
    ) -> dict[str, Any]:
        """Take one in, for good. Raises MalformedRequestError, InvalidMetadataError, and as
        `DeferredQueue.add_batch`."""
        grant = asked_grant(head, regions)
        text = await asyncio.to_thread(_lines, body)
        owner, file_id = owner_of(head), new_file_id()
        batch_id = f"{FAMILY}_{secrets.token_hex(16)}"
        with self._blobs.write(file_id) as writer:
            for start in range(0, len(text), _PIECE):
                await asyncio.to_thread(writer.add, memoryview(text)[start : start + _PIECE])
            await asyncio.to_thread(writer.keep)
        # Anthropic's have a day; who wants them sooner says so in a header of ours.
        told_s = Caller(head.fields, None, head.principal, regions).deadline_s
        window_s = min(LONGEST_S, max(SHORTEST_S, told_s))
        deadline = now + window_s
        file = StoredFile(
            file_id, owner, f"{batch_id}.jsonl", PURPOSE, len(text), now, deadline + self._keep_s
        )
        terms = BatchTerms(MESSAGES.path, file_id, f"{window_s:g}s", grant)
        batch = Batch(
            batch_id, owner, BatchStatus.VALIDATING, terms, now, deadline, {},
            Counts(text.count(b"\n")), NO_SUMS, (), "", "",
        )  # fmt: skip
        async with deleted_on_failure(self._blobs, file_id):
            await self._queue.add_batch(batch, self._quota, file)
        return _document(batch)

    async def get(self, head: Incoming, batch_id: str) -> dict[str, Any]:
        """Raises UnknownBatchError."""
        return _document(await self._batch(head, batch_id))

    async def listed(self, head: Incoming, before: str, after: str, most: int) -> dict[str, Any]:
        """A page of ``most``, the newest first. Raises UnknownBatchError."""
        page = ListPage(before or after, most + 1, bool(before), FAMILY)
        found = await self._queue.batches(owner_of(head), page)
        data = [_document(batch) for batch in found[:most]]
        if before:
            data.reverse()
        return {
            "data": data, "has_more": len(found) > most,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }  # fmt: skip

    async def cancel(self, head: Incoming, batch_id: str, now: float) -> dict[str, Any]:
        """Raises UnknownBatchError, BatchEndedError."""
        batch = await self._batch(head, batch_id)
        return _document(await self._queue.cancel(batch.owner, batch_id, now))

    async def delete(self, head: Incoming, batch_id: str) -> dict[str, Any]:
        """Its results, too. Raises UnknownBatchError, BatchOpenError."""
        batch = await self._batch(head, batch_id)
        await self._queue.delete_batch(batch.owner, batch_id)
        for file_id in (batch.output_file_id, batch.error_file_id, batch.terms.input_file_id):
            try:
                await self._queue.delete_file(batch.owner, file_id)
            except UnknownFileError:
                continue
        return {"id": batch_id, "type": "message_batch_deleted"}

    async def results(self, head: Incoming, batch_id: str) -> Iterator[bytes]:
        """Lines of JSON, by and by, each read from the disk. Raises UnknownBatchError,
        BatchOpenError."""
        batch = await self._batch(head, batch_id)
        if not batch.status.is_final:
            raise BatchOpenError(f"batch {batch_id!r} has not ended: it has no results yet")
        return _results(self._blobs, batch)

    async def _batch(self, head: Incoming, batch_id: str) -> Batch:
        if not batch_id.startswith(f"{FAMILY}_"):
            raise UnknownBatchError(f"no message batch {batch_id[:64]!r} is kept here")
        return await self._queue.batch(owner_of(head), batch_id)


def _lines(body: bytes | bytearray) -> bytes:
    """The file of a batch. Raises MalformedRequestError for what none can be made of."""
    try:
        asked = _BODY.decode(body).requests
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(f"the body: {error}") from None
    if not 1 <= len(asked) <= _MOST:
        raise MalformedRequestError(f"requests: give from 1 to {_MOST}")
    seen: set[str] = set()
    lines: list[bytes] = []
    for number, one in enumerate(asked):
        where = f"requests.{number}"
        if _ID.fullmatch(one.custom_id) is None:
            raise MalformedRequestError(
                f"{where}.custom_id: give 1 to 64 letters, digits, hyphens and underscores"
            )
        if one.custom_id in seen:
            raise MalformedRequestError(f"{where}.custom_id: an earlier request has it, too")
        seen.add(one.custom_id)
        text = msgspec.json.encode(
            {"custom_id": one.custom_id, "method": "POST", "url": MESSAGES.path,
             "body": _in_one_line(one.params)}
        )  # fmt: skip
        line = input_lines.InputLine(number + 1, 0, text)
        read = input_lines.read(line, MESSAGES.path, len(text))
        if not isinstance(read, NewJob):
            said = read.error.message.partition(": ")[2].replace("body", f"{where}.params", 1)
            raise MalformedRequestError(said)
        lines.append(text)
    return b"\n".join(lines) + b"\n"


def _in_one_line(params: msgspec.Raw) -> msgspec.Raw:
    """Line ends of JSON are between its tokens: in a text they are escaped."""
    return msgspec.Raw(bytes(params).replace(b"\n", b" ").replace(b"\r", b" "))


def _document(batch: Batch) -> dict[str, Any]:
    has_ended = batch.status.is_final
    ended_at = batch.times.get(str(batch.status)) if has_ended else None
    cancelling = batch.times.get(str(BatchStatus.CANCELLING))
    status = "ended" if has_ended else "canceling" if cancelling else "in_progress"
    return {
        "id": batch.id, "type": "message_batch", "processing_status": status,
        "request_counts": _counts(batch), "created_at": _time(batch.created_at),
        "expires_at": _time(batch.expires_at), "ended_at": _time(ended_at),
        "cancel_initiated_at": _time(cancelling), "archived_at": None,
        # Of this address, however whoever asks has come to it.
        "results_url": f"{MESSAGES.path}/batches/{batch.id}/results" if has_ended else None,
    }  # fmt: skip


def _counts(batch: Batch) -> dict[str, int]:
    """All of them are processing until the batch has ended, as Anthropic has it."""
    total, completed, failed = batch.counts
    if not batch.status.is_final:
        return {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    expired, cancelled = batch.unanswered
    return {
        "processing": 0, "succeeded": completed, "errored": failed - expired - cancelled,
        "canceled": cancelled, "expired": expired,
    }  # fmt: skip


def _time(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat()


def _results(blobs: Blobs, batch: Batch) -> Iterator[bytes]:
    files = [one for one in (batch.output_file_id, batch.error_file_id) if one]
    refused = None
    if batch.status is BatchStatus.FAILED:
        # None of it was begun, so none of it was written.
        files = [batch.terms.input_file_id]
        text = batch.errors[0].message if batch.errors else "it could not be begun"
        refused = _error("api_error", text)
    for file_id in files:
        try:
            with blobs.open(file_id) as file:
                for line in file:
                    yield _result(_LINE.decode(line), refused)
        except FileNotFoundError:
            raise UnknownFileError("results of this batch are not there any more") from None
        except OSError as error:
            raise told_of(error) from None


def _result(line: _Line, refused: dict[str, Any] | None) -> bytes:
    told: dict[str, Any] = {"custom_id": line.custom_id}
    response, error = line.response, line.error
    if refused is not None:
        told["result"] = {"type": "errored", "error": refused}
    elif response and 200 <= response["status_code"] < 300:
        told["result"] = {"type": "succeeded", "message": response["body"]}
    elif error and error.get("code") in _RESULTS:
        told["result"] = {"type": _RESULTS[error["code"]]}
    else:
        told["result"] = {"type": "errored", "error": _stated(response, error)}
    if bytes(line.carbon):
        told["carbon"] = line.carbon
    return msgspec.json.encode(told) + b"\n"


def _stated(response: Any, error: Any) -> dict[str, Any]:
    body = response.get("body") if response else None
    if isinstance(body, dict) and body.get("type") == "error" and "error" in body:
        return body
    said = body.get("error") if isinstance(body, dict) else error
    message = said.get("message") if isinstance(said, dict) else None
    is_callers = bool(response) and 400 <= response["status_code"] < 500
    return _error("invalid_request_error" if is_callers else "api_error", str(message or body))


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
