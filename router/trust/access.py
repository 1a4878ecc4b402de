"""How endpoints are reached: TLS and keys by address, and what of their callers' does not pass."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from router.client_keys import CLIENT_KEYS
from router.contract import Metadata
from router.model import Endpoint
from router.trust.contexts import client_context
from router.trust.pem import PemMaterial
from router.trust.secrets import Secret, without_secrets
from router.trust.watched import Watched

_MOST_TOLD: Final = 300
_log = logging.getLogger(__name__)


class EndpointSecurity(NamedTuple):
    """TLS towards an endpoint. ``source``: whom we believe, and what we show; ``server_name``: what
    its certificate must be for, "" for the host of its address."""

    source: Watched[PemMaterial]
    server_name: str = ""


class EndpointKey(NamedTuple):
    """The key of an endpoint. ``scheme``: the word before it in ``header``, "" for none."""

    header: str
    scheme: str
    source: Watched[Secret]

    @property
    def field(self) -> tuple[str, str]:
        """The header as it is sent."""
        key = self.source.value.reveal()
        return self.header, f"{self.scheme} {key}" if self.scheme else key


class AccessTable:
    """In force. A reload replaces what it holds; what the files hold changes underneath."""

    def __init__(self) -> None:
        self._security: Mapping[str, EndpointSecurity] = {}
        self._own: Mapping[str, EndpointSecurity] = {}
        self._keys: Mapping[str, EndpointKey] = {}
        self._failing: dict[str, str] = {}
        self._contexts: dict[Watched[PemMaterial], tuple[int, ssl.SSLContext]] = {}

    def adopt(
        self,
        addresses: Collection[str],
        security: Mapping[str, EndpointSecurity],
        keys: Mapping[str, EndpointKey],
    ) -> None:
        """From now on ``addresses``, which are all of the fleet, are reached so.

        What was said of others before stands once more: requests under way may still go there.
        """
        gone = {at: one for at, one in self._own.items() if at not in addresses}
        self._security = {**gone, **security}
        self._own = security
        self._keys = keys
        self._failing.clear()
        self._contexts.clear()

    def security(self, address: str) -> EndpointSecurity | None:
        """TLS towards an address; None where nothing is said of it."""
        return self._security.get(address)

    def secret(self, address: str) -> Secret | None:
        """The key of an address: whoever passes its words on looks whether they tell it."""
        key = self._keys.get(address)
        return key.source.value if key is not None else None

    def field(self, address: str) -> tuple[str, str] | None:
        """The header by which whoever calls an address shows its key; None where it has none."""
        key = self._keys.get(address)
        return key.field if key is not None else None

    def context(self, address: str) -> ssl.SSLContext | None:
        """For connections over HTTP; None where nothing is said of the address."""
        security = self._security.get(address)
        if security is None:
            return None
        source = security.source
        version = source.version
        known = self._contexts.get(source)
        if known is None or known[0] != version:
            known = self._contexts[source] = version, client_context(source.value)
        return known[1]

    def sent(self, address: str, metadata: Metadata) -> Metadata:
        """``metadata`` of a call to an address, with the key that it gets in place of whatever its
        caller has; names in lower case."""
        key = self._keys.get(address)
        if key is None:
            return metadata
        own = key.header
        kept = [item for item in metadata if item[0] not in CLIENT_KEYS and item[0] != own]
        return [*kept, key.field]

    def told(self, address: str, fields: Metadata) -> Metadata:
        """Fields of an answer from an address, without those that hold the key it was sent."""
        key = self._keys.get(address)
        return fields if key is None else without_secrets(fields, key.source.value)

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        """A probe met nobody. Over TLS the reason may be one that only an operator can mend: it is
        logged, once as long as it stays the same."""
        cause = error.__cause__ or error
        why = str(getattr(cause, "details", lambda: "")() or cause)[:_MOST_TOLD]
        if endpoint.address in self._security and self._failing.get(endpoint.address) != why:
            self._failing[endpoint.address] = why
            _log.warning("endpoint cannot be reached over TLS: %s", why,
                         extra={"endpoint": endpoint.name})  # fmt: skip
