"""Certificates and keys as files: read as a whole, checked, or refused with a reason."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.config.settings import PemFiles
from router.errors import ConfigError
from router.trust.peer import names_of

if TYPE_CHECKING:
    # Takes a while to import, and most gateways on loopback have no certificates.
    from cryptography import x509

# The bundle of a distribution has some 250 KiB.
_MOST_BYTES: Final = 4 * 1024 * 1024
# Of its life, when it is time to say so: cert-manager renews at a third, SPIRE at half.
_LATE_SHARE: Final = 0.1
_KEYS: Final = ("cert_file", "key_file", "ca_file")


@dataclass(frozen=True, slots=True)
class PemMaterial:
    """What a set of `PemFiles` holds, b"" for what is not given. The key is not shown.

    ``names``: whom the first certificate is for. ``not_before``, ``not_after``: unix s, of that
    certificate; infinite without one. ``digest``: of all of it.
    """

    chain: bytes
    key: bytes = field(repr=False)
    roots: bytes = field(repr=False)
    names: tuple[str, ...]
    not_before: float
    not_after: float
    digest: bytes = field(repr=False)

    def is_late(self, now: float) -> bool:
        """Whether nine tenths of the certificate's life are over: it should have been renewed."""
        return now > self.not_after - _LATE_SHARE * (self.not_after - self.not_before)


def read_pem(at: str, files: PemFiles, now: float, ca_key: str = "ca_file") -> PemMaterial:
    """What ``files`` hold now, a certificate with its key among them. Blocks.

    Raises ConfigError whose keys begin with ``at``; ``ca_key``: what authorities are called there.
    """
    keys = dict(zip(_KEYS, (f"{at}.cert_file", f"{at}.key_file", f"{at}.{ca_key}"), strict=True))
    chain = read_content(keys["cert_file"], files.cert)
    key = read_content(keys["key_file"], files.key)
    roots = read_content(keys["ca_file"], files.ca)
    names: tuple[str, ...] = ()
    begins, ends = float("-inf"), float("inf")
    if files.cert is not None:
        leaf = _first_of(keys["cert_file"], files.cert, chain)
        _require_fit(keys["key_file"], files, leaf, key)
        names = names_of(leaf)
        begins = leaf.not_valid_before_utc.timestamp()
        ends = leaf.not_valid_after_utc.timestamp()
        if ends <= now:
            when = leaf.not_valid_after_utc.strftime("%Y-%m-%d %H:%M UTC")
            raise _error(keys["cert_file"], f"{files.cert} expired at {when}; renew it")
        if begins > now:
            when = leaf.not_valid_before_utc.strftime("%Y-%m-%d %H:%M UTC")
            text = f"{files.cert} is valid from {when} on only; is this host's clock right?"
            raise _error(keys["cert_file"], text)
    if files.ca is not None:
        _require_authorities(keys["ca_file"], files.ca, roots)
    digest = hashlib.sha256(b"\0".join((chain, key, roots))).digest()
    return PemMaterial(chain, key, roots, names, begins, ends, digest)


def read_content(key: str, file: Path | None) -> bytes:
    """All of ``file``, b"" for none. Blocks.

    Raises ConfigError of ``key`` for what cannot be read or is larger than 4 MiB.
    """
    if file is None:
        return b""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _error(key, f"{file} cannot be read: {error.strerror or error}") from None
    if len(content) > _MOST_BYTES:
        raise _error(key, f"{file} is larger than {_MOST_BYTES // 2**20} MiB")
    return content


def _first_of(key: str, file: Path, chain: bytes) -> x509.Certificate:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise _error(key, f"{file} is no PEM certificate: {_first_line(error)}") from None
    return found[0]


def _require_fit(key: str, files: PemFiles, leaf: x509.Certificate, pem: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        own = load_pem_private_key(pem, password=None)
        fits = own.public_key() == leaf.public_key()
    except TypeError:
        text = f"{files.key} is locked with a passphrase; give a key without one"
        raise _error(key, text) from None
    except (ValueError, UnsupportedAlgorithm):
        # Their words are about what is in the file.
        raise _error(key, f"{files.key} is no PEM private key that can be used") from None
    if not fits:
        raise _error(key, f"{files.key} is not the key of the certificate in {files.cert}")


def _require_authorities(key: str, file: Path, roots: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise _error(key, f"{file} holds no PEM certificates of authorities") from None


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _error(key: str, text: str) -> ConfigError:
    return ConfigError("", [(key, text)])
