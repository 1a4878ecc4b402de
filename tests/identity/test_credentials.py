"""What a call brings to say who it is of."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import UnauthenticatedError
from router.identity.api_keys import new_key
from router.identity.credentials import (
    MAX_CREDENTIAL,
    SECRET_FIELDS,
    Denial,
    presented,
    without_credentials,
)

# A long run has many more.
EXAMPLES = int(os.environ.get("CREDENTIAL_EXAMPLES", "300"))


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ((), ""),
        ((("authorization", "Bearer abc"),), "abc"),
        ((("authorization", "bearer   abc "),), "abc"),
        ((("x-api-key", "a.b-c_d~e+/f=="),), "a.b-c_d~e+/f=="),
        ((("x-api-key", "abc"), ("authorization", "Bearer abc")), "abc"),
        ((("x-tenant", "a"), ("proxy-authorization", "Basic eA=="), ("api-key", "z")), ""),
    ],
)
def test_a_credential_is_found(metadata, found):
    assert presented(metadata) == found


@pytest.mark.parametrize(
    "value",
    [
        "", "Bearer", "Bearer ", "Basic dTpw", "abc", "Bearer a b", "Bearer a,b", "Bearer \x00",
        "Bearer caf\u00e9", b"Bearer abc", "Bearer " + "a" * MAX_CREDENTIAL, "Bearer =",
        "Bearer a\n", "\tBearer a",
    ],
)  # fmt: skip
def test_what_is_no_credential_is_refused_and_not_repeated(value):
    with pytest.raises(UnauthenticatedError) as told:
        presented((("authorization", value),))
    assert told.value.why == Denial.MALFORMED
    assert "caf" not in str(told.value) and "dTpw" not in str(told.value)


@pytest.mark.parametrize("other", [("x-api-key", "b"), ("authorization", "Bearer b")])
def test_credentials_that_differ_are_nobodys(other):
    with pytest.raises(UnauthenticatedError) as told:
        presented((("authorization", "Bearer a"), other))
    assert told.value.why == Denial.AMBIGUOUS


def test_nothing_secret_travels_on():
    metadata = [(name, "s3cret") for name in sorted(SECRET_FIELDS)] + [("x-note", "a")]
    assert without_credentials(metadata) == [("x-note", "a")]


@pytest.mark.parametrize("before", ["", "Bearer ", "key="])
def test_a_key_of_ours_travels_in_no_field(before):
    key = f"{before}{new_key(os.urandom).text}"
    fields = [("x-auth", key), ("x-auth-bin", key.encode()), ("x-note", "crk_ is how keys begin")]
    assert without_credentials(fields) == fields[2:]


NAMES = st.sampled_from([*sorted(SECRET_FIELDS), "x-tenant", "authorization-bin", ""])
VALUES = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.text(alphabet="Bearer abc=._-~+/\t\n", max_size=30),
    st.from_regex(r"[Bb]earer +[\w.]{1,20}={0,2}", fullmatch=True),
)


def naive(value, scheme):
    """The credential in one field, slowly; None for none."""
    if not isinstance(value, str) or len(value) > MAX_CREDENTIAL:
        return None
    if scheme:
        head, space, rest = value.partition(" ")
        if head.lower() != "bearer" or not space:
            return None
        value = rest.strip(" ")
    body = value.rstrip("=")
    plain = all(c.isascii() and (c.isalnum() or c in "._~+/-") for c in body)
    return value if body and plain else None


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_headers_of_any_kind_give_one_credential_or_none(metadata):
    given_ones = [
        naive(value, name == "authorization")
        for name, value in metadata
        if name in ("authorization", "x-api-key")
    ]
    try:
        found = presented(metadata)
    except UnauthenticatedError as error:
        assert None in given_ones or len(set(given_ones)) > 1
        for _, value in metadata:
            if isinstance(value, str) and len(value) > 12 and value not in SECRET_FIELDS:
                assert value not in str(error)
        return
    assert {found} == set(given_ones) if given_ones else found == ""
    kept = without_credentials(metadata)
    assert all(name not in SECRET_FIELDS for name, _ in kept)
