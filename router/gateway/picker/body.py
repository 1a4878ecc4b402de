"""A request's body as a proxy sends it: taken in within what a process may hold."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from router.errors import MessageTooLargeError, RequestStalledError
from router.gateway.capacity import Capacity, full
from router.gateway.openai.intake import STALLED_S, WHOLE_S
from router.gateway.picker.talk import OutOfTurnError, Talk


class PickedBody(NamedTuple):
    """``pieces``: as they came in; ``trailers``: whether those end it."""

    pieces: list[bytes]
    trailers: bool

    @property
    def size_bytes(self) -> int:
        """Of all pieces."""
        return sum(map(len, self.pieces))


class BodyReader:
    """Of one request: what it holds counts in ``capacity`` until `release`."""

    def __init__(
        self,
        talk: Talk,
        capacity: Capacity,
        most_bytes: int,
        stalled_s: float = STALLED_S,
        whole_s: float = WHOLE_S,
    ) -> None:
        """``most_bytes``: of one body; ``stalled_s``: between two of its pieces; ``whole_s``: from
        the first wait for it to its end."""
        self._talk = talk
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._stalled_s = stalled_s
        self._whole_s = whole_s
        self._held_bytes = 0

    async def read(self, in_one_piece: bool) -> PickedBody | None:
        """All of it; None where the stream ends before. ``in_one_piece``: as the proxy sends it.

        Raises MessageTooLargeError, GatewayFullError, RequestStalledError and OutOfTurnError.
        """
        pieces: list[bytes] = []
        by = asyncio.get_running_loop().time() + self._whole_s
        while True:
            message = await self._next(by)
            if message is None:
                return None
            kind = message.WhichOneof("request")
            if kind == "request_trailers":
                return PickedBody(pieces, True)
            if kind != "request_body":
                raise OutOfTurnError(f"{kind or 'nothing'} where a body was to come")
            piece = message.request_body.body
            pieces.append(piece)
            self._hold(len(piece))
            if self._held_bytes > self._most_bytes:
                raise MessageTooLargeError(f"the body has more than {self._most_bytes} bytes")
            if self._capacity.held_bytes > self._capacity.max_bytes:
                raise full()
            if message.request_body.end_of_stream or in_one_piece:
                return PickedBody(pieces, False)

    def release(self) -> None:
        """None of it is held any more. Calling it twice does nothing."""
        self._hold(-self._held_bytes)

    async def _next(self, by: float) -> Any:
        left_s = by - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(self._stalled_s, left_s)):
                if left_s > 0.0:
                    return await self._talk.next()
        except TimeoutError:
            pass
        raise RequestStalledError(
            f"the request's body stopped coming for {self._stalled_s:g} s, or did not end within "
            f"{self._whole_s:g} s"
        )

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self._capacity.hold(size_bytes)
