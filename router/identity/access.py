"""Who calls: asked by every front before anything of a call is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from router.contract import Clock, Metadata
from router.errors import IdentityUnavailableError, UnauthenticatedError
from router.identity.api_keys import PREFIX, KeyTable
from router.identity.certificates import CertificateTable
from router.identity.credentials import REFUSED, Denial, presented, without_credentials
from router.identity.forwarded import ForwardedCertificates
from router.identity.limits import Limiter
from router.identity.narrowing import require_role
from router.identity.principal import ANONYMOUS, NOBODY, Principal, Role
from router.identity.tokens import TokenVerifier
from router.trust.peer import PeerCertificate

_DOTS_OF_A_TOKEN: Final = 2


class Credentials(NamedTuple):
    """By what principals are known; replaced as a whole. ``tokens`` None: none are taken."""

    keys: KeyTable
    tokens: TokenVerifier | None
    certificates: CertificateTable


# Of a call's connection, None where it has none; asked only where no header says who calls.
Certificate = Callable[[], PeerCertificate | None]


def _without() -> PeerCertificate | None:
    return None


class UseListener(Protocol):
    """Who is told that a credential was used. Must be quick: called on the hot path."""

    def used(self, credential: str, principal: str, peer: str) -> None: ...


class Access:
    """Of one process. ``credentials`` None: nobody is asked who calls, and anybody may do all.

    ``clock``: of the wall, whatever day carbon data are of.
    """

    def __init__(
        self,
        clock: Clock,
        limiter: Limiter | None = None,
        credentials: Credentials | None = None,
        listener: UseListener | None = None,
    ) -> None:
        self.credentials = credentials
        self.limiter = limiter or Limiter(clock.monotonic)
        self._clock = clock
        self._listener = listener
        # Of a proxy of our own; None where callers come by themselves.
        self.forwarded: ForwardedCertificates | None = None

    def admit(
        self,
        metadata: Metadata,
        needs: Role | None,
        peer: str = "",
        certificate: Certificate = _without,
    ) -> Principal:
        """Whose call it is, by its headers or its connection's ``certificate``, who has the role
        that it ``needs``. With None anybody may call: `NOBODY` is who has no valid credential.

        Raises UnauthenticatedError, NotPermittedError, and IdentityUnavailableError.
        """
        credentials = self.credentials
        if credentials is None:
            return ANONYMOUS
        if needs is None:
            return self._recognised(credentials, metadata, certificate)
        try:
            principal = self._identify(credentials, metadata, certificate)
        except UnauthenticatedError as error:
            error.peer = peer
            raise
        require_role(principal, needs)
        if self._listener is not None:
            self._listener.used(principal.credential, principal.name, peer)
        return principal

    def admit_carried(
        self, metadata: Metadata, needs: Role | None, peer: str, certificate: Certificate
    ) -> Principal:
        """As `admit`, by a front that a proxy of our own is before, where there is one: nobody
        comes past it."""
        if self.forwarded is not None and not self.forwarded.is_carried(metadata):
            raise UnauthenticatedError(
                "this port is for the gateway's own Envoy: call an address that it listens on",
                Denial.MISSING,
            )
        return self.admit(metadata, needs, peer, certificate)

    def valid_until(self, metadata: Metadata) -> float:
        """Until when, unix s, a call that `admit` let in would be let in again by what it brings;
        infinite for a certificate, which its connection proves."""
        text, credentials = presented(metadata), self.credentials
        if credentials is None:
            return math.inf
        if text.startswith(PREFIX):
            return credentials.keys.valid_until(text)
        if credentials.tokens is not None and text.count(".") == _DOTS_OF_A_TOKEN:
            return credentials.tokens.valid_until(text)
        return math.inf

    def travelling(self, metadata: Metadata, principal: Principal) -> Metadata:
        """What of a call's headers travels on to a server: no credential of ours."""
        if self.forwarded is not None:
            metadata = self.forwarded.without(metadata)
        return metadata if principal is ANONYMOUS else without_credentials(metadata)

    def _recognised(
        self, credentials: Credentials, metadata: Metadata, certificate: Certificate
    ) -> Principal:
        try:
            return self._identify(credentials, metadata, certificate)
        except (UnauthenticatedError, IdentityUnavailableError):
            return NOBODY

    def _identify(
        self, credentials: Credentials, metadata: Metadata, certificate: Certificate
    ) -> Principal:
        text = presented(metadata)
        if text:
            # Of a connection with a certificate, too: whoever brings a key wants to be known by it.
            if text.startswith(PREFIX):
                return credentials.keys.find(text, self._clock.now())
            if credentials.tokens is not None and text.count(".") == _DOTS_OF_A_TOKEN:
                return credentials.tokens.find(text, self._clock.now())
        shown = certificate() if credentials.certificates else None
        if shown is None and self.forwarded is not None and credentials.certificates:
            shown = self.forwarded.of(metadata)
        if shown is not None:
            found = credentials.certificates.find(shown)
            if found is not None:
                # SDKs send some key always: what cannot be one of ours says nothing beside it.
                return found
        if text:
            raise UnauthenticatedError(REFUSED, Denial.UNKNOWN_KEY)
        if shown is not None:
            raise UnauthenticatedError(
                "the client's certificate is of nobody known here", Denial.UNKNOWN_CERTIFICATE
            )
        raise UnauthenticatedError(
            "no credential: send `authorization: Bearer KEY`, or `x-api-key: KEY`"
        )


def open_access(clock: Clock) -> Access:
    """For a gateway that asks nobody who calls."""
    return Access(clock)
