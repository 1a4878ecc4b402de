"""Client certificates that TLS has verified -> principals, by the operator's list."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from router.config.identity import CertificateSchema
from router.identity.principal import Principal, principal_of
from router.trust.peer import PeerCertificate


class _Rule(NamedTuple):
    fits: Callable[[PeerCertificate], bool]
    principal: Principal


class CertificateTable:
    """The first of the list that fits a certificate says whose it is."""

    def __init__(self, listed: Iterable[CertificateSchema] = ()) -> None:
        self._rules = [
            _Rule(_fits(one), principal_of(one.name, one, f"certificate {one.name}"))
            for one in listed
        ]

    def __len__(self) -> int:
        return len(self._rules)

    def find(self, certificate: PeerCertificate) -> Principal | None:
        """None for one that nobody is known by."""
        for rule in self._rules:
            if rule.fits(certificate):
                return rule.principal
        return None


def _fits(one: CertificateSchema) -> Callable[[PeerCertificate], bool]:
    if one.uri is not None:
        uri = _pattern(one.uri, "/")
        if one.uri.startswith("spiffe://"):
            # A certificate with further URIs is no SPIFFE one (X.509-SVID, 2).
            return lambda certificate: uri.fullmatch(certificate.spiffe_id) is not None
        return lambda certificate: any(map(uri.fullmatch, certificate.uri_names))
    if one.dns is not None:
        # RFC 4343: names are the same whatever their case.
        dns = _pattern(one.dns.lower(), ".")
        return lambda certificate: any(
            dns.fullmatch(name.lower()) for name in certificate.dns_names
        )
    if one.subject is not None:
        subject = one.subject
        return lambda certificate: certificate.subject == subject
    return lambda certificate: certificate.fingerprint == one.fingerprint


def _pattern(glob: str, separator: str) -> re.Pattern[str]:
    """``*`` stands for one part between separators; as the last part of a path for all the rest."""
    # `spiffe://corp/ns/*/sa/chat` must not fit `spiffe://corp/ns/x/y/sa/chat`.
    whole, rest = (glob[:-1], ".+") if glob.endswith("/*") else (glob, "")
    parts = (re.escape(part) for part in whole.split("*"))
    return re.compile(f"[^{separator}]+".join(parts) + rest)
