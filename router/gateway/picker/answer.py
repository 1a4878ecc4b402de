"""What passes of one answer that a proxy carries: read for what it teaches, never changed."""

from __future__ import annotations

from typing import Final

from router.backends.openai.answers import require_answer, require_stream
from router.backends.openai.events import Events
from router.backends.openai.stream import reports_of
from router.backends.openai.upstream_errors import error_of_status
from router.contract import Metadata
from router.director import Handover
from router.errors import UpstreamError, UpstreamLostError
from router.http_api import USAGE, HttpApi, states_usage
from router.model import Receipt

# An answer in one piece is looked into where it is no longer, a stream where no event is.
_LOOKED_BYTES: Final = 2**20
# Of an answer whose size is not looked into, such as embeddings, energy is not, either.
_ENERGY_BYTES: Final = 64 * 1024


class CarriedAnswer:
    """Feed it `head`, then each `piece`, then `end`. The request may have ended before that, in an
    error: what follows passes unread.

    ``begins``: the first bytes of a good answer, for what they name.
    """

    def __init__(self, handover: Handover, api: HttpApi) -> None:
        self._handover = handover
        self._api = api
        self._fields: Metadata = ()
        self._events: Events | None = None
        self._whole: bytearray | None = None
        self._come_bytes = 0
        self.has_begun = False
        self.begins = b""

    async def head(self, status: int, fields: list[tuple[str, str]]) -> UpstreamError | None:
        """The error in which the request ended; None where it goes on."""
        self.has_begun = True
        self._fields = fields
        by_name = dict(fields)
        if not 200 <= status < 300:
            endpoint = self._handover.attempt.decision.endpoint
            return await self._handover.fail(error_of_status(endpoint, status, by_name, b""))
        plain = by_name.get("content-encoding", "identity").lower() == "identity"
        kind = by_name.get("content-type", "").lower()
        if kind.startswith("text/event-stream"):
            # Of one that is compressed nothing can be told but how long it took.
            self._events = Events(self._api, _LOOKED_BYTES) if plain else None
        elif plain:
            self._whole = bytearray()
        return None

    async def piece(self, body: bytes) -> UpstreamError | None:
        """As `head`."""
        if self._handover.ended or not body:
            return None
        try:
            self._read(body)
        except UpstreamError as error:
            return await self._handover.fail(error)
        return None

    async def end(self) -> Receipt | UpstreamError | None:
        """The receipt; None of one that had ended before."""
        if self._handover.ended:
            return None
        try:
            trailers = self._rest()
        except UpstreamError as error:
            return await self._handover.fail(error)
        return self._handover.arrive(trailers)

    def _read(self, body: bytes) -> None:
        first, attempt = not self._come_bytes, self._handover.attempt
        self._come_bytes += len(body)
        if first:
            self.begins = body
        if self._events is not None:
            if first:
                require_stream(attempt.decision.endpoint, self._api, self._fields, body)
            if not self._events.ended and (message := self._events.feed(body)):
                attempt.heard(message, streamed=True)
        elif self._whole is not None:
            if self._come_bytes <= _LOOKED_BYTES:
                self._whole += body
            else:
                self._whole = None

    def _rest(self) -> list[tuple[str, str | bytes]]:
        """What the answer says of itself. Raises UpstreamError leaves where it is none."""
        attempt, events = self._handover.attempt, self._events
        endpoint = attempt.decision.endpoint
        reports = list(reports_of(self._fields))
        if events is not None:
            if not events.ended and (message := events.finish()):
                attempt.heard(message, streamed=True)
            if not events.is_complete():
                raise UpstreamLostError(
                    f"{endpoint.name}: the answer ended after {self._come_bytes} bytes without "
                    "the event that ends it"
                )
            return reports + events.trailers()
        if self._whole is not None:
            whole = bytes(self._whole)
            require_answer(endpoint, self._api, self._fields, whole)
            attempt.heard(whole, streamed=False)
            if len(whole) <= _ENERGY_BYTES and states_usage(whole):
                reports.append((USAGE, whole))
        return reports
