import json
from base64 import urlsafe_b64encode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm

from router.errors import DataError
from router.trust.jws import key_id, key_set, read_keys, signed, verified

# RFC 8037, appendix A.
RFC_KEY = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
)
RFC_JWS = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCj"
    "P0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
KID = key_id(RFC_KEY.public_key())
KEYS = {KID: RFC_KEY.public_key()}


def text(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def pem(key):
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_the_thumbprint_and_the_key_are_those_of_the_standard():
    assert KID == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    (jwk,) = json.loads(key_set([RFC_KEY.public_key()]))["keys"]
    assert jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" and jwk["kid"] == KID
    # Its example names no key.
    with pytest.raises(DataError, match="kid"):
        verified(RFC_JWS, KEYS)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_is_signed_is_verified_here_and_by_a_library(payload, kind):
    made = signed(payload, RFC_KEY, KID, kind)
    assert verified(made, KEYS) == (payload, KID, kind)
    (jwk,) = json.loads(key_set(KEYS.values()))["keys"]
    assert jwt.PyJWS().decode(made, OKPAlgorithm.from_jwk(jwk), ["EdDSA"]) == payload


MADE = signed(b'{"gco2e":0.125}', RFC_KEY, KID, "a")


@given(st.integers(0, len(MADE) - 1), st.characters(codec="ascii"))
def test_no_character_may_be_another(place, other):
    changed = MADE[:place] + other + MADE[place + 1 :]
    if changed.strip() == MADE:
        return
    with pytest.raises(DataError):
        verified(changed, KEYS)


@given(st.text())
def test_what_is_no_jws_is_refused(said):
    with pytest.raises(DataError):
        verified(said, KEYS)


def with_head(**head):
    body = f"{text(json.dumps({'alg': 'EdDSA', 'kid': KID, **head}).encode())}.{text(b'{}')}"
    return f"{body}.{text(RFC_KEY.sign(body.encode()))}"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_half_a_character_is_no_part_of_one(part):
    # As JSON can hold it.
    parts = MADE.split(".")
    parts[part] = "\ud800"
    with pytest.raises(DataError, match="base64url"):
        verified(".".join(parts), KEYS)


@pytest.mark.parametrize(
    ("head", "why"),
    [({"alg": "none"}, "none"), ({"alg": "HS256"}, "HS256"), ({"alg": None}, "None"),
     ({"kid": "other"}, "other"), ({"kid": 5}, "kid"), ({"crit": ["b64"]}, "crit")],
)  # fmt: skip
def test_another_algorithm_or_key_is_refused_however_well_it_is_signed(head, why):
    assert verified(with_head(), KEYS).payload == b"{}"
    with pytest.raises(DataError, match=why):
        verified(with_head(**head), KEYS)


def test_keys_are_read_of_sets_and_of_pem():
    other = Ed25519PrivateKey.generate().public_key()
    both = {KID: KEYS[KID], key_id(other): other}
    assert read_keys(key_set(both.values())) == both
    ec = generate_private_key(SECP256R1()).public_key()
    assert read_keys(b"a comment\n" + pem(KEYS[KID]) + b"\n" + pem(ec) + pem(other)) == both
    (jwk,) = json.loads(key_set([other]))["keys"]
    assert read_keys(json.dumps({**jwk, "kid": "ours"}).encode()).keys() == {"ours", key_id(other)}


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"keys": 5}', b'{"keys": [5, {}, {"crv": "Ed25519", "x": "AA"}]}',
     b'{"keys": [{"crv": "Ed25519", "x": 5}]}', b"-----BEGIN PUBLIC KEY-----\n", b"\xff\xfe",
     b"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", b" " * (2**20 + 1),
     b"[" * 100_000, pem(generate_private_key(SECP256R1()).public_key())],
)  # fmt: skip
def test_files_without_a_key_are_refused(body):
    with pytest.raises(DataError):
        read_keys(body)


def test_a_private_key_in_a_set_verifies_nothing():
    (jwk,) = json.loads(key_set(KEYS.values()))["keys"]
    with pytest.raises(DataError):
        read_keys(json.dumps({"keys": [{**jwk, "d": "AA"}]}).encode())
