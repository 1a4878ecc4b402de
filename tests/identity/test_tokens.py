"""Tokens, right and wrong in every way that somebody thought of."""

import base64
import hashlib
import hmac
import json
import os
import warnings

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import ConfigError, IdentityUnavailableError, UnauthenticatedError
from router.identity.credentials import Denial
from router.identity.jwks import KeySet, parse_jwks
from router.identity.principal import Role
from router.identity.tokens import TokenVerifier, require_jwt
from tests.identity.support import (
    AUDIENCE,
    EC_KEY,
    ED_KEY,
    NOW,
    OTHER_KEY,
    RSA_KEY,
    claims,
    jwk,
    jwks,
    jwt_settings,
    key_set,
    token,
)

EXAMPLES = int(os.environ.get("TOKEN_EXAMPLES", "300"))


def verifier(keys=None, **changes):
    said = jwt_settings(**changes)
    return TokenVerifier(said, key_set(said) if keys is None else keys)


def outcome(text, now=NOW, verify=None):
    """The principal, or why there is none."""
    try:
        return (verify or verifier()).find(text, now)
    except UnauthenticatedError as error:
        assert len(text) < 12 or text not in str(error)
        return error.why


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [
        (RSA_KEY, "r1", "RS256"), (RSA_KEY, "r1", "PS256"), (EC_KEY, "e1", "ES256"),
        (ED_KEY, "o1", "EdDSA"),
    ],
)  # fmt: skip
def test_a_token_is_of_whom_it_names(key, kid, algorithm):
    found = outcome(token(key=key, kid=kid, algorithm=algorithm))
    assert (found.name, found.roles) == ("jwt:batch", {Role.INFER})


def test_an_audience_among_several_will_do():
    assert outcome(token(claims(aud=["a", AUDIENCE]))).name == "jwt:batch"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://evil.example"}, Denial.TOKEN_CLAIMS),
        ({"iss": None}, Denial.TOKEN_CLAIMS),
        ({"iss": ["https://issuer.example"]}, Denial.TOKEN_CLAIMS),
        ({"aud": "other"}, Denial.TOKEN_CLAIMS),
        ({"aud": None}, Denial.TOKEN_CLAIMS),
        ({"aud": {AUDIENCE: 1}}, Denial.TOKEN_CLAIMS),
        ({"sub": None}, Denial.TOKEN_CLAIMS),
        ({"sub": ""}, Denial.TOKEN_CLAIMS),
        ({"sub": 5}, Denial.TOKEN_CLAIMS),
        ({"sub": "a\nb"}, Denial.TOKEN_CLAIMS),
        ({"sub": "a" * 129}, Denial.TOKEN_CLAIMS),
        ({"exp": None}, Denial.TOKEN_CLAIMS),
        ({"exp": "never"}, Denial.TOKEN_CLAIMS),
        ({"exp": True}, Denial.TOKEN_CLAIMS),
        ({"exp": 10**400}, Denial.TOKEN_CLAIMS),
        ({"exp": NOW + 10**7}, Denial.TOKEN_CLAIMS),
        ({"nbf": "x"}, Denial.TOKEN_CLAIMS),
        ({"exp": NOW - 31}, Denial.EXPIRED),
        ({"nbf": NOW + 31}, Denial.NOT_YET_VALID),
        ({"iat": NOW + 31}, Denial.NOT_YET_VALID),
    ],
)
def test_a_token_with_wrong_claims_is_nobodys(changes, why):
    assert outcome(token(claims(**changes))) == why


def test_clocks_may_differ_by_as_much_as_is_configured():
    assert outcome(token(claims(exp=NOW - 29))).name == "jwt:batch"
    assert outcome(token(claims(nbf=NOW + 29, iat=None))).name == "jwt:batch"


def test_a_signature_of_another_key_is_nobodys():
    assert outcome(token(key=OTHER_KEY)) == Denial.TOKEN_SIGNATURE


def unsigned(header, body=None):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims() if body is None else body)}."


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_a_signature_is_nobodys(name):
    assert outcome(unsigned({"alg": name, "kid": "r1"})) == Denial.TOKEN_ALGORITHM


def test_a_public_key_is_no_shared_secret():
    # The classic: signed with HMAC and the public key, which everybody has.
    secret = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = unsigned({"alg": "HS256", "kid": "r1", "typ": "JWT"}).rstrip(".")
    digest = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    forged = f"{head}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    assert outcome(forged) == Denial.TOKEN_ALGORITHM
    with pytest.raises(ValueError, match="algorithms"):
        jwt_settings(algorithms=["HS256"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", Denial.TOKEN_MALFORMED),
        ("a.b.c", Denial.TOKEN_MALFORMED),
        ("..", Denial.TOKEN_MALFORMED),
        (unsigned({"alg": "RS256", "kid": "r1"}), Denial.TOKEN_SIGNATURE),
        (unsigned({"kid": "r1"}), Denial.TOKEN_MALFORMED),
        (unsigned({"alg": ["RS256"], "kid": "r1"}), Denial.TOKEN_MALFORMED),
        (unsigned({"alg": "RS512", "kid": "r1"}), Denial.TOKEN_ALGORITHM),
        (unsigned({"alg": "ES256", "kid": "r1"}), Denial.TOKEN_ALGORITHM),
    ],
)
def test_what_is_no_token_is_nobodys(text, why):
    assert outcome(text) == why


def test_what_must_be_understood_is_not():
    signed = token(crit=["exp"], exp=1)
    assert outcome(signed) == Denial.TOKEN_MALFORMED


def test_a_token_that_is_no_object_is_nobodys():
    signed = jwt.PyJWS().encode(b"[1]", RSA_KEY, "RS256", {"kid": "r1"})
    assert outcome(signed) == Denial.TOKEN_MALFORMED


def test_a_key_of_one_kind_verifies_none_of_another():
    # An EC key published under an id that a token signed by RSA names.
    said = jwt_settings()
    keys = KeySet()
    keys.replace(parse_jwks(jwks(jwk(EC_KEY, "r1")), said.algorithms))
    assert outcome(token(), verify=TokenVerifier(said, keys)) == Denial.TOKEN_ALGORITHM


def test_an_unknown_key_may_be_on_its_way_and_then_is_not():
    keys = key_set()
    check = verifier(keys)
    fresh = token(key=OTHER_KEY, kid="r2")
    with pytest.raises(IdentityUnavailableError) as told:
        check.find(fresh, NOW)
    assert told.value.retry_after_s == 1.0
    assert keys.asked.is_set()
    keys.fetched()
    assert outcome(fresh, verify=check) == Denial.TOKEN_UNKNOWN_KEY
    keys.replace(parse_jwks(jwks(jwk(OTHER_KEY, "r2")), ["RS256"]))
    assert outcome(fresh, verify=check).name == "jwt:batch"


def test_nothing_can_be_told_before_there_are_keys():
    with pytest.raises(IdentityUnavailableError):
        verifier(KeySet()).find(token(), NOW)


class CountedKeys(KeySet):
    """Counts how often a key is looked up, which is once a verification."""

    def __init__(self):
        super().__init__()
        self.looked_up = 0

    def find(self, kid):
        self.looked_up += 1
        return super().find(kid)


def counted():
    keys = CountedKeys()
    said = jwt_settings()
    keys.replace(parse_jwks(jwks(jwk(RSA_KEY, "r1")), said.algorithms))
    return keys, TokenVerifier(said, keys)


def test_a_token_is_verified_once_until_it_expires():
    keys, check = counted()
    signed = token(claims(exp=NOW + 100))
    assert check.find(signed, NOW) is check.find(signed, NOW + 50.0)
    assert keys.looked_up == 1
    assert outcome(signed, NOW + 131.0, check) == Denial.EXPIRED
    assert outcome(signed, NOW + 131.0, check) == Denial.EXPIRED


def test_a_key_that_is_withdrawn_takes_its_tokens_with_it():
    keys, check = counted()
    signed = token()
    assert check.find(signed, NOW).name == "jwt:batch"
    keys.replace(parse_jwks(jwks(jwk(EC_KEY, "e1")), ["ES256"]))
    keys.want("r1")
    keys.fetched()
    assert outcome(signed, verify=check) == Denial.TOKEN_UNKNOWN_KEY


def test_so_many_tokens_are_remembered_and_no_more():
    _, check = counted()
    for i in range(20):
        check.find(token(claims(sub=f"s{i}")), NOW)
    assert len(check._verified) == 20
    check._verified.update({bytes([i % 256, i // 256]): (None, 0.0, 0.0) for i in range(4076)})
    check.find(token(claims(sub="one more")), NOW)
    assert len(check._verified) == 4096


GRANTS = {
    "tenant": "*", "roles": ["infer", "receipts"], "models": ["llama-*", "gpt"],
    "residency": ["EU", "US"], "origins": ["a", "b"],
}  # fmt: skip
CLAIMS = {
    "tenant": "org", "roles": "scope", "models": "models", "residency": "geo", "origins": "from",
}  # fmt: skip


def granted(**said):
    held = {"org": "acme", "scope": "infer", "models": ["gpt"], "geo": ["EU"], "from": ["b"]}
    check = verifier(grants=GRANTS, claims=CLAIMS)
    return outcome(token(claims(**{**held, **said})), verify=check)


def test_claims_narrow_what_is_granted():
    found = granted()
    assert (found.tenant, found.roles, found.models) == ("acme", {Role.INFER}, ("gpt",))
    assert (found.residency, found.origins) == ({"eu"}, ("b",))


def test_roles_and_models_beyond_what_is_granted_are_not_had():
    found = granted(
        scope="infer control operator receipts", models=["llama-3", "*", "o1", "llama-*"]
    )
    assert found.roles == {Role.INFER, Role.RECEIPTS}
    assert found.models == ("llama-3", "llama-*")
    assert not granted(scope="openid").roles


@pytest.mark.parametrize(
    "said",
    [
        {"org": None}, {"org": "*"}, {"org": ["acme"]}, {"geo": ["EU", "CN"]}, {"geo": []},
        {"from": ["c"]}, {"from": ""}, {"scope": None}, {"models": None}, {"models": [5]},
        {"models": ["m"] * 257}, {"geo": {"EU": 1}},
    ],
)  # fmt: skip
def test_claims_that_are_missing_or_wider_are_nobodys(said):
    assert granted(**said) == Denial.TOKEN_CLAIMS


def test_a_tenant_that_is_granted_is_the_only_one():
    check = verifier(grants={"tenant": "acme"}, claims={"tenant": "org"})
    assert outcome(token(claims(org="acme")), verify=check).tenant == "acme"
    assert outcome(token(claims(org="rival")), verify=check) == Denial.TOKEN_CLAIMS


def test_what_verifies_tokens_may_not_be_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jwt", None)
    with pytest.raises(ConfigError, match=r"carbon-router\[jwt\]"):
        require_jwt("gateway.yaml")


SIGNED = token()
SIGNED_BY_EC = token(key=EC_KEY, kid="e1", algorithm="ES256")
PARTS = st.sampled_from([*SIGNED.split("."), *SIGNED_BY_EC.split("."), SIGNED_BY_EC, ""])


@st.composite
def damaged(draw):
    """A good token with something of it changed."""
    text = SIGNED
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        what = draw(st.text(alphabet="ABab01_-.=", max_size=4))
        text = text[:at] + what + text[at + draw(st.integers(0, 4)) :]
    return text


HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk", "jku", "x5c"]),
    st.one_of(
        st.sampled_from(["RS256", "ES256", "none", "HS256", "r1", "e1", ""]),
        st.none(), st.booleans(), st.integers(), st.lists(st.text(max_size=3), max_size=2),
    ),
)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.one_of(
        damaged(),
        st.lists(PARTS, max_size=4).map(".".join),
        st.text(alphabet="abcABC019-_.=", max_size=60),
        HEADERS.map(unsigned),
        st.binary(max_size=40).map(lambda raw: f"{base64.urlsafe_b64encode(raw).decode()}.e30.AA"),
    )
)
def test_nothing_but_what_the_issuer_signed_is_a_token(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = outcome(text, verify=SHARED)
        except IdentityUnavailableError:
            return
    if not isinstance(found, Denial):
        # But for the signature's last character, of which base64 ignores some bits.
        signed = {one.rpartition(".")[0] for one in (SIGNED, SIGNED_BY_EC)}
        assert text.rpartition(".")[0] in signed, text


SHARED = verifier()
