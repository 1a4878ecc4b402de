"""TLS of a channel to an endpoint. It cannot change: another certificate takes another channel."""

from __future__ import annotations

from functools import cache

import grpc

from router.trust.contexts import host_roots
from router.trust.pem import PemMaterial


def channel_credentials(material: PemMaterial) -> grpc.ChannelCredentials:
    """Without authorities of its own it believes the host's, or those that gRPC brings along."""
    return grpc.ssl_channel_credentials(
        root_certificates=material.roots or _host_roots(),
        private_key=material.key or None,
        certificate_chain=material.chain or None,
    )


@cache
def _host_roots() -> bytes | None:
    return host_roots()
