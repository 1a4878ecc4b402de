"""Calls that a proxy of this gateway's own carries, and the certificates of callers that it tells
of, since it has verified them.

    x-native-key              by which that proxy is known; told to nobody else
    x-forwarded-client-cert   of the connection, as Envoy writes it

Whoever comes without the first is a stranger, though of this machine: what that proxy asks of
callers, such as a certificate, nobody has asked of it. Nothing is read of its second.
"""

from __future__ import annotations

import hmac
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from router.contract import Metadata
from router.trust.peer import PeerCertificate, read_peer

KEY: Final = "x-native-key"
CERTIFICATE: Final = "x-forwarded-client-cert"
_CERT: Final = re.compile(r'(?:^|;)Cert="([^"]*)"')


class ForwardedCertificates:
    """``secret``: that the proxy brings."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    @property
    def field(self) -> tuple[str, str]:
        """That the proxy is to send."""
        return KEY, self._secret

    def is_carried(self, metadata: Metadata) -> bool:
        """Whether the proxy sent it."""
        keys = [str(value).encode() for key, value in metadata if key == KEY]
        return len(keys) == 1 and hmac.compare_digest(keys[0], self._secret.encode())

    def of(self, metadata: Metadata) -> PeerCertificate | None:
        """Of whoever called the proxy; None where it told of none, and of what no proxy sent."""
        return told_certificate(metadata) if self.is_carried(metadata) else None

    def without(self, metadata: Metadata) -> Metadata:
        """``metadata`` as it may travel on."""
        return [item for item in metadata if item[0] not in (KEY, CERTIFICATE)]


def told_certificate(metadata: Metadata) -> PeerCertificate | None:
    """That of the one proxy whose word is known to be good."""
    for key, value in metadata:
        found = _CERT.search(str(value)) if key == CERTIFICATE else None
        if found is not None:
            return read_peer(unquote_to_bytes(found[1]))
    return None
