"""LoadSource over HTTP: one bounded GET of an endpoint's Prometheus page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import aiohttp
from yarl import URL

from router.errors import DataError
from router.load.energy_meter import NO_READING, MeterReading, MeterScan
from router.load.exposition import DroppedSamples, PageScan
from router.model import Endpoint, Load
from router.trust.access import AccessTable

DEFAULT_MAX_BYTES = 4 * 1024 * 1024


class Page(Protocol):
    """What reads a page."""

    def take(self, piece: bytes) -> None:
        """The next bytes of it. Raises DataError when it is none."""
        ...


OnDropped = Callable[[str, int], None]
"""Told of samples of a page that could not be used: name of the endpoint, and how many."""

_log = logging.getLogger(__name__)

# Read at once; other work comes in between. Of wanted samples alone it takes some 2 ms.
_PIECE_BYTES = 32 * 1024
# Read every few minutes, and of no use when it is missing at one end of a span.
_METER_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_TEXT_TYPES = ("text/plain", "application/openmetrics-text")
# Uncompressed text is cheaper to read over a local network than to inflate on the event loop.
_HEADERS = {"accept": "text/plain;version=0.0.4", "accept-encoding": "identity"}


def open_session(max_connections: int = 256) -> aiohttp.ClientSession:
    """A session for scraping only: keeps connections, no cookies, no proxy from the environment.

    Must be called inside a running event loop; the caller closes it.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_connections, limit_per_host=0, ttl_dns_cache=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


class PrometheusLoad:
    """Reads ``endpoint.metrics_url`` in the dialect of ``endpoint.engine``."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        timeout_s: float,
        max_bytes: int = DEFAULT_MAX_BYTES,
        on_dropped: OnDropped = lambda endpoint, samples: None,
        access: AccessTable | None = None,
    ) -> None:
        """``timeout_s`` bounds the whole scrape; a page over ``max_bytes`` is refused.

        ``on_dropped``: told of every page with samples that could not be used. ``access``: TLS and
        keys of endpoints, which hold for their pages too; None where there are none.
        """
        self._access = access or AccessTable()
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._on_dropped = on_dropped
        self._lacking: set[str] = set()

    async def meter(self, endpoint: Endpoint) -> MeterReading:
        """What its meter says; nothing where it has none, or that cannot be read."""
        if endpoint.meter is None:
            return NO_READING
        page = MeterScan(endpoint.meter)
        try:
            await self.get(endpoint, endpoint.meter.url, page, _METER_TIMEOUT)
        except (DataError, TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return NO_READING
        return page.reading()

    async def read(self, endpoint: Endpoint, now: float) -> Load:
        """One reading, stamped ``now``. Raises DataError naming endpoint, URL and cause."""
        where = f"load of {endpoint.name} from {endpoint.metrics_url or '(no metrics url)'}"
        if not endpoint.metrics_url:
            raise DataError(f"{where}: set metrics.url of the endpoint")
        try:
            page = PageScan(endpoint.engine)
            await self.get(endpoint, endpoint.metrics_url, page)
            load = page.load(now)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        except TimeoutError as error:
            raise DataError(f"{where}: no answer within {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            # In its own words it speaks of TLS, which most pages have none of.
            why = error if isinstance(error, aiohttp.ClientSSLError) else error.strerror or error
            raise DataError(f"{where}: cannot connect: {why}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DataError(f"{where}: {type(error).__name__}: {error}") from error
        self._tell(endpoint.name, page.dropped)
        return load

    def _tell(self, endpoint: str, dropped: DroppedSamples) -> None:
        """Count unusable samples; a line of the log when they begin, and one when they end."""
        if dropped.samples:
            self._on_dropped(endpoint, dropped.samples)
        if bool(dropped.samples) == (endpoint in self._lacking):
            return
        if dropped.samples:
            self._lacking.add(endpoint)
            unusable = f"{dropped.samples} unusable samples: {dropped.example}"
            _log.warning("endpoint's metrics page has %s", unusable, extra={"endpoint": endpoint})
        else:
            self._lacking.discard(endpoint)
            _log.info("endpoint's metrics page is usable again", extra={"endpoint": endpoint})

    async def get(
        self,
        endpoint: Endpoint,
        page_url: str,
        page: Page,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> None:
        """Hand ``page`` the page at ``page_url``, which is of ``endpoint``. Raises DataError,
        TimeoutError, aiohttp.ClientError, OSError and ValueError."""
        address, security = endpoint.address, self._access.security(endpoint.address)
        url = URL(page_url)
        headers: Mapping[str, str] = _HEADERS
        same_host = url.host == address.rpartition(":")[0].strip("[]")
        # Beside the server's own page there may be an exporter of somebody else.
        is_own = page_url == endpoint.metrics_url and same_host
        if is_own and (url.scheme == "https" or security is None):
            # Not to another machine, and not in plaintext what else travels encrypted.
            headers = dict(self._access.sent(address, tuple(_HEADERS.items())))  # type: ignore[arg-type]
        # A redirect would scrape a machine that the operator did not name.
        async with self._session.get(
            url,
            headers=headers,
            timeout=timeout or self._timeout,
            allow_redirects=False,
            ssl=self._access.context(address) or True,
            server_hostname=security.server_name or None if security and same_host else None,
        ) as reply:
            if reply.status != 200:
                raise DataError(f"answered HTTP {reply.status}, expected 200")
            if "Content-Type" in reply.headers and reply.content_type not in _TEXT_TYPES:
                raise DataError(f"answered {reply.content_type}, expected Prometheus text")
            await self._read(reply, page)

    async def _read(self, reply: aiohttp.ClientResponse, page: Page) -> None:
        size = 0
        async for chunk in reply.content.iter_any():
            size += len(chunk)
            if size > self._max_bytes:
                raise DataError(f"page is larger than {self._max_bytes} bytes")
            if len(chunk) <= _PIECE_BYTES:
                # What waits for more of the page lets other work in anyway.
                page.take(chunk)
                continue
            for first in range(0, len(chunk), _PIECE_BYTES):
                page.take(chunk[first : first + _PIECE_BYTES])
                await asyncio.sleep(0)
