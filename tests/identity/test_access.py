"""Who calls, by whatever a call brings."""

import math

import pytest

from router.config.identity import CertificateSchema
from router.errors import (
    IdentityUnavailableError,
    NotPermittedError,
    UnauthenticatedError,
)
from router.identity.access import open_access
from router.identity.credentials import Denial
from router.identity.jwks import KeySet
from router.identity.principal import ANONYMOUS, NOBODY, Role
from router.identity.tokens import TokenVerifier
from router.trust.peer import PeerCertificate
from tests.identity.support import (
    CHAT,
    CONTROL,
    EXPIRED,
    NOW,
    RIGHT,
    UNKNOWN,
    WallHands,
    access,
    bearer,
    held_key,
    jwt_settings,
    key_set,
    key_text,
    token,
)

CERTIFICATE = PeerCertificate("CN=batch", (), ("spiffe://corp/batch",), "ab" * 32)
RULES = (CertificateSchema(name="batch", uri="spiffe://corp/batch"),)
PEER = "ipv4:10.0.0.7:40122"


class Listening:
    def __init__(self):
        self.seen = []

    def used(self, credential, principal, peer):
        self.seen.append((credential, principal, peer))


def verifier(keys=None):
    said = jwt_settings()
    return TokenVerifier(said, keys or key_set(said))


def admitted(metadata=(), needs=Role.INFER, certificate=None, **made):
    """The principal's name, or why there is none."""
    made.setdefault("tokens", verifier())
    try:
        return access(**made).admit(metadata, needs, PEER, lambda: certificate).name
    except UnauthenticatedError as error:
        assert error.peer == PEER
        return error.why


def test_where_nobody_is_asked_anybody_may():
    nobody_asked = open_access(WallHands())
    metadata = (bearer("anything"), ("x-note", "a"))
    for needs in (*Role, None):
        assert nobody_asked.admit(metadata, needs) is ANONYMOUS
    assert nobody_asked.travelling(metadata, ANONYMOUS) is metadata


def test_a_call_is_of_who_holds_its_key_token_or_certificate():
    assert admitted((bearer(RIGHT),)) == "chat"
    assert admitted((("x-api-key", RIGHT),)) == "chat"
    assert admitted((bearer(token()),)) == "jwt:batch"
    assert admitted(certificate=CERTIFICATE, certificates=RULES) == "batch"


def test_what_cannot_be_a_key_says_nothing_beside_a_certificate_that_is_known():
    # SDKs insist on sending one.
    dummy = (("authorization", "Bearer none"),)
    assert admitted(dummy, certificate=CERTIFICATE, certificates=RULES) == "batch"
    assert admitted(dummy, certificates=RULES) == Denial.UNKNOWN_KEY
    other = PeerCertificate("CN=other", (), ("spiffe://corp/other",), "cd" * 32)
    assert admitted(dummy, certificate=other, certificates=RULES) == Denial.UNKNOWN_KEY


def test_a_key_says_who_calls_over_a_connection_with_a_certificate():
    held = {"certificate": CERTIFICATE, "certificates": RULES}
    assert admitted((bearer(RIGHT),), **held) == "chat"
    # A key that is wrong is not made good by it.
    assert admitted((bearer(UNKNOWN),), **held) == Denial.UNKNOWN_KEY


def test_who_brings_nothing_that_is_known_is_nobody():
    assert admitted() == Denial.MISSING
    assert admitted((bearer("sk-abc"),)) == Denial.UNKNOWN_KEY
    assert admitted((bearer(EXPIRED),)) == Denial.EXPIRED
    assert admitted((bearer(token()),), tokens=None) == Denial.UNKNOWN_KEY
    # No list of certificates: none says anything.
    assert admitted(certificate=CERTIFICATE) == Denial.MISSING
    stranger = CERTIFICATE
    listed = (CertificateSchema(name="a", uri="spiffe://corp/other"),)
    assert admitted(certificate=stranger, certificates=listed) == Denial.UNKNOWN_CERTIFICATE


def test_a_role_that_is_not_had_is_refused_by_name():
    with pytest.raises(NotPermittedError, match="role 'infer'") as told:
        access().admit((bearer(CONTROL),), Role.INFER)
    assert told.value.principal == "ctl"


def test_what_anybody_may_ask_is_answered_whatever_comes():
    held = access(tokens=verifier(KeySet()))
    for metadata in ((), (bearer(UNKNOWN),), (("authorization", "\x00"),), (bearer(token()),)):
        assert held.admit(metadata, None) is NOBODY
    assert held.admit((bearer(RIGHT),), None).name == "chat"


def test_while_an_issuers_keys_are_on_their_way_nobody_is_told_no():
    with pytest.raises(IdentityUnavailableError):
        admitted((bearer(token()),), tokens=verifier(KeySet()))


def test_each_use_is_told_with_the_credential_by_its_public_name():
    listening = Listening()
    held = access(listener=listening)
    held.admit((bearer(RIGHT),), Role.INFER, PEER)
    with pytest.raises(UnauthenticatedError):
        held.admit((bearer(UNKNOWN),), Role.INFER, PEER)
    assert listening.seen == [("key rightaaaaaaa", "chat", PEER)]


def test_a_credential_does_not_travel_on():
    held = access()
    metadata = (bearer(RIGHT), ("x-note", "a"))
    principal = held.admit(metadata, Role.INFER)
    assert list(held.travelling(metadata, principal)) == [("x-note", "a")]


def test_until_when_a_credential_would_be_let_in_again():
    keys = key_set()
    clock = WallHands()
    tokens = TokenVerifier(jwt_settings(), keys)
    late = held_key(key_text("late"), CHAT, expires=NOW + 60.0)
    asked = access(late, tokens=tokens, certificates=RULES, clock=clock)
    assert asked.valid_until([bearer(RIGHT)]) == math.inf
    assert asked.valid_until([bearer(key_text("late"))]) == NOW + 60.0
    assert asked.valid_until([bearer(UNKNOWN)]) == -math.inf
    made = token()
    # Until it was verified nothing is known of it, then no more than five minutes.
    assert asked.valid_until([bearer(made)]) == -math.inf
    asked.admit([bearer(made)], Role.INFER)
    assert NOW < asked.valid_until([bearer(made)]) <= NOW + 300.0
    before = tokens.version
    keys.replace({})
    assert tokens.version == before + 1
    assert asked.valid_until(()) == math.inf
    assert open_access(clock).valid_until(()) == math.inf
