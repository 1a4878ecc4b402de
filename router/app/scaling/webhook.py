"""Hints to a URL: one bounded POST, tried again a few times.

What it is told of a failure holds neither header nor query nor the answer's text: any may hold a
key.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp

from router import __version__
from router.config.scaling import AT
from router.config.settings import EndpointCredentials, WebhookSettings
from router.contract import Clock
from router.errors import ConfigError, HintNotTakenError
from router.trust.contexts import client_context
from router.trust.pem import PemMaterial, read_pem
from router.trust.secrets import read_secret

# Between two tries, s; doubled each time.
_PAUSE_S: Final = 1.0
_MOST_BYTES: Final = 64 * 1024


class Webhook:
    """One URL. Certificates and the key are read anew for each hint, so whoever replaces them need
    not say so."""

    name: Final = "webhook"

    def __init__(
        self,
        settings: WebhookSettings,
        clock: Clock,
        environ: Mapping[str, str],
        pause_s: float = _PAUSE_S,
    ) -> None:
        """``clock``: the wall's, by which certificates expire. Blocks. Raises ConfigError for files
        and variables that cannot be used."""
        self._settings = settings
        self._clock = clock
        self._environ = environ
        self._pause_s = pause_s
        # By the certificates that it was made of.
        self._context: tuple[PemMaterial, ssl.SSLContext] | None = None
        self._secure()
        self._key()

    async def tell(self, body: bytes) -> None:
        """Send it. Raises HintNotTakenError once it was tried as often as it may."""
        settings = self._settings
        try:
            context, headers = await asyncio.to_thread(lambda: (self._secure(), self._key()))
        except ConfigError as error:
            raise HintNotTakenError(str(error)) from None
        headers["content-type"] = "application/json"
        headers["user-agent"] = f"carbon-router/{__version__}"
        timeout = aiohttp.ClientTimeout(total=settings.timeout_s)
        connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
            timeout=timeout,
        ) as session:  # fmt: skip
            for left in range(settings.max_tries - 1, -1, -1):
                why, is_final = await self._once(session, body, headers)
                if not why:
                    return
                if is_final or not left:
                    raise HintNotTakenError(f"{settings.url}: {why}")
                await asyncio.sleep(self._pause_s * 2.0 ** (settings.max_tries - 1 - left))

    async def _once(
        self, session: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str]
    ) -> tuple[str, bool]:
        """Why it was not taken, "" where it was, and whether another try is of no use."""
        settings = self._settings
        name = settings.tls.server_name if settings.tls is not None else ""
        try:
            # A redirect would tell a machine that the operator did not name.
            async with session.post(
                settings.url, data=body, headers=headers, allow_redirects=False,
                server_hostname=name or None,
            ) as reply:  # fmt: skip
                await reply.content.read(_MOST_BYTES)
                status = reply.status
        except TimeoutError:
            return f"no answer within {settings.timeout_s:g} s", False
        except aiohttp.ClientSSLError as error:
            return f"TLS failed ({type(error).__name__}): check {AT}.tls", False
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"connection failed ({type(error).__name__})", False
        if 200 <= status < 300:
            return "", False
        # Whoever is too busy or fails may do better later; what it refuses it will refuse again.
        return f"HTTP {status}", status < 500 and status not in (408, 425, 429)

    def _secure(self) -> ssl.SSLContext | None:
        tls = self._settings.tls
        if tls is None:
            return None
        material = read_pem(tls.at, tls.files, self._clock.now())
        if self._context is None or self._context[0] != material:
            self._context = material, client_context(material)
        return self._context[1]

    def _key(self) -> dict[str, str]:
        wanted = self._settings.credentials
        return {} if wanted is None else {wanted.header: _field(wanted, self._environ)}


def _field(wanted: EndpointCredentials, environ: Mapping[str, str]) -> str:
    spec = wanted.secret
    key = f"{wanted.at}.{'env' if spec.env else 'file'}"
    secret = read_secret("", key, env=spec.env, file=spec.file, environ=environ).reveal()
    if not secret.isascii():
        raise ConfigError("", [(key, "holds a key that no header can carry: it is not ASCII")])
    return f"{wanted.scheme} {secret}" if wanted.scheme else secret
