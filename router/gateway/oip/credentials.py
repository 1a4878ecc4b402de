"""TLS of the gRPC server: gRPC asks for each connection whether there is another certificate."""

from __future__ import annotations

import grpc

from router.config.settings import ClientAuth
from router.trust.contexts import ServerTls
from router.trust.pem import PemMaterial


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """For `grpc.aio.Server.add_secure_port`. gRPC in Python either requires a certificate of
    clients or asks for none, so that of `ClientAuth.OPTIONAL` nobody is asked."""
    required = tls.client_auth is ClientAuth.REQUIRED
    source = tls.source
    told = source.version

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # On a thread of gRPC's. A value is there before its version is.
        nonlocal told
        version = source.version
        if version == told:
            return None
        told = version
        return _configuration(source.value, required)

    first = _configuration(source.value, required)
    # The stubs know nothing of None, "no change".
    return grpc.dynamic_ssl_server_credentials(first, fetch, required)  # type: ignore[arg-type]


def _configuration(material: PemMaterial, required: bool) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], material.roots if required else None
    )
