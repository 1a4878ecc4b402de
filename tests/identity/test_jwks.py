"""An issuer's published keys."""

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from router.errors import DataError
from router.identity.jwks import MOST_KEYS, JwksRefresher, KeySet, parse_jwks
from tests.identity.support import EC_KEY, ED_KEY, OTHER_KEY, PUBLISHED, RSA_KEY, jwk, jwks

ALL = ("RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA")
PATIENCE_S = 20.0


def test_each_key_verifies_signatures_of_its_own_kind():
    found = parse_jwks(jwks(*PUBLISHED), ALL)
    assert {kid: set(key.algorithms) for kid, key in found.items()} == {
        "r1": {"RS256", "RS512", "PS256"},
        "e1": {"ES256"},
        "o1": {"EdDSA"},
    }


def test_a_key_that_names_its_algorithm_verifies_no_other():
    found = parse_jwks(jwks(jwk(RSA_KEY, "r1", alg="RS512")), ALL)
    assert found["r1"].algorithms == {"RS512"}


SECRET = {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "s1", "alg": "HS256"}
SHORT = jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024), "short")


@pytest.mark.parametrize(
    "unusable",
    [
        SECRET,
        {**SECRET, "alg": "RS256"},
        SHORT,
        jwk(RSA_KEY, "x", use="enc"),
        jwk(RSA_KEY, "x", key_ops=["encrypt"]),
        jwk(RSA_KEY, "x", alg="HS256"),
        jwk(RSA_KEY, "x", alg="none"),
        jwk(EC_KEY, "x", crv="P-384"),
        {**jwk(RSA_KEY, "x"), "d": "AQAB"},
        {**jwk(RSA_KEY, "x"), "n": "!"},
        {"kty": "RSA", "kid": "x"},
        {"kty": ["RSA"], "kid": "x"},
        {"kid": 5, **jwk(RSA_KEY, 5)},
        "text",
        None,
    ],
)
def test_a_key_that_is_of_no_use_is_left_out(unusable):
    good = jwk(ED_KEY, "good")
    assert set(parse_jwks(jwks(unusable, good), ALL)) == {"good"}
    with pytest.raises(DataError, match="no key"):
        parse_jwks(jwks(unusable), ALL)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 10_000, b'{"keys": []}', b" " * 2**21],
)
def test_what_is_no_key_set_is_an_error(text):
    with pytest.raises(DataError):
        parse_jwks(text, ALL)


def test_a_set_of_too_many_keys_is_an_error():
    with pytest.raises(DataError, match="up to"):
        parse_jwks(jwks(*[jwk(ED_KEY, str(i)) for i in range(MOST_KEYS + 1)]), ALL)


def test_a_token_without_a_key_id_is_of_the_only_key():
    keys = KeySet()
    keys.replace(parse_jwks(jwks(jwk(ED_KEY, "o1")), ALL))
    assert keys.find("") is keys.find("o1") is not None
    keys.replace(parse_jwks(jwks(*PUBLISHED), ALL))
    assert keys.find("") is None


def test_a_change_of_keys_is_a_change():
    keys = KeySet()
    one = parse_jwks(jwks(jwk(RSA_KEY, "r1")), ALL)
    assert keys.replace(one)
    assert not keys.replace(parse_jwks(jwks(jwk(RSA_KEY, "r1")), ALL))
    # The same id, another key.
    assert keys.replace(parse_jwks(jwks(jwk(OTHER_KEY, "r1")), ALL))
    assert keys.version == 2


def test_an_unknown_key_is_asked_for_once():
    keys = KeySet()
    assert keys.want("r9")
    keys.replace(parse_jwks(jwks(*PUBLISHED), ALL))
    assert keys.want("r9") and keys.asked.is_set()
    keys.fetched()
    assert not keys.asked.is_set()
    assert not keys.want("r9")
    # Another set may have it.
    keys.replace(parse_jwks(jwks(jwk(EC_KEY, "e2")), ALL))
    assert keys.want("r9")


def test_strangers_cannot_have_any_number_of_keys_remembered():
    keys = KeySet()
    keys.replace(parse_jwks(jwks(*PUBLISHED), ALL))
    for round_number in range(100):
        for i in range(100):
            keys.want(f"{round_number}-{i}")
        keys.fetched()
    assert len(keys._wanted) + len(keys._missing) <= 1024 + 64


class Issuer:
    """Publishes what a test puts there; counts who looks."""

    def __init__(self, *published):
        self.body = jwks(*published)
        self.looks = 0
        self.looked = asyncio.Event()

    async def fetch(self):
        self.looks += 1
        self.looked.set()
        if isinstance(self.body, Exception):
            raise self.body
        return self.body


async def look(issuer):
    async with asyncio.timeout(PATIENCE_S):
        await issuer.looked.wait()
    issuer.looked.clear()
    # Until what was fetched is in force.
    await asyncio.sleep(0)


async def test_keys_are_fetched_at_once_and_when_one_is_asked_for():
    issuer, keys, told = Issuer(jwk(RSA_KEY, "r1")), KeySet(), []
    refresher = JwksRefresher(
        keys, issuer.fetch, ALL, 3600.0, lambda well, why: told.append(well), 0.01
    )
    running = asyncio.ensure_future(refresher.run())
    await look(issuer)
    assert keys.loaded and keys.find("r1")
    issuer.body = jwks(jwk(EC_KEY, "e1"))
    assert keys.want("e1")
    await look(issuer)
    assert keys.find("e1") and not keys.find("r1")
    running.cancel()
    assert told == [True, True]


@pytest.mark.parametrize("failure", [DataError("answered with 503"), OSError("gone"), b"<html>"])
async def test_the_last_keys_serve_while_the_issuer_is_away(failure):
    issuer, keys, told = Issuer(jwk(RSA_KEY, "r1")), KeySet(), []
    refresher = JwksRefresher(
        keys, issuer.fetch, ALL, 3600.0, lambda well, why: told.append((well, why))
    )
    await refresher.refresh()
    issuer.body = failure
    await refresher.refresh()
    assert keys.find("r1")
    assert [well for well, _ in told] == [True, False]
    issuer.body = json.dumps({"keys": [jwk(RSA_KEY, "r2")]}).encode()
    await refresher.refresh()
    assert keys.find("r2") and told[-1][0]
