"""The key that receipts are signed by, and those that they were signed by before, as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from router.config.receipts import ReceiptSigning
from router.errors import ConfigError, DataError
from router.trust.pem import read_content

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

# What is signed, in the head of each signature: it passes for no token of anybody.
RECEIPT_KIND: Final = "carbon-receipt+json"


@dataclass(frozen=True, slots=True)
class ReceiptKeys:
    """``kid``: of the key that signs; ``key_set``: the public halves of all, as JSON. The key is
    not shown. ``issuer``: who says so, "" for nobody in particular."""

    kid: str
    key_set: bytes
    issuer: str
    key: Ed25519PrivateKey = field(repr=False, compare=False)

    def signed(self, document: Mapping[str, object]) -> str:
        """``document`` as a JWS, with the issuer in it. Some 50 us."""
        from router.trust.jws import signed

        told = {"iss": self.issuer, **document} if self.issuer else dict(document)
        return signed(msgspec.json.encode(told), self.key, self.kid, RECEIPT_KIND)


def read_receipt_keys(at: str, files: ReceiptSigning) -> ReceiptKeys:
    """What ``files`` hold now. Blocks. Raises ConfigError whose keys begin with ``at``."""
    from router.trust.jws import key_id, key_set

    key = _private(f"{at}.key_file", files.key)
    listed: dict[str, Ed25519PublicKey] = {key_id(key.public_key()): key.public_key()}
    kid = next(iter(listed))
    for number, path in enumerate(files.old):
        listed |= _public(f"{at}.old_key_files.{number}", path)
    return ReceiptKeys(kid, key_set(listed.values()), files.issuer, key)


def _private(at: str, path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    make = "make one by `openssl genpkey -algorithm ed25519`"
    try:
        key = load_pem_private_key(read_content(at, path), password=None)
    except TypeError:
        raise _error(at, f"{path} is locked with a passphrase; give a key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        # Their words are about what is in the file.
        raise _error(at, f"{path} is no PEM private key that can be used; {make}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _error(at, f"{path} is a key, but none of Ed25519; {make}")
    return key


def _public(at: str, path: Path) -> dict[str, Ed25519PublicKey]:
    """Also of a private key: an old one that was left where it is."""
    from router.trust.jws import key_id, read_keys

    body = read_content(at, path)
    if b"PRIVATE KEY" in body:
        key = _private(at, path).public_key()
        return {key_id(key): key}
    try:
        return {key_id(key): key for key in read_keys(body).values()}
    except DataError as error:
        raise _error(at, f"{path}: {error}; `openssl pkey -pubout` makes it of a key") from None


def _error(at: str, text: str) -> ConfigError:
    return ConfigError("", [(at, text)])
