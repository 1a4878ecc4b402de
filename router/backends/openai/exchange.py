"""One request on one connection, and the head of its answer.

By the connections and parsers of aiohttp, without its session, which takes as much of the processor
again for what no proxy has a use for: redirects, cookies, credentials in URLs, traces, a task for
each body.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any, Final, NamedTuple, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.helpers import TimerContext
from aiohttp.http import RawResponseMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from router.backends.openai.sending import Sending

# Written at once: the transport copies what the socket does not take.
PIECE_BYTES: Final = 64 * 1024
# Of an answer, before its server is made to wait.
_BUFFER_BYTES: Final = 64 * 1024
# Of an answer, as aiohttp's sessions have it.
_MOST_FIELDS: Final = 128
# Who sends no body with these has none (RFC 9110, 8.6).
_BODILESS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
# Of an exchange that may take as long as it likes.
_NO_TIMER: Final = contextlib.nullcontext()


class Destination(NamedTuple):
    """Where the requests of a pool go. ``request``: aiohttp's, by which connections are made;
    ``key``: by which they are kept; ``host``: the field; ``timeout``: to connect;
    ``most_field_bytes``: of a field of an answer's head."""

    request: aiohttp.ClientRequest
    key: ConnectionKey
    host: str
    timeout: aiohttp.ClientTimeout
    most_field_bytes: int


def destination_of(
    scheme: str, address: str, server_name: str | None, connect_s: float, most_field_bytes: int
) -> Destination:
    """``server_name``: what certificates must be for, None for the host of ``address``. Call it
    inside a running event loop."""
    url = URL(f"{scheme}://{address}/", encoded=True)
    request = aiohttp.ClientRequest(
        "GET", url, loop=asyncio.get_running_loop(), server_hostname=server_name
    )
    timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=math.inf)
    host = url.host_port_subcomponent or address
    return Destination(request, request.connection_key, host, timeout, most_field_bytes)


class Connector(aiohttp.TCPConnector):
    """aiohttp's, which is asked by an `Exchange` for a connection."""

    async def _create_connection(
        self, req: Any, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        exchange: Exchange = req
        exchange.connects = True
        return await super()._create_connection(exchange.destination.request, traces, timeout)


class Exchange:
    """`send` comes first; then ``content`` is read, whose end gives the connection back, or `close`
    ends it.

    ``connects``: whether a connection was made for it. ``status``, ``fields``, ``content``: of the
    answer.
    """

    __slots__ = (
        "_connection", "_deadline", "_upload", "connection_key", "connects", "content",
        "destination", "fields", "status", "was_heard",
    )  # fmt: skip

    fields: CIMultiDictProxy[str]
    content: aiohttp.StreamReader
    # What a connector asks beside the key.
    proxy = None

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.connection_key = destination.key
        self.connects = False
        # Whether the server said anything of it before its answer.
        self.was_heard = False
        self.status = 0
        self._connection: Connection | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._upload: asyncio.Task[None] | None = None

    async def send(self, connector: Connector, sending: Sending, timeout_s: float) -> None:
        """Send a request, and wait for the head of its answer. ``timeout_s``: of all of it.

        Raises aiohttp.ClientError, TimeoutError and OSError, and ValueError for a field that cannot
        be written.
        """
        loop = asyncio.get_running_loop()
        timer = None
        if timeout_s < math.inf:
            timer = TimerContext(loop)
            self._deadline = loop.call_later(max(timeout_s, 0.0), timer.timeout)
        try:
            with timer or _NO_TIMER:
                connection = await self._connected(connector)
                protocol = connection.protocol
                assert protocol is not None
                protocol.set_response_params(
                    timer=timer,
                    skip_payload=sending.method == "HEAD",
                    read_until_eof=True,
                    auto_decompress=False,
                    read_bufsize=_BUFFER_BYTES,
                    max_line_size=self.destination.most_field_bytes,
                    max_field_size=self.destination.most_field_bytes,
                    max_headers=_MOST_FIELDS,
                )
                await self._write(protocol, sending, connector.force_close)
                message, content = await self._head(protocol)
        except HttpProcessingError as error:
            self._drop()
            raise self._unread(sending, error) from error
        except aiohttp.ClientError:
            self._drop()
            raise
        except OSError as error:
            self._drop()
            if isinstance(error, TimeoutError) and error.errno is None:
                raise
            raise aiohttp.ClientOSError(*error.args) from error
        except BaseException:
            self._drop()
            raise
        self.status = message.code
        self.fields = message.headers
        self.content = content
        content.on_eof(self._ended)

    def abort(self) -> None:
        """End it at once: what was not sent is not sent. Safe after its end."""
        connection = self._connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self.close()

    def close(self) -> None:
        """End it; who reads is told aiohttp.ClientConnectionError. Safe after its end."""
        if self._connection is not None and self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        self._drop()

    async def _connected(self, connector: Connector) -> Connection:
        request = cast(aiohttp.ClientRequest, self)
        while True:
            try:
                connection = await connector.connect(request, [], self.destination.timeout)
            except TimeoutError as error:
                what = f"Connection timeout to host {self.destination.host}"
                raise aiohttp.ConnectionTimeoutError(what) from error
            protocol = connection.protocol
            if self.connects or protocol is None or not protocol.should_close:
                self._connection = connection
                return connection
            # Something came while nobody asked, such as 408 before a server closes: it would pass
            # for the answer of this request, and each answer for that of the next.
            connection.close()

    async def _write(self, protocol: ResponseHandler, sending: Sending, is_last: bool) -> None:
        """``is_last``: no other request follows on the connection."""
        body, fields = sending.body, CIMultiDict({hdrs.HOST: self.destination.host})
        fields.extend(sending.fields)
        if body is not None:
            fields[hdrs.CONTENT_LENGTH] = str(len(body))
            fields.setdefault(hdrs.CONTENT_TYPE, "application/json")
        elif sending.method not in _BODILESS:
            fields[hdrs.CONTENT_LENGTH] = "0"
            fields.setdefault(hdrs.CONTENT_TYPE, "application/octet-stream")
        if is_last:
            fields[hdrs.CONNECTION] = "close"
        loop = asyncio.get_running_loop()
        writer = StreamWriter(protocol, loop)
        await writer.write_headers(f"{sending.method} {sending.path} HTTP/1.1", fields)
        if body is None:
            writer.set_eof()
        elif len(body) <= PIECE_BYTES:
            await writer.write(body, drain=False)
        else:
            # While it is sent, it may be answered.
            self._upload = loop.create_task(_send_in_pieces(protocol, writer, body))

    async def _head(
        self, protocol: ResponseHandler
    ) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        while True:
            message, content = await protocol.read()
            # Others come before the answer, and say nothing that is waited for.
            if not 100 <= message.code < 200 or message.code == 101:
                return message, content
            self.was_heard = True

    def _unread(self, sending: Sending, error: HttpProcessingError) -> aiohttp.ClientResponseError:
        """What came is no answer of HTTP."""
        url = self.destination.request.url
        asked = aiohttp.RequestInfo(url, sending.method, CIMultiDictProxy(CIMultiDict()), url)
        return aiohttp.ClientResponseError(
            asked, (), status=error.code, message=error.message, headers=error.headers
        )

    def _ended(self) -> None:
        """All of the answer has come: others may have the connection."""
        connection = self._connection
        if connection is None:
            return
        if self._upload is not None and not self._upload.done():
            # Who has answered reads no more of it, and the connection is in the midst of it.
            self._drop()
            return
        self._connection = None
        self._stop_clock()
        connection.release()

    def _drop(self) -> None:
        """Nobody may have the connection any more."""
        self._stop_clock()
        if self._upload is not None:
            self._upload.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _stop_clock(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()


async def _send_in_pieces(
    protocol: ResponseHandler, writer: AbstractStreamWriter, body: bytes | bytearray
) -> None:
    try:
        with memoryview(body) as view:
            for start in range(0, len(body), PIECE_BYTES):
                await writer.write(view[start : start + PIECE_BYTES])
    except OSError as error:
        # Who waits for the answer is told.
        protocol.set_exception(
            aiohttp.ClientOSError(error.errno, "Can not write request body"), error
        )
