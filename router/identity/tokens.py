"""JSON Web Tokens (RFC 7519, by the rules of RFC 8725): verified, and read as principals.

The signature is PyJWT's to verify; what may be signed how, and what the claims mean, is decided
here. No algorithm with a shared secret is ever taken, nor ``none``, whatever a token says of
itself; what a token claims only narrows what the operator grants to its issuer.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from router.config.identity import ANY_TENANT, JwtSchema
from router.errors import IdentityUnavailableError, UnauthenticatedError
from router.extras import need
from router.identity.credentials import REFUSED, Denial
from router.identity.jwks import KeySet
from router.identity.principal import Principal, Role, principal_of

# Verified tokens, each of some hundred bytes: one is used many times.
_KEPT: Final = 4096
# For so long nothing of one is looked at again, s.
_KEPT_S: Final = 300.0
_WAIT_S: Final = 1.0
_MAX_NAME: Final = 128
_MOST_NAMES: Final = 256


def require_jwt(file: str) -> None:
    """Raises ConfigError where what verifies tokens is not installed."""
    with need("jwt", "verifying tokens", file=file, key="identity.jwt"):
        import cryptography  # noqa: F401
        import jwt  # noqa: F401


class TokenVerifier:
    """Of one issuer. ``keys``: its public keys, kept fresh by somebody else."""

    def __init__(self, settings: JwtSchema, keys: KeySet) -> None:
        from jwt import PyJWS

        self._settings = settings
        self._keys = keys
        self._jws = PyJWS(algorithms=list(settings.algorithms))
        self._grants = principal_of("", settings.grants, "token")
        self._verified: OrderedDict[bytes, tuple[Principal, float, float]] = OrderedDict()
        self._version = 0

    @property
    def version(self) -> int:
        """Of the issuer's keys: what was found by another is to be looked for again."""
        return self._keys.version

    def valid_until(self, token: str) -> float:
        """Until when, unix s, what `find` said of a token holds without another look."""
        known = self._verified.get(hashlib.sha256(token.encode()).digest())
        return -math.inf if known is None else known[2]

    def find(self, token: str, now: float) -> Principal:
        """Whom ``token`` is of; ``now``: unix s.

        Raises UnauthenticatedError, and IdentityUnavailableError while its key may be on its way.
        """
        if self._version != self._keys.version:
            self._verified.clear()
            self._version = self._keys.version
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None:
            principal, since, until = known
            if since <= now < until:
                return principal
            del self._verified[digest]
        principal, since, until = self._verify(token, now)
        if len(self._verified) >= _KEPT:
            self._verified.popitem(last=False)
        self._verified[digest] = principal, since, min(until, now + _KEPT_S)
        return principal

    def _verify(self, token: str, now: float) -> tuple[Principal, float, float]:
        """The principal, and from when until when it is one, unix s."""
        claims = self._claims(token)
        since, until = self._lifetime(claims, now)
        if claims.get("iss") != self._settings.issuer:
            raise _claims_error("iss")
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if self._settings.audience not in named:
            raise _claims_error("aud")
        return self._principal(claims), since, until

    def _claims(self, token: str) -> Mapping[str, Any]:
        """What is signed. Raises as `find`."""
        from jwt.exceptions import InvalidSignatureError, PyJWTError

        try:
            header = self._jws.get_unverified_header(token)
        except (PyJWTError, ValueError, TypeError, RecursionError):
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_MALFORMED) from None
        kid = header.get("kid", "")
        algorithm = header.get("alg")
        if "crit" in header or not isinstance(kid, str) or not isinstance(algorithm, str):
            # What a token says must be understood is not.
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_MALFORMED)
        if algorithm not in self._settings.algorithms:
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_ALGORITHM)
        key = self._keys.find(kid)
        if key is None:
            if self._keys.want(kid):
                raise IdentityUnavailableError(
                    "the keys of the token's issuer are being fetched", _WAIT_S
                )
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_UNKNOWN_KEY)
        if algorithm not in key.algorithms:
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_ALGORITHM)
        try:
            signed = self._jws.decode(token, key.key, algorithms=[algorithm])
        except InvalidSignatureError:
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_SIGNATURE) from None
        except (PyJWTError, ValueError, TypeError, RecursionError):
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_MALFORMED) from None
        try:
            claims = msgspec.json.decode(signed)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise UnauthenticatedError(REFUSED, Denial.TOKEN_MALFORMED)
        return claims

    def _lifetime(self, claims: Mapping[str, Any], now: float) -> tuple[float, float]:
        skew_s = self._settings.clock_skew_s
        expires = _time(claims, "exp", None) + skew_s
        since = max(_time(claims, "nbf", -math.inf), _time(claims, "iat", -math.inf)) - skew_s
        if now >= expires:
            raise UnauthenticatedError("the token has expired", Denial.EXPIRED)
        if now < since:
            raise UnauthenticatedError("the token is not valid yet", Denial.NOT_YET_VALID)
        if expires - now > self._settings.max_lifetime_s + 2.0 * skew_s:
            raise _claims_error("exp", "is too far ahead")
        return since, expires

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        """What the operator grants, narrowed by what the token claims."""
        grants, said = self._grants, self._settings.claims
        name = _text(claims, said.name)
        if not name:
            raise _claims_error(said.name)
        tenant = grants.tenant
        if said.tenant is not None:
            claimed = _text(claims, said.tenant)
            if not claimed or claimed == ANY_TENANT or tenant not in ("", ANY_TENANT, claimed):
                raise _claims_error(said.tenant)
            tenant = claimed
        roles, models, residency, origins = (
            None if claim is None else _listed(claims, claim)
            for claim in (said.roles, said.models, said.residency, said.origins)
        )
        held = replace(grants, name=f"jwt:{name}", tenant=tenant)
        if roles is not None:
            held = replace(held, roles=frozenset(r for r in Role if r in roles and grants.has(r)))
        if models is not None:
            held = replace(held, models=tuple(m for m in models if _grants_model(grants, m)))
        if residency is not None:
            held = replace(held, residency=frozenset(one.lower() for one in residency))
            if grants.residency and not held.residency <= grants.residency:
                raise _claims_error(said.residency or "")
        if origins is not None:
            held = replace(held, origins=tuple(origins))
            if grants.origins and not set(origins) <= set(grants.origins):
                raise _claims_error(said.origins or "")
        return held


def _grants_model(grants: Principal, pattern: str) -> bool:
    """Whether all that ``pattern`` matches is granted: of two patterns that is hard to tell."""
    if "*" in grants.models or pattern in grants.models:
        return True
    return not any(one in pattern for one in "*?[") and grants.may_use(pattern)


def _time(claims: Mapping[str, Any], name: str, otherwise: float | None) -> float:
    value = claims.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise _claims_error(name)
    try:
        return float(value)
    except OverflowError:
        raise _claims_error(name) from None


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name, "")
    plain = isinstance(value, str) and value.isascii() and value.isprintable()
    if not plain or len(value) > _MAX_NAME:
        raise _claims_error(name)
    return str(value).strip()


def _listed(claims: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts, or one text with spaces, as ``scope`` is (RFC 8693, 4.2). Raises where it
    names nothing: an empty list could be read as anything."""
    value = claims.get(name)
    listed = value.split() if isinstance(value, str) else value
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_NAMES:
        raise _claims_error(name)
    for one in listed:
        plain = isinstance(one, str) and one.isascii() and one.isprintable()
        if not plain or not 0 < len(one) <= _MAX_NAME:
            raise _claims_error(name)
    return listed


def _claims_error(
    claim: str, what: str = "is missing, or not as this gateway takes it"
) -> UnauthenticatedError:
    return UnauthenticatedError(f"the token's claim {claim!r} {what}", Denial.TOKEN_CLAIMS)
