"""What a call brings to say who it is of: found in its headers, and taken out of what travels on.

    authorization   Bearer KEY or Bearer TOKEN
    x-api-key       KEY, as Anthropic's clients send it

One credential a call. What is wrong is told in one word to the operator (`Denial`) and in general
terms to the caller, who may be anybody.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from router.client_keys import CLIENT_KEYS, OWN_PREFIX
from router.contract import Metadata
from router.errors import UnauthenticatedError

AUTHORIZATION: Final = "authorization"
API_KEY: Final = "x-api-key"
# None of these travels on: whoever holds a server's key is the gateway, not its callers.
SECRET_FIELDS: Final = CLIENT_KEYS
# Some providers' tokens are long; what is longer is none.
MAX_CREDENTIAL: Final = 8192
# RFC 6750, 2.1: b64token.
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*) *")
_OWN_KEY: Final = re.compile(rf"{OWN_PREFIX}[a-z2-7]{{12}}_")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# Of keys and tokens alike: which of the two was tried, and what of it was right, says nothing here.
REFUSED: Final = "the credential is not valid here"


class Denial(StrEnum):
    """Why nobody is known by what a call brings."""

    MISSING = "missing"
    MALFORMED = "malformed"
    AMBIGUOUS = "ambiguous"
    UNKNOWN_KEY = "unknown_key"
    WRONG_SECRET = "wrong_secret"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_ALGORITHM = "token_algorithm"
    TOKEN_UNKNOWN_KEY = "token_unknown_key"
    TOKEN_SIGNATURE = "token_signature"
    TOKEN_CLAIMS = "token_claims"
    UNKNOWN_CERTIFICATE = "unknown_certificate"


def presented(metadata: Metadata) -> str:
    """The key or token of a call; "" where it brings none.

    Raises UnauthenticatedError for one that is none, and for several that differ.
    """
    found = ""
    for key, value in metadata:
        if key != AUTHORIZATION and key != API_KEY:
            continue
        one = _credential(key, value)
        if found and one != found:
            raise UnauthenticatedError(
                f"several credentials that differ: send one, by {AUTHORIZATION} or {API_KEY}",
                Denial.AMBIGUOUS,
            )
        found = one
    return found


def without_credentials(metadata: Metadata) -> Metadata:
    """``metadata`` as it may travel on: without a key of ours in any other field, too."""
    return [item for item in metadata if item[0] not in SECRET_FIELDS and not _holds_a_key(item[1])]


def _holds_a_key(value: str | bytes) -> bool:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return OWN_PREFIX in value and _OWN_KEY.search(value) is not None


def _credential(key: str, value: str | bytes) -> str:
    if isinstance(value, str) and len(value) <= MAX_CREDENTIAL:
        if key == AUTHORIZATION:
            bearer = _BEARER.fullmatch(value)
            if bearer is not None:
                return bearer[1]
        elif _TOKEN.fullmatch(value):
            return value
    what = f"{AUTHORIZATION}: write Bearer and the key" if key == AUTHORIZATION else key
    raise UnauthenticatedError(f"{what}: this is no key and no token", Denial.MALFORMED)
