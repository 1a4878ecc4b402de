"""One request at one endpoint, from its departure to the end of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from router.backends.openai.exchange import Exchange
from router.backends.openai.pool import ConnectionPool, HttpOptions
from router.backends.openai.sending import Sending, answer_fields
from router.backends.openai.upstream_errors import (
    MAX_ERROR_BYTES,
    error_of_body,
    error_of_opening,
    error_of_status,
    is_head_too_long,
)
from router.errors import UpstreamError, UpstreamFaultError, UpstreamLostError
from router.http_api import STATUS
from router.model import Endpoint
from router.trust.secrets import Secret, without_secrets

# What a pooled connection does that its server had closed: the request met nobody.
_BROKEN: Final = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)


class UpstreamCall:
    """`open` comes first, `end` last; between them the answer's body is read.

    ``come_bytes``: of the body, so far.
    """

    __slots__ = (
        "_exchange", "_given_up", "_options", "_pool", "_pool_of", "_secret", "_sending", "_task",
        "_timeout_s", "come_bytes", "endpoint",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        sending: Sending,
        timeout_s: float,
        pool_of: Callable[[Endpoint], ConnectionPool],
        options: HttpOptions,
        secret: Secret | None = None,
    ) -> None:
        """``pool_of``: raises UpstreamUnreachedError where no more calls are taken. ``secret``: the
        key that the endpoint gets, which no word of it may tell."""
        self._secret = secret
        self.endpoint = endpoint
        self.come_bytes = 0
        self._sending = sending
        self._timeout_s = timeout_s
        self._pool_of = pool_of
        self._options = options
        self._pool: ConnectionPool | None = None
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[Any] | None = None
        self._given_up = False

    async def open(self) -> Exchange:
        """Send the request; the answer, with status 2xx, once its fields are there.

        Raises UpstreamError leaves.
        """
        if self._given_up:
            raise self._lost()
        self._pool = pool = self._pool_of(self.endpoint)
        pool.enter(self)
        self._task = task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        try:
            self._exchange = exchange = await self._send(pool)
        except asyncio.CancelledError:
            if self._given_up and task.uncancel() <= cancelled:
                raise self._lost() from None
            raise
        finally:
            self._task = None
        if self._given_up:
            self._abort()
            raise self._lost()
        if not 200 <= exchange.status < 300:
            raise await self._refusal(exchange)
        return exchange

    def fields(self) -> list[tuple[str, str | bytes]]:
        """Status and fields of the answer, for whoever passes it on."""
        exchange = self._exchange
        assert exchange is not None
        fields = answer_fields(tuple(exchange.fields.items()))
        return [(STATUS, str(exchange.status)), *without_secrets(fields, self._secret)]

    async def body(self) -> bytes:
        """All of the answer's body. Raises UpstreamError leaves."""
        most = self._options.max_message_bytes
        read = await self._read(most)
        if read is None:
            raise UpstreamFaultError(
                f"{self.endpoint.name}: the answer is larger than {most} bytes"
            )
        return read

    def broken(self, error: Exception) -> UpstreamError:
        """The leaf for a body that broke off in ``error``."""
        if self._given_up:
            return self._lost()
        return error_of_body(self.endpoint, error, self.come_bytes)

    def give_up(self) -> None:
        """End at once; whoever waits for it is told UpstreamLostError."""
        if self._task is not None and not self._given_up:
            self._task.cancel()
        self._given_up = True
        self._abort()

    def rest(self) -> None:
        """Nothing more is wanted of the body; its connection is kept if it ends soon."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._pool is not None:
            self._pool.rest(exchange)

    def end(self) -> None:
        """Stop upstream work at once where there is any left. Safe to call twice."""
        if self._task is not None and self._task is not asyncio.current_task():
            self.give_up()
        self._abort()
        if self._pool is not None:
            self._pool.leave(self)

    async def _send(self, pool: ConnectionPool) -> Exchange:
        """Raises UpstreamError leaves."""
        loop = asyncio.get_running_loop()
        by = loop.time() + self._timeout_s
        exchange = Exchange(pool.destination)
        try:
            await exchange.send(pool.kept, self._sending, self._timeout_s)
            return exchange
        except _BROKEN as error:
            refused = isinstance(error, aiohttp.ClientConnectorError)
            met = exchange.connects or exchange.was_heard
            if met or refused or _answered(error) or self._given_up:
                raise self._unanswered(error) from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unanswered(error) from error
        # The server had closed the connection, as it may; it has not failed until it fails twice.
        exchange = Exchange(pool.destination)
        try:
            await exchange.send(pool.fresh, self._sending, by - loop.time())
            return exchange
        except (aiohttp.ClientError, ConnectionError) as error:
            if is_head_too_long(error):
                raise self._unanswered(error) from error
            # It may be this request that it died of: to move on is not for free.
            raise self._lost(error) from error
        except TimeoutError as error:
            raise self._unanswered(error) from error

    async def _refusal(self, exchange: Exchange) -> UpstreamError:
        body = await self._read(MAX_ERROR_BYTES)
        return error_of_status(
            self.endpoint, exchange.status, exchange.fields, body or b"", self._secret
        )

    async def _read(self, most: int) -> bytes | None:
        """The body; None where it is longer than ``most`` bytes."""
        exchange = self._exchange
        assert exchange is not None
        parts = []
        try:
            while part := await exchange.content.readany():
                self.come_bytes += len(part)
                if self.come_bytes > most:
                    return None
                parts.append(part)
        except (aiohttp.ClientError, OSError) as error:
            raise self.broken(error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _unanswered(self, error: Exception) -> UpstreamError:
        return self._lost() if self._given_up else error_of_opening(self.endpoint, error)

    def _lost(self, error: Exception | None = None) -> UpstreamLostError:
        what = f": {type(error).__name__}" if error else ""
        how = "broke twice" if error else "was given up"
        return UpstreamLostError(
            f"{self.endpoint.name}: the connection {how} during the call{what}"
        )

    def _abort(self) -> None:
        """Close the connection, if the answer has not ended: what it has not sent is not sent."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.content.is_eof():
            exchange.abort()


def _answered(error: BaseException) -> bool:
    """Whether the server had begun to answer."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(
        error.message, str | None
    )
