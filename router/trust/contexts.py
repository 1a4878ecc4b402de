"""What `ssl` needs of certificates, made anew when they change.

TLS 1.3, and of 1.2 what is forward-secret and authenticated, no renegotiation and no compression.
gRPC brings a library of its own (BoringSSL), whose usual choice is the same.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from router.config.settings import ClientAuth
from router.trust.pem import PemMaterial
from router.trust.watched import Watched

_CIPHERS_OF_1_2: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_PROTOCOLS: Final = ("http/1.1",)
_VERIFY: Final = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRED: ssl.CERT_REQUIRED,
}


class ServerTls:
    """TLS of what we listen on. ``source``: its certificate, key and clients' authorities;
    ``failed``: told of handshakes that came to nothing (`router.trust.listener.FAILURES`)."""

    def __init__(
        self,
        source: Watched[PemMaterial],
        client_auth: ClientAuth,
        failed: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.source = source
        self.client_auth = client_auth
        self.failed = failed
        self._made: tuple[int, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """For the next connection over HTTP. Some ms where the certificate is a new one."""
        version = self.source.version
        if self._made is None or self._made[0] != version:
            self._made = version, server_context(self.source.value, self.client_auth)
        return self._made[1]


def server_context(material: PemMaterial, client_auth: ClientAuth) -> ssl.SSLContext:
    """For connections that clients open."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(_PROTOCOLS)
    _show(context, material)
    context.verify_mode = _VERIFY[client_auth]
    if client_auth is not ClientAuth.NONE:
        context.load_verify_locations(cadata=material.roots.decode("ascii", "ignore"))
        # A session that is resumed is not asked for its certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def client_context(material: PemMaterial) -> ssl.SSLContext:
    """For connections to endpoints; without authorities of its own it has the host's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.set_alpn_protocols(_PROTOCOLS)
    if material.roots:
        context.load_verify_locations(cadata=material.roots.decode("ascii", "ignore"))
    else:
        context.load_default_certs()
    if material.chain:
        _show(context, material)
    return context


def host_roots() -> bytes | None:
    """The authorities of this host, PEM, for a library that does not look for them; None where
    there is no such file. Blocks."""
    file = ssl.get_default_verify_paths().cafile
    try:
        return Path(file).read_bytes() if file else None
    except OSError:
        return None


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS_OF_1_2)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _show(context: ssl.SSLContext, material: PemMaterial) -> None:
    """Have ``context`` show the certificate that was checked: on the disk may be another by now."""
    with _path_of(material.key.rstrip() + b"\n" + material.chain) as path:
        context.load_cert_chain(path)


@contextlib.contextmanager
def _path_of(content: bytes) -> Iterator[str]:
    """`ssl` reads files alone. On Linux one in memory, that nobody else can open."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("pem")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name
