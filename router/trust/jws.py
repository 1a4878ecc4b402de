"""Signatures over documents: JWS in its compact form (RFC 7515) by Ed25519 (RFC 8037), and the keys
that they are verified by (RFC 7517), so that any JOSE library does.

Five lines of base64 around what `cryptography` does: a library for it would be one more that every
gateway carries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from router.errors import DataError

ALGORITHM: Final = "EdDSA"
_MOST_BYTES: Final = 2**20
_MOST_KEYS: Final = 256
_MAX_KID: Final = 256


class VerifiedJws(NamedTuple):
    """``payload``: what was signed, ``kid``: by which key, ``kind``: its ``typ``, "" for none."""

    payload: bytes
    kid: str
    kind: str


def key_id(key: Ed25519PublicKey) -> str:
    """Its thumbprint (RFC 7638): the same wherever the key is named."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _text(key.public_bytes_raw())}
    return _text(hashlib.sha256(msgspec.json.encode(members)).digest())


def signed(payload: bytes, key: Ed25519PrivateKey, kid: str, kind: str) -> str:
    """``payload`` with its signature; ``kind``: what it is, so that it passes for nothing else."""
    head = {"alg": ALGORITHM, "kid": kid, "typ": kind}
    body = f"{_text(msgspec.json.encode(head))}.{_text(payload)}"
    return f"{body}.{_text(key.sign(body.encode()))}"


def verified(text: str, keys: Mapping[str, Ed25519PublicKey]) -> VerifiedJws:
    """What ``text`` says, by whom; ``keys``: by their ids.

    Raises DataError for what is no JWS, is of another algorithm or key, or was changed.
    """
    parts = text.strip().split(".")
    if len(parts) != 3:
        raise DataError("no JWS in compact form: three parts with dots between")
    head_text, payload_text, signature_text = parts
    try:
        head = msgspec.json.decode(_bytes(head_text), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise DataError("the head of the JWS is no JSON object") from None
    if head.get("alg") != ALGORITHM:
        raise DataError(f"signed by {str(head.get('alg'))[:32]!r}, not {ALGORITHM}")
    if "crit" in head:
        raise DataError("the JWS asks for extensions (crit), of which none is known")
    kid, kind = head.get("kid"), head.get("typ", "")
    if not isinstance(kid, str) or not isinstance(kind, str):
        raise DataError("the JWS names no key (kid)")
    if kid not in keys:
        raise DataError(f"signed by the key {kid[:64]!r}, which is not among the keys")
    payload = _bytes(payload_text)
    try:
        keys[kid].verify(_bytes(signature_text), f"{head_text}.{payload_text}".encode())
    except InvalidSignature:
        raise DataError(f"the signature is not of the key {kid!r} over what it says") from None
    return VerifiedJws(payload, kid, kind)


def key_set(keys: Iterable[Ed25519PublicKey]) -> bytes:
    """As JSON (RFC 7517, 5)."""
    listed = [
        {
            "kty": "OKP", "crv": "Ed25519", "x": _text(key.public_bytes_raw()), "kid": key_id(key),
            "alg": ALGORITHM, "use": "sig",
        }
        for key in keys
    ]  # fmt: skip
    return msgspec.json.encode({"keys": listed})


def read_keys(body: bytes) -> dict[str, Ed25519PublicKey]:
    """Of a key set, or of one or several public keys in PEM; by their ids.

    A key that a set names otherwise is there by both. Raises DataError for anything else, and where
    there is none of Ed25519.
    """
    if len(body) > _MOST_BYTES:
        raise DataError("more than 1 MiB are no file of keys")
    found = _of_pem(body) if b"-----BEGIN" in body else _of_set(body)
    if not found:
        raise DataError("there is no key of Ed25519 in it")
    return found


def _of_pem(body: bytes) -> dict[str, Ed25519PublicKey]:
    found = {}
    end = b"-----END PUBLIC KEY-----"
    for block in body.split(end)[:-1]:
        try:
            key = load_pem_public_key(block[block.find(b"-----BEGIN") :] + end + b"\n")
        except (ValueError, UnsupportedAlgorithm):
            raise DataError("no PEM of a public key") from None
        if isinstance(key, Ed25519PublicKey):
            found[key_id(key)] = key
    return found


def _of_set(body: bytes) -> dict[str, Ed25519PublicKey]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise DataError("neither PEM nor JSON") from None
    listed = said.get("keys", [said]) if isinstance(said, dict) else None
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise DataError("no set of keys")
    found: dict[str, Ed25519PublicKey] = {}
    for jwk in listed:
        # The private half is nobody's to verify by.
        if not isinstance(jwk, dict) or jwk.get("crv") != "Ed25519" or "d" in jwk:
            continue
        x, kid = jwk.get("x"), jwk.get("kid")
        try:
            key = Ed25519PublicKey.from_public_bytes(_bytes(x if isinstance(x, str) else ""))
        except (ValueError, DataError):
            continue
        found[key_id(key)] = key
        if isinstance(kid, str) and len(kid) <= _MAX_KID:
            found.setdefault(kid, key)
    return found


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Raises DataError for what is not what `_text` makes: one text for the same bytes."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise DataError("the JWS has a part that is no base64url") from None
    if _text(data) != text:
        raise DataError("the JWS has a part that is no base64url")
    return data
