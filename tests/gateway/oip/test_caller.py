"""Headers of a gRPC call that is forwarded."""

import pytest

from router.errors import InvalidMetadataError
from router.gateway.oip.caller import caller_of
from router.identity.principal import ANONYMOUS


@pytest.mark.parametrize("value", ["caf\u00e9", "tab\there", b"\xff"])
def test_a_header_that_cannot_be_forwarded_is_refused_and_named(value):
    with pytest.raises(InvalidMetadataError, match="x-note"):
        caller_of((("x-note", value),), ANONYMOUS, lambda residency: 0)
    caller_of((("x-note-bin", b"\xff"), ("x-note", "plain")), ANONYMOUS, lambda residency: 0)


def test_the_first_header_that_is_wrong_is_the_one_that_is_named():
    odd, misspelt = ("x-note", "caf\u00e9"), ("x-residencies", "eu")
    with pytest.raises(InvalidMetadataError, match="x-note"):
        caller_of((odd, misspelt), ANONYMOUS, lambda residency: 0)
    with pytest.raises(InvalidMetadataError, match="x-residencies"):
        caller_of((misspelt, odd), ANONYMOUS, lambda residency: 0)
