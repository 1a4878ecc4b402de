"""Who an HTTP call's connection belongs to, by the certificate that its client proved to have."""

from __future__ import annotations

from aiohttp import web

from router.trust.peer import PeerCertificate, read_peer


def peer_of(request: web.BaseRequest) -> PeerCertificate | None:
    """None where the client has shown no certificate."""
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    return read_peer(shown) if shown else None
