"""Keys, tokens and whoever they are of."""

import hashlib
import json
from dataclasses import replace

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from router.config.identity import JwtSchema
from router.identity.access import Access, Credentials
from router.identity.api_keys import HeldKey, KeyTable
from router.identity.certificates import CertificateTable
from router.identity.jwks import KeySet, parse_jwks
from router.identity.limits import Limiter
from router.identity.principal import Principal, Role

NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://issuer.example", "carbon-router"

# Made once: a key takes a while.
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


class WallHands:
    """A clock whose hands a test moves."""

    def __init__(self, now=NOW):
        self.at = now

    def now(self):
        return self.at

    def monotonic(self):
        return self.at


def key_text(key_id, secret="s" * 43):
    return f"crk_{key_id:a<12}_{secret}"


def held_key(text, principal, **validity):
    """An entry of a `KeyTable`."""
    digest = hashlib.sha256(text.encode()).digest()
    key_id = text[4:16]
    named = replace(principal, credential=f"key {key_id}")
    return key_id, HeldKey(digest, named, **validity)


RIGHT, NARROW, CONTROL, OPERATOR, READER = map(key_text, ("right", "narrow", "ctl", "op", "rd"))
EXPIRED, EARLY, OTHER = map(key_text, ("expired", "early", "other"))
WRONG = key_text("right", "x" * 43)
UNKNOWN = key_text("nobody")

CHAT = Principal("chat", tenant="acme", models=("llama*", "tensors"))


def keys():
    """A table of one key for each that may happen."""
    return KeyTable(
        (
            held_key(RIGHT, CHAT),
            held_key(NARROW, replace(CHAT, name="narrow", models=("other",))),
            held_key(CONTROL, replace(CHAT, name="ctl", roles=frozenset((Role.CONTROL,)))),
            held_key(READER, replace(CHAT, name="rd", roles=frozenset((Role.RECEIPTS,)))),
            held_key(OPERATOR, replace(CHAT, name="op", roles=frozenset((Role.OPERATOR,)))),
            held_key(OTHER, replace(CHAT, name="other", tenant="rival")),
            held_key(EXPIRED, CHAT, expires=NOW),
            held_key(EARLY, CHAT, not_before=NOW + 1.0),
        )
    )


def access(*extra, tokens=None, certificates=(), clock=None, listener=None, sharers=lambda: 1):
    """Who may call: `keys` and ``extra`` entries."""
    clock = clock or WallHands()
    table = keys()
    table._keys.update(extra)
    return Access(
        clock,
        Limiter(clock.monotonic, sharers),
        Credentials(table, tokens, CertificateTable(certificates)),
        listener,
    )


def bearer(text):
    return ("authorization", f"Bearer {text}")


def jwk(key, kid, **fields):
    """The public half of ``key``, as an issuer publishes it."""
    algorithm = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    kind = next(made for base, made in algorithm.items() if isinstance(key, base))
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, **fields}


def jwks(*published):
    """A key set as bytes."""
    return json.dumps({"keys": list(published)}).encode()


PUBLISHED = (jwk(RSA_KEY, "r1"), jwk(EC_KEY, "e1"), jwk(ED_KEY, "o1"))


def jwt_settings(**changes):
    """Of the issuer, who publishes in no place."""
    said = {
        "issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "jwks.json",
        "algorithms": ["RS256", "PS256", "ES256", "EdDSA"], **changes,
    }  # fmt: skip
    return JwtSchema.model_validate(said)


def key_set(settings=None, published=PUBLISHED):
    """A `KeySet` with the issuer's keys in force."""
    held = KeySet()
    held.replace(parse_jwks(jwks(*published), (settings or jwt_settings()).algorithms))
    return held


def claims(**changes):
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "batch", "exp": NOW + 600, "iat": NOW - 5}
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


def token(said=None, key=RSA_KEY, kid="r1", algorithm="RS256", **headers):
    """A signed token."""
    named = {"kid": kid, **headers} if kid is not None else headers
    body = json.dumps(claims() if said is None else said).encode()
    return jwt.PyJWS().encode(body, key, algorithm, named)


def keys_document(*texts):
    """One principal with these keys, as a file of keys says it."""
    keys = [
        {"id": text[4:16], "sha256": hashlib.sha256(text.encode()).hexdigest()} for text in texts
    ]
    # JSON, as a store has it, is YAML.
    return json.dumps({"version": 1, "principals": [{"name": "a", "keys": keys}]})


def write_keys(folder, *texts, name="keys.yaml"):
    """A file of one principal's keys, put there as a whole; its path."""
    path = folder / name
    aside = folder / "aside"
    aside.write_text(keys_document(*texts))
    aside.replace(path)
    return path


def jwt_said(**keys):
    """``identity.jwt`` of a configuration, with ``keys``."""
    return {"issuer": ISSUER, "audience": AUDIENCE, **keys}
