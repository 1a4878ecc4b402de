"""How endpoints are reached, and what of their callers' does not pass."""

from router.trust.access import CLIENT_KEYS, AccessTable, EndpointKey, EndpointSecurity
from router.trust.secrets import Secret
from tests.fakes.secure import Source, authority, material

A, B = "a:1", "b:1"
SENT = (*((name, "mine") for name in sorted(CLIENT_KEYS)), ("x-other", "1"))


def table(*addresses, key="k3y-of-the-endpoint", header="x-own", scheme=""):
    made = AccessTable()
    source = Source(material(roots=authority().root))
    made.adopt(
        {A, B},
        {address: EndpointSecurity(source) for address in addresses},
        {A: EndpointKey(header, scheme, Source(Secret(key)))},
    )
    return made, source


def test_nothing_said_is_plaintext_without_a_key_and_everything_passes():
    made = AccessTable()
    assert made.security(A) is made.context(A) is made.secret(A) is None
    assert made.sent(A, SENT) is SENT
    assert made.told(A, SENT) is SENT


def test_a_key_takes_the_place_of_every_key_of_the_caller():
    made, _ = table()
    own = ("x-own", "k3y-of-the-endpoint")
    assert list(made.sent(A, (*SENT, ("x-own", "mine")))) == [("x-other", "1"), own]
    assert made.sent(B, SENT) is SENT


def test_a_scheme_goes_before_the_key():
    made, _ = table(header="authorization", scheme="Bearer")
    assert ("authorization", "Bearer k3y-of-the-endpoint") in made.sent(A, SENT)


def test_a_context_is_made_once_a_certificate_and_shared():
    made, source = table(A, B)
    first = made.context(A)
    assert made.context(B) is first is made.context(A)
    source.replace(material(roots=authority("new").root))
    assert made.context(A) is not first


def test_a_departed_address_stays_what_it_was_until_the_next_reload():
    """What is under way there must not go on in plaintext."""
    made, _ = table(A, B)
    made.adopt({B}, {}, {})
    assert made.security(A) is not None
    assert made.security(B) is None
    assert made.secret(A) is None
    made.adopt({B}, {}, {})
    assert made.security(A) is None
