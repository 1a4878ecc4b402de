"""How entsoe-py reaches ENTSO-E: bounded in time and size, and without knowing the key.

entsoe-py makes its own calls, through a session that it is given; its log messages and the
exceptions of its HTTP library hold the URL with the key in it. So its session is this one, which
adds the key by itself and lets nothing out but documents and ProviderErrors.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from router.carbon.providers.answers import retry_after_s
from router.contract import Clock
from router.errors import (
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from router.trust.secrets import Secret

_MOST_BYTES: Final = 16 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
# They log the URL of each call at level debug.
_TALKATIVE: Final = ("urllib3.connectionpool", "entsoe.entsoe")
_TOKEN = re.compile(r"securityToken=[^&\s'\"]*")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


class Transport:
    """What entsoe-py needs of a ``requests.Session``. Safe to use from several threads."""

    def __init__(
        self, base_url: str, key: Secret, timeout_s: float, clock: Clock, name: str
    ) -> None:
        """``timeout_s``: to connect, between two bytes, and for all of the answer's body."""
        self.headers: dict[str, str] = {}
        self._base_url = base_url
        self._key = key
        self._timeout_s = timeout_s
        self._clock = clock
        self._name = name
        for logger in _TALKATIVE:
            logging.getLogger(logger).addFilter(_without_token)

    def get(self, url: str, params: Mapping[str, Any], **_: Any) -> Document:
        """The answer to ``params``; ``url`` and what else entsoe-py says is not used.

        Raises ProviderError leaves; an answer of status 400 is returned, since it may say that
        there is no data.
        """
        requests = import_module("requests")
        failure: ProviderError
        try:
            with requests.Session() as session:
                response = session.get(
                    self._base_url,
                    params={**params, "securityToken": self._key.reveal()},
                    headers=self.headers,
                    timeout=self._timeout_s,
                    allow_redirects=False,
                    stream=True,
                )
                with response:
                    self._check_status(response.status_code, response.headers)
                    body = self._body(response)
            text = body.decode("utf-8", "replace")
            return Document(response.status_code, dict(response.headers), text)
        except ProviderError as error:
            failure = error
        except requests.Timeout:
            failure = ProviderUnavailableError(
                f"{self._name}: no answer within {self._timeout_s:g} s"
            )
        except Exception as error:
            # Whatever requests, urllib3 and http.client raise holds the URL.
            failure = ProviderUnavailableError(
                f"{self._name}: connection failed ({type(error).__name__})"
            )
        # Raised outside of the handler, so that the key is not in its context either.
        raise failure

    def _check_status(self, status: int, headers: Mapping[str, str]) -> None:
        where = f"{self._name}: HTTP {status}"
        if status in (401, 403):
            raise ProviderRefusedError(f"{where}: the key is wrong, or not enabled for the API")
        if status == 429:
            after_s = retry_after_s(headers.get("Retry-After", ""), self._clock.now())
            raise ProviderBusyError(f"{where}: called too often", after_s)
        if status >= 500:
            raise ProviderUnavailableError(f"{where}: the provider failed")
        if status not in (200, 400):
            raise ProviderAnswerError(f"{where}: expected 200")

    def _body(self, response: Any) -> bytes:
        body = bytearray()
        deadline = self._clock.monotonic() + self._timeout_s
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > _MOST_BYTES:
                raise ProviderAnswerError(
                    f"{self._name}: the answer is larger than {_MOST_BYTES} bytes"
                )
            if self._clock.monotonic() > deadline:
                raise ProviderUnavailableError(
                    f"{self._name}: no whole answer within {self._timeout_s:g} s"
                )
        return bytes(body)


class Document:
    """What entsoe-py needs of a ``requests.Response``."""

    def __init__(self, status_code: int, headers: Mapping[str, str], text: str) -> None:
        """``text`` loses its XML declaration, of which entsoe-py's parser warns; its type loses
        the charset, with which entsoe-py would not look for "No matching data found".
        """
        self.status_code = status_code
        given = next((v for name, v in headers.items() if name.lower() == "content-type"), "")
        self.headers = {"content-type": given.partition(";")[0].strip().lower()}
        self.text = _DECLARATION.sub("", text, count=1)

    def raise_for_status(self) -> None:
        """Raises ``requests.HTTPError``, whose text entsoe-py then looks into, for a 400."""
        if self.status_code >= 400:
            raise import_module("requests").HTTPError(f"HTTP {self.status_code}")


class _WithoutToken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "securityToken" in message:
            record.msg, record.args = _TOKEN.sub("securityToken=***", message), None
        return True


_without_token = _WithoutToken()
