"""Certificates of callers as a proxy of this gateway's own tells of them, which has verified them.

    x-native-key              by which that proxy is known; of one process, and told to nobody else
    x-forwarded-client-cert   of the connection, as Envoy writes it

Whoever brings the second without the first is a stranger, and nothing is read of it.
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

    def of(self, metadata: Metadata) -> PeerCertificate | None:
        """Of whoever called the proxy; None where it told of none, and of what no proxy sent."""
        keys = [str(value).encode() for key, value in metadata if key == KEY]
        if len(keys) != 1 or not hmac.compare_digest(keys[0], self._secret.encode()):
            return None
        return told_certificate(metadata)

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
