"""Who asks the console, and what they may see of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from router.console.scene import EVERYTHING, Scope
from router.errors import (
    CarbonRouterError,
    IdentityUnavailableError,
    NotPermittedError,
    ReceiptsUnreachableError,
    UnauthenticatedError,
)
from router.identity.access import Access
from router.identity.principal import Role
from router.trust.peer import PeerCertificate, read_peer
from router.trust.secrets import Secret
from router.trust.watched import Watched

# Answers that take a while, at once, for those who may see the same.
MOST_ASKING: Final = 4


class Viewers:
    """Of one port. ``token``: its own, None where it has none."""

    def __init__(self, access: Access, token: Watched[Secret] | None) -> None:
        self._access = access
        self._token = token
        self._asking: Counter[Scope] = Counter()

    @contextmanager
    def asked(self, request: web.Request) -> Iterator[Scope]:
        """Raises web.HTTPException for whoever may see nothing, or asks too much at once: whoever
        hangs up is not waited for, so that requests would pile up."""
        scope = self.scope(request)
        if self._asking[scope] >= MOST_ASKING:
            raise web.HTTPServiceUnavailable(
                text=f"{MOST_ASKING} are being answered already\n", headers={"Retry-After": "1"}
            )
        self._asking[scope] += 1
        try:
            yield scope
        except ReceiptsUnreachableError as error:
            raise web.HTTPServiceUnavailable(
                text=f"{error}\n", headers={"Retry-After": "1"}
            ) from None
        finally:
            self._asking[scope] -= 1
            if not self._asking[scope]:
                del self._asking[scope]

    def scope(self, request: web.Request) -> Scope:
        """Raises web.HTTPException for whoever may see nothing."""
        if self._token is not None:
            scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() == "bearer" and self._token.value.equals(sent.strip()):
                return EVERYTHING
        if self._access.credentials is None:
            if self._token is None:
                return EVERYTHING
            raise _unauthorized("send the token of this port as `authorization: Bearer ...`")
        metadata = tuple((name.lower(), value) for name, value in request.headers.items())
        try:
            principal = self._access.admit(
                metadata, Role.CONTROL, request.remote or "", lambda: _peer(request)
            )
        except UnauthenticatedError as error:
            raise _unauthorized(str(error)) from None
        except NotPermittedError as error:
            raise web.HTTPForbidden(text=f"{error}\n") from None
        except (IdentityUnavailableError, CarbonRouterError) as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
        if principal.has(Role.OPERATOR):
            return EVERYTHING
        return Scope(principal.account)


def _unauthorized(text: str) -> web.HTTPUnauthorized:
    return web.HTTPUnauthorized(text=text + "\n", headers={"WWW-Authenticate": "Bearer"})


def _peer(request: web.Request) -> PeerCertificate | None:
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    return read_peer(shown) if shown else None
