"""One provider's HTTP over a shared session: every way to fail is a leaf of ProviderError.

Error texts hold the provider's name, the path and what went wrong: never a header, a query string,
or the text of an answer, any of which may hold a key.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import urlsplit

import aiohttp

from router import __version__
from router.carbon.providers.answers import retry_after_s
from router.carbon.providers.budget import CallAllowance, CallBudget
from router.contract import Clock
from router.errors import (
    CallBudgetError,
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)

OnCall = Callable[[str, str, float], None]

# Enough of a refusal to tell why; it is classified, never shown.
_REFUSAL_BYTES: Final = 4096
_WRONG_KEY: Final = (
    "invalid auth",
    "invalid token",
    "token is invalid",
    "invalid or expired",
    "invalid username",
    # api.data.gov, which EIA is behind.
    *("api_key_invalid", "api_key_missing", "api_key_disabled"),
)
_OUTSIDE_PLAN: Final = (
    *("do not have", "unauthorized for", "subscription", "your plan"),
    "api_key_unauthorized",
)


class HttpLimits(NamedTuple):
    """``timeout_s``: one call, from connecting to the last byte. ``concurrency``: calls at once."""

    timeout_s: float = 10.0
    max_bytes: int = 8 * 1024 * 1024
    concurrency: int = 4


def open_session() -> aiohttp.ClientSession:
    """A session for all providers: keeps connections, no cookies; the caller closes it.

    Must be called inside a running event loop. Reads nothing from the environment.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=64, ttl_dns_cache=300),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


class HttpClient:
    """``provider.Http`` for one provider."""

    def __init__(
        self,
        session: Callable[[], aiohttp.ClientSession],
        base_url: str,
        *,
        provider: str,
        clock: Clock,
        budget: CallAllowance | None = None,
        limits: HttpLimits = HttpLimits(),  # noqa: B008 (immutable)
        on_call: OnCall = lambda provider, reason, seconds: None,
        proxy: str | None = None,
    ) -> None:
        """``session``: called at the first call, when an event loop runs. ``proxy``: URL of the
        proxy to ask through, with user and password where it has them.

        ``on_call(provider, reason, seconds)`` after each call: reason "" when it succeeded, else
        that of the error, or "cancelled"; a call that the budget forbade was not made, and is told
        as "call_budget_spent". Raises ConfigError for a base URL that cannot be used.
        """
        self._base_url = _checked(base_url, provider)
        self._open = session
        self._session: aiohttp.ClientSession | None = None
        self._provider = provider
        self._clock = clock
        self._budget: CallAllowance = budget or CallBudget()
        self._limits = limits
        self._timeout = aiohttp.ClientTimeout(total=limits.timeout_s)
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._on_call = on_call
        self._proxy = proxy

    async def get_json(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Any:
        """As in ``provider.Http``. ``path`` starts with a slash. A redirect is not followed."""
        if not path.startswith("/") or "?" in path:
            raise ValueError(f"{path} must be a path that starts with / and has no query")
        sent = {"Accept": "application/json", "User-Agent": f"carbon-router/{__version__}"}
        sent.update(headers or {})
        if auth is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        where = f"{self._provider} {path}"
        async with self._slots:
            began = self._clock.monotonic()
            reason = "cancelled"
            try:
                await self._spend(where, began)
                answer = await self._call(where, path, params, sent)
                reason = ""
                return answer
            except ProviderError as error:
                reason = error.reason
                raise
            finally:
                self._on_call(self._provider, reason, self._clock.monotonic() - began)

    async def _spend(self, where: str, now: float) -> None:
        wait_s = await self._budget.spend(now)
        if wait_s > 0.0:
            limits = ", ".join(
                f"{limit.calls} in {limit.per_s:g} s" for limit in self._budget.limits
            )
            raise CallBudgetError(
                f"{where}: not asked: the limit of calls ({limits}) is spent for {wait_s:.0f} s",
                wait_s,
            )

    async def _call(
        self, where: str, path: str, params: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> Any:
        failure: ProviderError
        if self._session is None:
            self._session = self._open()
        if self._session.closed:
            raise ProviderUnavailableError(f"{where}: not asked: this gateway is closing")
        try:
            async with self._session.get(
                self._base_url + path,
                params=dict(params or {}),
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
                proxy=self._proxy,
            ) as reply:
                if reply.status != 200:
                    await self._refuse(where, reply)
                return _decoded(where, await self._body(where, reply))
        except ProviderError as error:
            failure = error
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            failure = self._failure(where, error)
        # Raised outside of the handler: what aiohttp raised holds the URL with its query.
        raise failure

    def _failure(self, where: str, error: Exception) -> ProviderError:
        kind = type(error).__name__
        match error:
            case TimeoutError():
                text = f"no answer within {self._limits.timeout_s:g} s"
            case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError():
                text = f"TLS failed ({kind}); check base_url and the certificates of this machine"
            case aiohttp.ClientProxyConnectionError():
                text = "the proxy that the environment names cannot be reached"
            case aiohttp.ClientHttpProxyError():
                text = f"the proxy that the environment names answers HTTP {error.status}"
            case aiohttp.ClientConnectorDNSError():
                text = "host name not found; check base_url and DNS"
            case aiohttp.ClientPayloadError():
                return ProviderAnswerError(f"{where}: the answer was cut off or badly encoded")
            case aiohttp.ClientResponseError():
                return ProviderAnswerError(f"{where}: the answer is no HTTP")
            case _:
                text = f"connection failed ({kind})"
        return ProviderUnavailableError(f"{where}: {text}")

    async def _body(self, where: str, reply: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in reply.content.iter_any():
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise ProviderAnswerError(
                    f"{where}: the answer is larger than {self._limits.max_bytes} bytes"
                )
        return bytes(body)

    async def _refuse(self, where: str, reply: aiohttp.ClientResponse) -> NoReturn:
        status = reply.status
        where = f"{where}: HTTP {status}"
        if status in (401, 403):
            raise ProviderRefusedError(f"{where}: {await _why_refused(reply)}", status)
        if status == 404:
            raise NoDataError(f"{where}: nothing there for this place and time")
        if status == 429:
            after_s = retry_after_s(reply.headers.get("Retry-After", ""), self._clock.now())
            wait = "" if after_s is None else f", asks to wait {after_s:.0f} s"
            raise ProviderBusyError(f"{where}: called too often{wait}", after_s)
        if status >= 500:
            raise ProviderUnavailableError(f"{where}: the provider failed")
        if 300 <= status < 400:
            raise ProviderAnswerError(f"{where}: it moved; set base_url to the new place")
        raise ProviderAnswerError(f"{where}: expected 200")


async def _why_refused(reply: aiohttp.ClientResponse) -> str:
    try:
        text = (await reply.content.read(_REFUSAL_BYTES)).decode("utf-8", "replace").lower()
    except (aiohttp.ClientError, OSError, ValueError):
        text = ""
    if any(phrase in text for phrase in _WRONG_KEY):
        return "the key is wrong"
    if any(phrase in text for phrase in _OUTSIDE_PLAN):
        return "the key is right, but its plan does not include this"
    return "the key is wrong, or its plan does not include this"


def _decoded(where: str, body: bytes) -> Any:
    problem = "is no valid JSON"
    try:
        # NaN and Infinity, which are no JSON, cost the row that they stand in.
        return json.loads(body)
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError:
        if not body.strip():
            problem = "is empty"
    raise ProviderAnswerError(f"{where}: the answer {problem}")


def _checked(base_url: str, provider: str) -> str:
    problem = ""
    try:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "must be an http or https URL with a host"
        elif parts.username or parts.password or parts.query or parts.fragment:
            problem = "must be scheme, host and path alone, without a key"
        elif parts.port == 0:
            problem = "has a port that cannot be called"
    except ValueError:
        problem = "is no URL"
    if problem:
        raise ConfigError(f"carbon source {provider}", [("base_url", problem)])
    return base_url.rstrip("/")
