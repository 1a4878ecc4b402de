"""An issuer's public keys (RFC 7517): parsed, fetched in the background, and kept when it is away.

Keys of which somebody else might have the secret (``oct``: one shared secret signs and verifies)
are left out, and each of the others verifies signatures of its own kind alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, NamedTuple

import msgspec

from router.errors import DataError

MOST_KEYS: Final = 64
_MAX_BYTES: Final = 2**20
_MAX_KID: Final = 256
# Ids of keys that tokens name and nobody has: strangers can name any.
_MOST_WANTED: Final = 64
_MOST_MISSING: Final = 1024
_KINDS: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
# RFC 7518, 3.4: each curve has its algorithm.
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_MIN_RSA_BITS: Final = 2048


class PublicKey(NamedTuple):
    """``key``: as PyJWT takes it; ``algorithms``: that its signatures may be of; ``stated``: as it
    was published."""

    key: Any
    algorithms: frozenset[str]
    stated: bytes


def parse_jwks(text: bytes, algorithms: Collection[str]) -> dict[str, PublicKey]:
    """By ``kid`` ("" for one without), those that verify one of ``algorithms``.

    Keys that cannot be used are left out: an issuer may have some for others. Raises DataError for
    what is no key set, and for one without any usable key.
    """
    if len(text) > _MAX_BYTES:
        raise DataError("the key set is larger than 1 MiB")
    try:
        said = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise DataError("the key set is no JSON") from None
    listed = said.get("keys") if isinstance(said, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise DataError(f"the key set has no list of up to {MOST_KEYS} keys")
    found: dict[str, PublicKey] = {}
    for jwk in listed:
        kid = jwk.get("kid", "") if isinstance(jwk, dict) else None
        if not isinstance(kid, str) or len(kid) > _MAX_KID:
            continue
        key = _usable(jwk, frozenset(algorithms))
        if key is not None:
            found.setdefault(kid, key)
    if not found:
        raise DataError("the key set has no key that verifies one of the configured algorithms")
    return found


def _usable(jwk: dict[str, Any], algorithms: frozenset[str]) -> PublicKey | None:
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    kind, curve, named = jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    operations = jwk.get("key_ops")
    if jwk.get("use", "sig") != "sig" or "d" in jwk:
        # For encryption; or the private half, which whoever reads the set now has.
        return None
    if isinstance(operations, list) and "verify" not in operations:
        return None
    possible = frozenset(_KINDS.get(kind, ()) if isinstance(kind, str) else ())
    if kind in ("EC", "OKP"):
        possible &= {_CURVES.get(curve, "") if isinstance(curve, str) else ""}
    if named is not None:
        possible &= {named} if isinstance(named, str) else set()
    possible &= algorithms
    if not possible:
        return None
    try:
        key = PyJWK(jwk, sorted(possible)[0]).key
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if kind == "RSA" and getattr(key, "key_size", 0) < _MIN_RSA_BITS:
        return None
    return PublicKey(key, possible, msgspec.json.encode(jwk, order="sorted"))


class KeySet:
    """The keys in force; `replace` swaps them. ``asked``: set while somebody's token is of a key
    that is not among them, and was not when they were last fetched. ``version`` counts changes:
    what was verified by other keys is to be verified anew.
    """

    def __init__(self) -> None:
        self.loaded = False
        self.asked = asyncio.Event()
        self.version = 0
        self._keys: dict[str, PublicKey] = {}
        self._wanted: set[str] = set()
        self._missing: set[str] = set()

    def find(self, kid: str) -> PublicKey | None:
        """The key of this id. A token without one is of the only key, where there is but one."""
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def want(self, kid: str) -> bool:
        """Have the set fetched for a key that is not in it; whether that may help."""
        if not self.loaded:
            return True
        if kid in self._missing:
            return False
        if kid not in self._wanted:
            if len(self._wanted) >= _MOST_WANTED:
                return False
            self._wanted.add(kid)
        self.asked.set()
        return True

    def replace(self, keys: dict[str, PublicKey]) -> bool:
        """Put ``keys`` in force; whether they are others than before."""
        changed = not self.loaded or {kid: key.stated for kid, key in keys.items()} != {
            kid: key.stated for kid, key in self._keys.items()
        }
        self._keys = keys
        self.loaded = True
        if changed:
            self.version += 1
            self._missing.clear()
        return changed

    def fetched(self) -> None:
        """The issuer was asked: what was wanted and is not there, is not there."""
        if len(self._missing) + len(self._wanted) > _MOST_MISSING:
            self._missing.clear()
        self._missing |= self._wanted - self._keys.keys()
        self._wanted.clear()
        self.asked.clear()


class JwksRefresher:
    """Keeps a `KeySet` fresh: every ``refresh_s``, and sooner when an unknown key is asked for, but
    never more often than ``shortest_s``, whatever strangers send.

    ``fetch``: the set as bytes; raises DataError and OSError. ``told``: (whether it went well, what
    was wrong) after each that failed or changed something; a set that cannot be had or read leaves
    the last one in force.
    """

    def __init__(
        self,
        keys: KeySet,
        fetch: Callable[[], Awaitable[bytes]],
        algorithms: Collection[str],
        refresh_s: float,
        told: Callable[[bool, str], None],
        shortest_s: float = 10.0,
    ) -> None:
        self._keys = keys
        self._fetch = fetch
        self._algorithms = algorithms
        self._refresh_s = refresh_s
        self._told = told
        self._shortest_s = shortest_s

    async def run(self) -> None:
        """Fetch, for ever."""
        while True:
            await self.refresh()
            # Without any key every token is refused: that is worth a little more trouble.
            pause_s = self._refresh_s if self._keys.loaded else 1.0
            await asyncio.sleep(min(pause_s, self._shortest_s))
            rest_s = pause_s - self._shortest_s
            if rest_s > 0.0:
                try:
                    async with asyncio.timeout(rest_s):
                        await self._keys.asked.wait()
                except TimeoutError:
                    pass

    async def refresh(self) -> None:
        """Fetch once. Never raises."""
        try:
            changed = self._keys.replace(parse_jwks(await self._fetch(), self._algorithms))
        except DataError as error:
            self._told(False, str(error))
        except OSError as error:
            self._told(False, f"cannot be had: {type(error).__name__}")
        else:
            if changed:
                self._told(True, "")
        finally:
            self._keys.fetched()
