"""Takes in requests' bodies, within what a process may hold."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from aiohttp import StreamReader, web

from router.errors import MalformedRequestError, MessageTooLargeError, RequestStalledError
from router.gateway.capacity import Capacity, full
from router.gateway.inflate import inflate, is_compressed
from router.identity.principal import Principal

# Bytes of a body come as fast as the client sends them; one that stops for so long is given up.
STALLED_S: Final = 30.0
# And all of it, from its first piece to its last.
WHOLE_S: Final = 300.0
_INFLATED: Final = ("gzip", "x-gzip", "deflate")


class IncomingBody:
    """One call's part of `Capacity`: from ``with`` to its end.

    Raises GatewayFullError where there is no room for one more call of ``principal``.
    """

    __slots__ = ("_capacity", "_held_bytes", "_most_bytes", "_principal")

    def __init__(self, capacity: Capacity, most_bytes: int, principal: Principal) -> None:
        """``most_bytes``: of one body."""
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._principal = principal
        self._held_bytes = 0

    def __enter__(self) -> IncomingBody:
        self._capacity.begin(self._principal.account, self._principal.weight)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._capacity.end(self._principal.account)
        self._capacity.hold(-self._held_bytes)

    async def read(self, request: web.BaseRequest) -> bytes | bytearray:
        """The body as it came, compressed where it is.

        Raises MessageTooLargeError, GatewayFullError, RequestStalledError, and
        MalformedRequestError for one that ends too soon.
        """
        told = request.content_length or 0
        if told > self._most_bytes:
            raise self._too_large(told)
        content = request.content
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # It is no part of the answer.
            request.writer.output_size = 0
        started = asyncio.get_running_loop().time()
        body: bytes | bytearray = b""
        while not content.at_eof():
            # What is there needs no turn of the loop: mostly all of it.
            piece = content.read_nowait() or await self._next(content)
            self._hold(len(piece))
            if self._held_bytes > self._most_bytes:
                raise self._too_large(self._held_bytes)
            if asyncio.get_running_loop().time() - started > WHOLE_S:
                raise RequestStalledError(f"the request's body did not end within {WHOLE_S:g} s")
            if not body:
                body = piece
            elif isinstance(body, bytearray):
                body += piece
            else:
                body = bytearray(body)
                body += piece
        return body

    async def inflated(self, body: bytes | bytearray, encoding: str) -> bytes:
        """``body`` as it was before it was compressed. Raises MalformedRequestError for another
        encoding and for one that is damaged, and MessageTooLargeError."""
        if encoding not in _INFLATED:
            raise MalformedRequestError(
                f"content-encoding: {encoding[:32]!r} is not read here; use gzip, or none"
            )
        if not is_compressed(body):
            raise MalformedRequestError("the body is not what its content-encoding says")
        async with self._capacity.inflating:
            # A few KiB can become as much as there may be.
            self._hold(self._most_bytes)
            try:
                plain = await asyncio.to_thread(inflate, body, self._most_bytes)
            finally:
                self._hold(-self._most_bytes)
        self._hold(len(plain))
        return plain

    async def _next(self, content: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(STALLED_S):
                return await content.readany()
        except web.RequestPayloadError as error:
            raise MalformedRequestError(f"the body cannot be read: {error}") from None
        except TimeoutError:
            raise RequestStalledError(
                f"the request's body stopped coming for {STALLED_S:g} s"
            ) from None

    def _hold(self, size: int) -> None:
        self._held_bytes += size
        self._capacity.hold(size)
        if size > 0 and self._capacity.held_bytes > self._capacity.max_bytes:
            raise full()

    def _too_large(self, size: int) -> MessageTooLargeError:
        return MessageTooLargeError(f"the body has {size} bytes, more than {self._most_bytes}")
