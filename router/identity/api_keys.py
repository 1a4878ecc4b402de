"""Keys of our own: ``crk_ID_SECRET``. The id is public and finds the entry; the secret is 256
random bits, of which only a hash is kept: SHA-256 is enough for what nobody can guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from router.client_keys import OWN_PREFIX
from router.errors import IdentityUnavailableError, UnauthenticatedError
from router.identity.credentials import REFUSED, Denial
from router.identity.principal import Principal

PREFIX: Final = OWN_PREFIX
ID_CHARACTERS: Final = 12
# Of a whole key; the id is told only where it stands as in one of ours.
_KEY_ID: Final = re.compile(r"crk_[a-z2-7]{12}_.*", re.DOTALL)
_ID_BYTES: Final = 10
_SECRET_BYTES: Final = 32
# What an unknown id is compared with, so that it takes as long as a known one.
_NO_DIGEST: Final = bytes(32)
_UNREAD_RETRY_S: Final = 2.0


class NewKey(NamedTuple):
    """``text``: to be shown once. ``key_id``, ``sha256``: what is kept of it."""

    text: str
    key_id: str
    sha256: str


class HeldKey(NamedTuple):
    """What is kept of a key. Valid from ``not_before`` until ``expires``, unix s."""

    digest: bytes
    principal: Principal
    not_before: float = -math.inf
    expires: float = math.inf


def new_key(random_bytes: Callable[[int], bytes]) -> NewKey:
    """A key nobody has. ``random_bytes``: so many of them, fit for secrets."""
    key_id = base64.b32encode(random_bytes(_ID_BYTES)).decode().lower()[:ID_CHARACTERS]
    secret = base64.urlsafe_b64encode(random_bytes(_SECRET_BYTES)).decode().rstrip("=")
    text = f"{PREFIX}{key_id}_{secret}"
    return NewKey(text, key_id, hashlib.sha256(text.encode()).hexdigest())


class KeyTable:
    """Keys by their ids; never changed, only replaced. ``whole``: whether no more of them are still
    to be read."""

    def __init__(self, keys: Iterable[tuple[str, HeldKey]] = (), whole: bool = True) -> None:
        self._keys = dict(keys)
        self._whole = whole

    def __len__(self) -> int:
        return len(self._keys)

    def over(self, other: KeyTable) -> KeyTable:
        """Of both; an id that both have is of this one."""
        return KeyTable({**other._keys, **self._keys}.items(), self._whole and other._whole)

    def valid_until(self, text: str) -> float:
        """When a key that `find` knows expires, unix s."""
        held = self._keys.get(text[len(PREFIX) : len(PREFIX) + ID_CHARACTERS])
        return -math.inf if held is None else held.expires

    def find(self, text: str, now: float) -> Principal:
        """Whose key ``text`` is, which begins with `PREFIX`; ``now``: unix s.

        Raises UnauthenticatedError, and IdentityUnavailableError where more keys are to be read.
        """
        key_id = text[len(PREFIX) : len(PREFIX) + ID_CHARACTERS]
        held = self._keys.get(key_id)
        digest = hashlib.sha256(text.encode()).digest()
        if not hmac.compare_digest(held.digest if held else _NO_DIGEST, digest) or held is None:
            is_ours = _KEY_ID.fullmatch(text) is not None
            if held is None and is_ours and not self._whole:
                raise IdentityUnavailableError("keys are still to be read", _UNREAD_RETRY_S)
            why = Denial.UNKNOWN_KEY if held is None else Denial.WRONG_SECRET
            # What is no id may be part of a secret.
            told = key_id if is_ours else ""
            raise UnauthenticatedError(REFUSED, why, told)
        # Whoever has the secret may know what became of it.
        if now >= held.expires:
            raise UnauthenticatedError("the key has expired", Denial.EXPIRED, key_id)
        if now < held.not_before:
            raise UnauthenticatedError("the key is not valid yet", Denial.NOT_YET_VALID, key_id)
        return held.principal
