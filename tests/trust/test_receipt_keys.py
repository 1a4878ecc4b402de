import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from router.config.receipts import ReceiptSigning
from router.errors import ConfigError
from router.trust.jws import key_id, read_keys, verified
from router.trust.receipt_keys import RECEIPT_KIND, read_receipt_keys
from router.trust.watched import Watched


def private(path, key, locked=NoEncryption()):  # noqa: B008
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    return path


def public(path, *keys):
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(b"".join(key.public_key().public_bytes(*form) for key in keys))
    return path


@pytest.fixture
def keys():
    return [Ed25519PrivateKey.generate() for _ in range(4)]


def ids(keys):
    return [key_id(key.public_key()) for key in keys]


def test_the_first_signs_and_all_are_published(tmp_path, keys):
    first, *rest = keys
    files = ReceiptSigning(
        private(tmp_path / "sign", first),
        (public(tmp_path / "old", *rest[:2]), private(tmp_path / "older", rest[2])),
        "https://gateway.test",
    )
    told = read_receipt_keys("receipts.sign", files)
    assert [one["kid"] for one in json.loads(told.key_set)["keys"]] == ids(keys)
    found = verified(told.signed({"gco2e": 0.5}), read_keys(told.key_set))
    assert (found.kid, found.kind) == (ids(keys)[0], RECEIPT_KIND)
    assert json.loads(found.payload) == {"iss": "https://gateway.test", "gco2e": 0.5}
    assert json.loads(verified(
        read_receipt_keys("a", files._replace(issuer="")).signed({}), read_keys(told.key_set)
    ).payload) == {}  # fmt: skip


def test_nothing_private_is_shown_or_published(tmp_path, keys):
    told = read_receipt_keys("a", ReceiptSigning(private(tmp_path / "sign", keys[0])))
    secret = keys[0].private_bytes_raw()
    assert secret.hex() not in repr(told) and "key=" not in repr(told)
    assert all(set(one) == {"kty", "crv", "x", "kid", "alg", "use"}
               for one in json.loads(told.key_set)["keys"])  # fmt: skip


def test_the_same_key_in_another_file_is_no_change_and_another_key_is(tmp_path, keys):
    path = private(tmp_path / "sign", keys[0])
    files = ReceiptSigning(path)
    watched = Watched("a", [path], lambda now: read_receipt_keys("a", files), 0.0)
    path.write_bytes(path.read_bytes() + b"\n")
    assert not watched.look(1.0)
    path.write_bytes(b"-----BEGIN")
    assert not watched.look(2.0) and "key_file" in watched.refused
    assert watched.value.kid == ids(keys)[0]
    private(path, keys[1])
    assert watched.look(3.0) and watched.value.kid == ids(keys)[1] and not watched.refused


def broken(tmp_path, what, key):
    path = tmp_path / "sign"
    match what:
        case "absent":
            return path
        case "empty":
            path.write_bytes(b"")
        case "public":
            public(path, key)
        case "locked":
            private(path, key, BestAvailableEncryption(b"x"))
        case "another kind":
            private(path, generate_private_key(SECP256R1()))
        case "large":
            path.write_bytes(b"x" * (4 * 2**20 + 1))
        case "folder":
            path.mkdir()
    return path


@pytest.mark.parametrize(
    "what", ["absent", "empty", "public", "locked", "another kind", "large", "folder"]
)
def test_a_file_that_cannot_sign_is_named_with_its_key(tmp_path, keys, what):
    path = broken(tmp_path, what, keys[0])
    with pytest.raises(ConfigError) as told:
        read_receipt_keys("receipts.sign", ReceiptSigning(path))
    ((at, text),) = told.value.problems
    assert at == "receipts.sign.key_file" and str(path) in text


def test_an_old_key_that_is_none_is_named_too(tmp_path, keys):
    old = tmp_path / "old"
    old.write_bytes(b"x")
    good = public(tmp_path / "good", keys[1])
    with pytest.raises(ConfigError) as told:
        read_receipt_keys("s", ReceiptSigning(private(tmp_path / "sign", keys[0]), (good, old)))
    assert told.value.problems[0][0] == "s.old_key_files.1"
