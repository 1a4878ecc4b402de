"""One streamed answer: whole events in the order they came, then what was held back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from router.backends.openai.answers import require_stream
from router.backends.openai.call import UpstreamCall
from router.backends.openai.events import Events
from router.backends.openai.exchange import Exchange
from router.contract import Metadata
from router.errors import UpstreamLostError
from router.http_api import USAGE, HttpApi, states_usage

# Fields of an answer that say what it cost (router.load.orca).
_REPORTS: Final = frozenset(("endpoint-load-metrics", "endpoint-load-metrics-bin"))
# An answer that is no stream of events is looked into for usage where it is no longer.
_LOOKED_BYTES: Final = 64 * 1024


class HttpStream:
    """``contract.UpstreamStream`` of one call. Iterate once; nothing is sent before."""

    def __init__(
        self, call: UpstreamCall, api: HttpApi, max_event_bytes: int, hides_usage: bool = False
    ) -> None:
        """``hides_usage``: see `Events`."""
        self._call = call
        self._hides_usage = hides_usage
        self._api = api
        self._max_event_bytes = max_event_bytes
        self._initial_metadata: Metadata = ()
        self._trailers: Metadata = ()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        call = self._call
        try:
            exchange = await call.open()
            self._initial_metadata = fields = call.fields()
            readany = exchange.content.readany
            if not _is_event_stream(exchange):
                answer = bytearray()
                while chunk := await readany():
                    if not call.come_bytes:
                        require_stream(call.endpoint, self._api, fields, chunk)
                    call.come_bytes += len(chunk)
                    if call.come_bytes <= _LOOKED_BYTES:
                        answer += chunk
                    yield chunk
                if not call.come_bytes:
                    require_stream(call.endpoint, self._api, fields, b"")
                self._trailers = reports_of(fields)
                if len(answer) == call.come_bytes and states_usage(answer):
                    # JSON, though a stream was asked for.
                    self._trailers = (*self._trailers, (USAGE, bytes(answer)))
                return
            events = Events(self._api, self._max_event_bytes, self._hides_usage)
            feed = events.feed
            while chunk := await readany():
                if not call.come_bytes:
                    require_stream(call.endpoint, self._api, fields, chunk)
                call.come_bytes += len(chunk)
                if message := feed(chunk):
                    yield message
                if events.ended:
                    break
            if not events.ended and (message := events.finish()):
                yield message
            if not events.is_complete():
                raise UpstreamLostError(
                    f"{call.endpoint.name}: the answer ended after {call.come_bytes} bytes without "
                    "the event that ends it"
                )
            self._trailers = (*reports_of(fields), *events.trailers())
            call.rest()
        except (aiohttp.ClientError, OSError) as error:
            raise call.broken(error) from error
        finally:
            self.cancel()

    def initial_metadata(self) -> Metadata:
        """Status and fields of the answer; empty before the first message."""
        return self._initial_metadata

    def trailers(self) -> Metadata:
        """Fields that report what the answer cost, and what of it was held back; empty before the
        end."""
        return self._trailers

    def cancel(self) -> None:
        """Stop upstream work at once. Safe to call twice and after the end."""
        self._call.end()


def reports_of(fields: Metadata) -> Metadata:
    """Those among an answer's fields that report what it cost."""
    return tuple(field for field in fields if field[0] in _REPORTS)


def _is_event_stream(exchange: Exchange) -> bool:
    """Of one that is compressed for all that was asked nothing can be told."""
    fields = exchange.fields
    return fields.get("content-type", "").lower().startswith("text/event-stream") and (
        fields.get("content-encoding", "identity").lower() == "identity"
    )
