"""``/v1/files`` and ``/v1/batches``: everything that callers ask of deferred work.

Whose files and batches somebody is told of is decided as of receipts: those of the tenant that it
names and may name, or without one its own. Of others it learns no more than of what never was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from router.config.deferral import DeferralSettings
from router.deferral.blobs import Blobs, deleted_on_failure, new_file_id, told_of
from router.deferral.queue import DeferredQueue, ListPage
from router.deferral.values import Quota, StoredFile
from router.errors import (
    DeferralQuotaError,
    MalformedRequestError,
    UnknownBatchError,
    UnknownFileError,
    UnknownMethodError,
    UnsupportedMethodError,
)
from router.gateway.capacity import Capacity
from router.gateway.openai.calls import Incoming
from router.gateway.openai.deferred.asked_batch import MOST_BODY_BYTES, asked_batch, owner_of
from router.gateway.openai.deferred.background import BackgroundResponses
from router.gateway.openai.deferred.documents import batch_document, file_document, list_document
from router.gateway.openai.deferred.message_batches import MessageBatches
from router.gateway.openai.deferred.upload import receive
from router.gateway.openai.ending import SERVER, CallEnding
from router.gateway.openai.intake import IncomingBody
from router.identity.narrowing import RegionMask

FILES: Final = "/v1/files"
BATCHES: Final = "/v1/batches"
MESSAGES: Final = "/v1/messages/batches"
_ROOTS: Final = (FILES, BATCHES, MESSAGES)
_MOST_FILES: Final = 10_000
_MOST_BATCHES: Final = 100
_USUAL_BATCHES: Final = 20
# At once, of one owner.
_MOST_UPLOADS: Final = 4
_AGAIN_S: Final = 1.0
_MOST_FIELDS: Final = 16
_PIECE: Final = 2**18
_FILE_PARAMETERS: Final = frozenset(("after", "limit", "order", "purpose"))
_RESPONSE_PARAMETERS: Final = frozenset(("include", "include[]", "stream"))
_BATCH_PARAMETERS: Final = frozenset(("after", "limit"))
_MESSAGE_PARAMETERS: Final = frozenset(("before_id", "after_id", "limit", "beta"))
_MOST_MESSAGE_BATCHES: Final = 1000


class DeferredParts(NamedTuple):
    """``now``: unix s; ``came``: told that there is something to do."""

    queue: DeferredQueue
    blobs: Blobs
    settings: DeferralSettings
    now: Callable[[], float]
    came: Callable[[], None]


def deferred_paths() -> list[tuple[str, str]]:
    """(method, an example of the path) of all that is served."""
    file, batch = f"{FILES}/file-1", f"{BATCHES}/batch_1"
    messages = f"{MESSAGES}/msgbatch_1"
    return [
        ("POST", FILES), ("GET", FILES), ("GET", file), ("GET", f"{file}/content"),
        ("DELETE", file), ("POST", BATCHES), ("GET", BATCHES), ("GET", batch),
        ("POST", f"{batch}/cancel"), ("POST", MESSAGES), ("GET", MESSAGES), ("GET", messages),
        ("GET", f"{messages}/results"), ("POST", f"{messages}/cancel"), ("DELETE", messages),
    ]  # fmt: skip


class DeferredApi:
    """Of one process. ``regions``: of the fleet in force."""

    def __init__(
        self, parts: DeferredParts, capacity: Capacity, regions: Callable[[], RegionMask]
    ) -> None:
        self._parts = parts
        self._queue = parts.queue
        self._capacity = capacity
        self._regions = regions
        # By owner: those under way, whose bytes no quota knows yet.
        self._uploads: Counter[str] = Counter()
        settings = parts.settings
        self._quota = Quota(
            settings.tenant_max_bytes, settings.tenant_max_requests, settings.tenant_max_batches
        )
        self._messages = MessageBatches(parts.queue, parts.blobs, settings.keep_s, self._quota)
        self._background = BackgroundResponses(
            parts.queue, parts.blobs, settings.keep_s, self._quota
        )

    def serves(self, path: str) -> bool:
        """Whether ``path`` is about files or batches."""
        return path in _ROOTS or path.startswith(tuple(f"{root}/" for root in _ROOTS))

    async def answer(
        self, request: web.BaseRequest, head: Incoming, path: str, ending: CallEnding
    ) -> web.StreamResponse:
        """To a call of a path that it serves."""
        root = next(root for root in _ROOTS if path.startswith(root))
        named, _, action = path.removeprefix(root).removeprefix("/").partition("/")
        asked = (head.method, bool(named), action)
        answer_of_files = {
            ("POST", False, ""): self._upload,
            ("GET", False, ""): self._files,
            ("GET", True, ""): self._file,
            ("GET", True, "content"): self._content,
            ("DELETE", True, ""): self._delete,
        }
        answer_of_batches = {
            ("POST", False, ""): self._create,
            ("GET", False, ""): self._batches,
            ("GET", True, ""): self._batch,
            ("POST", True, "cancel"): self._cancel,
        }
        answer_of_messages = {
            ("POST", False, ""): self._create_messages,
            ("GET", False, ""): self._message_batches,
            ("GET", True, ""): self._message_batch,
            ("GET", True, "results"): self._results,
            ("POST", True, "cancel"): self._cancel_messages,
            ("DELETE", True, ""): self._delete_messages,
        }
        answers = {FILES: answer_of_files, BATCHES: answer_of_batches, MESSAGES: answer_of_messages}
        found = answers[root].get(asked)
        if found is None:
            raise UnknownMethodError(f"{head.method[:16]} {path[:128]}: not served here")
        return await found(request, head, named, ending)

    async def make_later(
        self, head: Incoming, body: bytes | bytearray, model: str
    ) -> web.StreamResponse:
        """To a request for a response in the background."""
        now = self._parts.now()
        told = await self._background.create(head, body, model, self._regions(), now)
        self._parts.came()
        return _json(told)

    async def made_later(self, head: Incoming, response_id: str, action: str) -> web.StreamResponse:
        """To a question about one: GET, DELETE, or the ``action`` /cancel."""
        background, now = self._background, self._parts.now()
        if action == "/cancel":
            told = await background.cancel(head, response_id, now)
            self._parts.came()
        elif action:
            raise UnsupportedMethodError("input items of a response in the background are not kept")
        elif head.method == "DELETE":
            told = await background.delete(head, response_id, now)
        else:
            if "stream" in _parameters(head, _RESPONSE_PARAMETERS):
                raise UnsupportedMethodError("a stored response is not streamed again here")
            told = await background.get(head, response_id)
        return _json(told)

    async def _upload(
        self, request: web.BaseRequest, head: Incoming, _: str, __: CallEnding
    ) -> web.StreamResponse:
        owner, settings = owner_of(head), self._parts.settings
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # It is no part of the answer.
            request.writer.output_size = 0
        file_id = new_file_id()
        self._capacity.begin(head.principal.account, head.principal.weight)
        self._uploads[owner] += 1
        try:
            if self._uploads[owner] > _MOST_UPLOADS:
                raise DeferralQuotaError(
                    f"this tenant uploads {_MOST_UPLOADS} files already: send one after the other",
                    _AGAIN_S,
                )
            # Opened here: of a thread that nobody waits for any more nobody would close it.
            with self._parts.blobs.write(file_id) as writer:
                uploaded = await receive(request, writer, settings.max_file_bytes)
                await asyncio.to_thread(writer.keep)
                size_bytes = writer.size_bytes
        finally:
            self._capacity.end(head.principal.account)
            self._uploads[owner] -= 1
            if not self._uploads[owner]:
                del self._uploads[owner]
        now = self._parts.now()
        keep_s = settings.keep_s if uploaded.keep_s is None else uploaded.keep_s
        file = StoredFile(
            file_id, owner, uploaded.filename, uploaded.purpose, size_bytes, now, now + keep_s
        )
        async with deleted_on_failure(self._parts.blobs, file_id):
            await self._queue.add_file(file, self._quota)
        return _json(file_document(file))

    async def _files(
        self, _: web.BaseRequest, head: Incoming, __: str, ___: CallEnding
    ) -> web.StreamResponse:
        asked = _parameters(head, _FILE_PARAMETERS)
        order = asked.get("order", "desc")
        if order not in ("asc", "desc"):
            raise MalformedRequestError("order: say asc or desc")
        most = _limit(asked, _MOST_FILES, _MOST_FILES)
        page = ListPage(asked.get("after", ""), most + 1, order == "asc")
        found = await self._queue.files(owner_of(head), page, asked.get("purpose", ""))
        # Of ten thousand files this takes a while.
        return await asyncio.to_thread(
            lambda: _json(list_document([file_document(file) for file in found], most))
        )

    async def _file(
        self, _: web.BaseRequest, head: Incoming, file_id: str, __: CallEnding
    ) -> web.StreamResponse:
        return _json(file_document(await self._queue.file(owner_of(head), file_id)))

    async def _delete(
        self, _: web.BaseRequest, head: Incoming, file_id: str, __: CallEnding
    ) -> web.StreamResponse:
        await self._queue.delete_file(owner_of(head), file_id)
        return _json({"id": file_id, "object": "file", "deleted": True})

    async def _content(
        self, request: web.BaseRequest, head: Incoming, file_id: str, ending: CallEnding
    ) -> web.StreamResponse:
        file = await self._queue.file(owner_of(head), file_id)
        opened = await asyncio.to_thread(_open, self._parts.blobs, file.id)
        try:
            response = web.StreamResponse(
                headers={"content-type": "application/octet-stream", "server": SERVER,
                         "content-length": str(file.size_bytes),
                         # What somebody uploaded is no page of this address.
                         "x-content-type-options": "nosniff"}
            )  # fmt: skip
            await response.prepare(request)
            ending.response = response
            while piece := await asyncio.to_thread(opened.read, _PIECE):
                ending.written_bytes += len(piece)
                await response.write(piece)
        finally:
            opened.close()
        await response.write_eof()
        return response

    async def _create(
        self, request: web.BaseRequest, head: Incoming, _: str, __: CallEnding
    ) -> web.StreamResponse:
        with IncomingBody(self._capacity, MOST_BODY_BYTES, head.principal) as held:
            body = await held.read(request)
            batch = asked_batch(head, body, self._regions(), self._parts.now())
        await self._queue.add_batch(batch, self._quota)
        self._parts.came()
        return _json(batch_document(batch))

    async def _batches(
        self, _: web.BaseRequest, head: Incoming, __: str, ___: CallEnding
    ) -> web.StreamResponse:
        asked = _parameters(head, _BATCH_PARAMETERS)
        most = _limit(asked, _USUAL_BATCHES, _MOST_BATCHES)
        found = await self._queue.batches(
            owner_of(head), ListPage(asked.get("after", ""), most + 1)
        )
        return _json(list_document([batch_document(batch) for batch in found], most))

    async def _batch(
        self, _: web.BaseRequest, head: Incoming, batch_id: str, __: CallEnding
    ) -> web.StreamResponse:
        _require_batch(batch_id)
        return _json(batch_document(await self._queue.batch(owner_of(head), batch_id)))

    async def _cancel(
        self, _: web.BaseRequest, head: Incoming, batch_id: str, __: CallEnding
    ) -> web.StreamResponse:
        _require_batch(batch_id)
        batch = await self._queue.cancel(owner_of(head), batch_id, self._parts.now())
        self._parts.came()
        return _json(batch_document(batch))

    async def _create_messages(
        self, request: web.BaseRequest, head: Incoming, _: str, __: CallEnding
    ) -> web.StreamResponse:
        with IncomingBody(
            self._capacity, self._parts.settings.max_file_bytes, head.principal
        ) as held:
            body = await held.read(request)
            encoding = head.by_name.get("content-encoding", "identity").strip().lower()
            if encoding != "identity":
                body = await held.inflated(body, encoding)
            told = await self._messages.create(head, body, self._regions(), self._parts.now())
        self._parts.came()
        return _json(told)

    async def _message_batches(
        self, _: web.BaseRequest, head: Incoming, __: str, ___: CallEnding
    ) -> web.StreamResponse:
        asked = _parameters(head, _MESSAGE_PARAMETERS)
        before, after = asked.get("before_id", ""), asked.get("after_id", "")
        if before and after:
            raise MalformedRequestError("before_id, after_id: give one of them")
        most = _limit(asked, _USUAL_BATCHES, _MOST_MESSAGE_BATCHES)
        return _json(await self._messages.listed(head, before, after, most))

    async def _message_batch(
        self, _: web.BaseRequest, head: Incoming, batch_id: str, __: CallEnding
    ) -> web.StreamResponse:
        return _json(await self._messages.get(head, batch_id))

    async def _cancel_messages(
        self, _: web.BaseRequest, head: Incoming, batch_id: str, __: CallEnding
    ) -> web.StreamResponse:
        told = await self._messages.cancel(head, batch_id, self._parts.now())
        self._parts.came()
        return _json(told)

    async def _delete_messages(
        self, _: web.BaseRequest, head: Incoming, batch_id: str, __: CallEnding
    ) -> web.StreamResponse:
        told = await self._messages.delete(head, batch_id)
        self._parts.came()
        return _json(told)

    async def _results(
        self, request: web.BaseRequest, head: Incoming, batch_id: str, ending: CallEnding
    ) -> web.StreamResponse:
        lines = await self._messages.results(head, batch_id)
        some = await asyncio.to_thread(_some_of, lines)
        response = web.StreamResponse(
            headers={"content-type": "application/x-jsonl", "server": SERVER,
                     "x-content-type-options": "nosniff"}
        )  # fmt: skip
        await response.prepare(request)
        ending.response = response
        while some:
            ending.written_bytes += len(some)
            await response.write(some)
            some = await asyncio.to_thread(_some_of, lines)
        await response.write_eof()
        return response


def _some_of(lines: Iterator[bytes]) -> bytes:
    """The next of ``lines``, a piece of them; b"" after the last."""
    found: list[bytes] = []
    size = 0
    for line in lines:
        found.append(line)
        size += len(line)
        if size >= _PIECE:
            break
    return b"".join(found)


def _require_batch(batch_id: str) -> None:
    """Responses in the background are batches to nobody but us, Anthropic's to no one else."""
    if not batch_id.startswith("batch_"):
        raise UnknownBatchError(f"no batch {batch_id!r} is kept here")


def _open(blobs: Blobs, file_id: str) -> BinaryIO:
    try:
        return blobs.open(file_id)
    except FileNotFoundError:
        raise UnknownFileError(f"file {file_id!r} is not there any more") from None
    except OSError as error:
        raise told_of(error) from None


def _parameters(head: Incoming, known: frozenset[str]) -> dict[str, str]:
    """Of a query. Raises MalformedRequestError for one that is not known, or given twice."""
    query = head.path.partition("?")[2]
    try:
        found = parse_qs(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise MalformedRequestError(f"more than {_MOST_FIELDS} parameters") from None
    for name, values in found.items():
        if name not in known or len(values) > 1:
            listed = ", ".join(sorted(known))
            raise MalformedRequestError(f"{name[:64]}: give each of these once: {listed}")
    return {name: values[0] for name, values in found.items()}


def _limit(asked: Mapping[str, str], usual: int, most: int) -> int:
    text = asked.get("limit", str(usual))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise MalformedRequestError(f"limit: give a number from 1 to {most}")
    return int(text[:9])


def _json(told: Mapping[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(told), content_type="application/json")
