"""Who the other end of a connection is, by the certificate that it proved to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # Takes a while to import, and most gateways on loopback have no certificates.
    from cryptography import x509

# Of the last clients seen: reading one takes some 30 us, and every call asks.
_MOST_KNOWN: Final = 4096
_SPIFFE: Final = "spiffe://"


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What a client's certificate says, once an authority that we trust has signed it.

    ``subject``: as of RFC 4514, such as ``CN=batch,O=example``; "" where it has none.
    ``dns_names``, ``uri_names``: its alternative names, in its order. ``fingerprint``: SHA-256 of
    the certificate, 64 hexadecimal digits.
    """

    subject: str
    dns_names: tuple[str, ...]
    uri_names: tuple[str, ...]
    fingerprint: str

    @property
    def spiffe_id(self) -> str:
        """Such as ``spiffe://example.org/ns/a/sa/b``; "" where it is no SPIFFE certificate, which
        has exactly one URI."""
        if len(self.uri_names) == 1 and self.uri_names[0].startswith(_SPIFFE):
            return self.uri_names[0]
        return ""


@lru_cache(_MOST_KNOWN)
def read_peer(certificate: bytes) -> PeerCertificate | None:
    """``certificate``: one, PEM or DER. None of what cannot be read: it proves nobody.

    Of what an authority may have let pass nothing is kept that cannot be printed.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if certificate.startswith(b"-----"):
            read = x509.load_pem_x509_certificate(certificate)
        else:
            read = x509.load_der_x509_certificate(certificate)
        names = _alternative_names(read)
        return PeerCertificate(
            _subject(read),
            _printable(names.get_values_for_type(x509.DNSName)),
            _printable(names.get_values_for_type(x509.UniformResourceIdentifier)),
            read.fingerprint(SHA256()).hex(),
        )
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Whom a certificate is for, in words: its DNS names, addresses and URIs, else its subject."""
    from cryptography import x509

    try:
        names = _alternative_names(certificate)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return (_subject(certificate),)
    told = (
        *_printable(names.get_values_for_type(x509.DNSName)),
        *(str(one) for one in names.get_values_for_type(x509.IPAddress)),
        *_printable(names.get_values_for_type(x509.UniformResourceIdentifier)),
    )
    return told or (_subject(certificate),)


def _alternative_names(read: x509.Certificate) -> x509.SubjectAlternativeName:
    from cryptography import x509

    try:
        return read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _subject(read: x509.Certificate) -> str:
    text = read.subject.rfc4514_string()
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else f"\\{ord(one):02X}" for one in text)


def _printable(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name.isascii() and name.isprintable())
