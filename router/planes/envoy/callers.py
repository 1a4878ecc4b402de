"""Answers Envoy's workers who calls: on a socket in the run's folder, which this user alone can
reach.

A worker sends what a call brings to say whose it is, and which of the headers it brings that its
principal may narrow. The answer is a word, and where the caller is known an entry in the file that
workers look into first (`router.planes.envoy.known_file`), so that each caller is asked for once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from aiohttp import web

from router.config.settings import BudgetScope
from router.contract import Clock, Metadata
from router.core.layout import ANYWHERE
from router.director import Dispatcher
from router.errors import (
    CarbonRouterError,
    IdentityUnavailableError,
    NotPermittedError,
    UnauthenticatedError,
)
from router.identity.access import Access
from router.identity.forwarded import told_certificate
from router.identity.narrowing import held_origin, held_residency, held_tenant
from router.identity.principal import Principal, Role
from router.planes.envoy.bootstrap import SOCKET
from router.planes.envoy.budget_accounts import BudgetAccounts
from router.planes.envoy.known_file import ASKS_TENANTS, ASKS_WHO, KnownCaller, KnownFile
from router.planes.envoy.principal_uses import PrincipalUses
from router.planes.envoy.record_errors import METHODS, REFUSALS, Failed

_MAX_BYTES: Final = 64 * 1024
# Parts of limits move in rounds of half a second; what ends is granted anew at once.
_RENEW_S: Final = 0.5
# As source/caller.c answers with: gRPC's name, and HTTP's status.
_CODES: Final[dict[type[CarbonRouterError], tuple[str, str]]] = {
    UnauthenticatedError: ("UNAUTHENTICATED", "401"),
    NotPermittedError: ("PERMISSION_DENIED", "403"),
    IdentityUnavailableError: ("UNAVAILABLE", "503"),
}


class CallerAnswers:
    """Of one process. ``access``: who may call; ``wall``: the clock by which credentials expire;
    ``failed``: told of whoever is refused. ``uses``: of principals' limits,
    ``accounts``: of carbon budgets."""

    def __init__(self, access: Access, dispatcher: Dispatcher, wall: Clock, failed: Failed) -> None:
        self.uses = PrincipalUses(access.limiter, wall.monotonic)
        self.accounts = BudgetAccounts(dispatcher)
        self._file: KnownFile | None = None
        self._access = access
        self._dispatcher = dispatcher
        self._wall = wall
        self._failed = failed
        self._answered_by: object = None
        self._runner: web.ServerRunner | None = None
        self._renew_at = 0.0

    async def start(self, file: Path, head: int = -1) -> None:
        """Answer beside ``file``, which is that of a process before this one where ``head`` says
        how many records there were by then. Raises OSError and EnvoyPlaneError."""
        self._file = KnownFile(file) if head < 0 else KnownFile.taken_over(file)
        self.uses.begin(self._file.uses)
        self.accounts.begin(self._file.accounts, max(head, 0))
        self.look()
        path = file.with_name(SOCKET)
        path.unlink(missing_ok=True)
        # What is sent is bounded by the worker; nothing of it is logged.
        self._runner = web.ServerRunner(web.Server(self._answer), access_log=None)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(path)).start()

    async def close(self) -> None:
        """Answer nobody any more."""
        if self._runner is not None:
            await self._runner.cleanup()

    def forget_requests(self) -> None:
        """Envoy has ended."""
        self.uses.forget_requests()

    def look(self) -> None:
        """Whether what was answered still holds: else each caller is asked for anew. Raises
        EnvoyPlaneError where there is no memory for what is answered."""
        if self._file is None:
            return
        now = self._wall.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + _RENEW_S
            self.uses.renew()
            self.accounts.renew()
        credentials = self._access.credentials
        version = credentials.tokens.version if credentials and credentials.tokens else 0
        budgets = self._dispatcher.budgets.budgets
        day = self._dispatcher.budgets.day
        in_force = (credentials, version, self._dispatcher.view.snapshot.layout, budgets, day)
        if self._answered_by is None or not _is_same(in_force, self._answered_by):
            self._answered_by = in_force
            self._file.forget()
            asks = ASKS_WHO if credentials is not None else 0
            if any(one.per is BudgetScope.TENANT for one in budgets):
                asks |= ASKS_TENANTS
            self._file.head.asks = asks
        self._file.head.looked_s = now
        if self._file.head.asks:
            # Last: without it callers are asked who they are all the same.
            self._file.require_entries()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        headers = request.headers
        is_http = headers.get("x-front") == "openai"
        body = await request.content.read(_MAX_BYTES)
        while len(body) < _MAX_BYTES and not request.content.at_eof():
            body += await request.content.read(_MAX_BYTES - len(body))
        peer = headers.get("x-peer", "")
        try:
            digest = bytes.fromhex(headers.get("x-digest", ""))
            self._know(digest, _pairs(body), peer if is_http else f"ipv4:{peer}")
        except CarbonRouterError as error:
            kind = next((one for one in type(error).__mro__ if one in _CODES), None)
            if kind is None:
                raise
            code = _CODES[kind][is_http]
            self._failed(METHODS[is_http], None, code, error.reason, error)
            retry_after_s = getattr(error, "retry_after_s", None) or 0.0
            retry_ms = math.ceil(retry_after_s * 1e3)
            return web.Response(text=f"{REFUSALS.index(kind)} {retry_ms} {error}")
        return web.Response(text="0")

    def _know(self, digest: bytes, metadata: Metadata, peer: str) -> None:
        """Raises UnauthenticatedError, NotPermittedError and IdentityUnavailableError."""
        wall, monotonic = self._wall.now(), self._wall.monotonic()
        principal = self._access.admit(
            metadata, Role.INFER, peer, lambda: told_certificate(metadata)
        )
        until = self._access.valid_until(metadata)
        caller = self._caller(principal, metadata, monotonic + (until - wall))
        if not caller.fits:
            raise NotPermittedError(
                "the credential names more models than Envoy's plane keeps of one", "model",
                principal.name,
            )  # fmt: skip
        assert self._file is not None
        self._file.put(digest, caller, monotonic)

    def _caller(self, principal: Principal, metadata: Metadata, until_s: float) -> KnownCaller:
        said = {key: str(value).strip() for key, value in metadata}
        tenant = held_tenant(principal, said.get("x-tenant", ""))
        origin = held_origin(principal, said.get("x-origin", ""))
        mask_of = self._dispatcher.view.snapshot.layout.residency_mask
        # As `router.gateway.caller` has them: of one case.
        listed = (one.strip() for one in said.get("x-residency", "").lower().split(","))
        residency = held_residency(principal, frozenset(filter(None, listed)), mask_of)
        return KnownCaller(
            tenant, origin, () if "*" in principal.models else (principal.models or ("",)),
            mask_of(residency) if residency else ANYWHERE,
            self.uses.row_of(principal), until_s, self.accounts.of_tenant(tenant),
        )  # fmt: skip


def _is_same(one: tuple[object, ...], other: object) -> bool:
    return isinstance(other, tuple) and all(
        a is b or (isinstance(a, int) and a == b) for a, b in zip(one, other, strict=True)
    )


def _pairs(body: bytes) -> Metadata:
    """Lines of a key and a value by turns."""
    lines = body.decode("latin-1").split("\n")
    return list(zip(lines[0:-1:2], lines[1::2], strict=False))
