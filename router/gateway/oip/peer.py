"""Who a gRPC call's connection belongs to, by the certificate that its client proved to have."""

from __future__ import annotations

from typing import Final

from router.gateway.oip.context import Context
from router.trust.peer import PeerCertificate, read_peer

_CERTIFICATE: Final = "x509_pem_cert"


def peer_of(context: Context) -> PeerCertificate | None:
    """None where the client has shown no certificate. To be asked of each call, some 4 us: another
    connection may have the same address a moment later."""
    shown = context.auth_context().get(_CERTIFICATE)
    return read_peer(bytes(shown[0])) if shown else None
