"""A login by HTTP Basic for a token that ends: WattTime's, 30 minutes."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from router.carbon.providers.answers import mapping
from router.carbon.providers.provider import Http
from router.errors import ProviderAnswerError, ProviderError, ProviderRefusedError
from router.trust.secrets import Secret

_TOKEN_S: Final = 30 * 60.0
_RENEW_BEFORE_S: Final = 3 * 60.0
# A refused login is not tried again for this long: each zone would try it otherwise.
_REFUSED_REST_S: Final = 300.0


class TokenLogin:
    """The token: renewed shortly before it ends, by one login however many wait for it."""

    def __init__(self, http: Http, name: str, user: str, password: Secret) -> None:
        self._http = http
        self._where = f"{name} login"
        self._user = user
        self._password = password
        self._lock = asyncio.Lock()
        self._token = Secret("")
        self._issued_at = -math.inf
        self._attempts = 0
        self._failure: ProviderError | None = None
        self._refused_at = -math.inf

    async def token(self, now: float, refused: Secret | None = None) -> Secret:
        """A token other than ``refused``. Raises what the login raised, to all who waited."""
        if self._usable(now, refused):
            return self._token
        seen = self._attempts
        async with self._lock:
            if self._usable(now, refused):
                return self._token
            resting = 0.0 <= now - self._refused_at < _REFUSED_REST_S
            if self._failure is not None and (self._attempts != seen or resting):
                raise self._failure.with_traceback(None)
            self._failure = None
            try:
                self._token = await self._log_in()
                self._issued_at = now
            except ProviderError as error:
                self._failure = error
                if isinstance(error, ProviderRefusedError):
                    self._refused_at = now
                raise
            finally:
                self._attempts += 1
            return self._token

    def _usable(self, now: float, refused: Secret | None) -> bool:
        young = 0.0 <= now - self._issued_at < _TOKEN_S - _RENEW_BEFORE_S
        return young and self._token is not refused

    async def _log_in(self) -> Secret:
        auth = (self._user, self._password.reveal())
        answer = mapping(await self._http.get_json("/login", auth=auth), self._where, "the answer")
        text = answer.get("token")
        if not isinstance(text, str) or not text.isprintable() or not text.strip():
            raise ProviderAnswerError(f"{self._where}: the answer holds no token")
        return Secret(text)
