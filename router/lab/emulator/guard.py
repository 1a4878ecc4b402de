"""Whom an emulated server answers: over TLS or not, with a key or without."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc.aio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from router.clock import WallClock
from router.config.settings import ClientAuth, PemFiles
from router.errors import ConfigError
from router.gateway.oip.credentials import server_credentials
from router.trust.contexts import ServerTls
from router.trust.pem import read_pem
from router.trust.secrets import Secret, read_secret
from router.trust.watched import Watched

_REFUSED: Final = "this emulated server was given another key"


class EmulatorGuard(NamedTuple):
    """``tls``: None for plaintext. ``key``: None where nobody is asked for one."""

    tls: ServerTls | None = None
    key: Secret | None = None

    def admits(self, fields: Iterable[tuple[str, str | bytes]]) -> bool:
        """Whether header fields carry the key, as OpenAI's or as Anthropic's clients send it."""
        if self.key is None:
            return True
        sent = {name.lower(): str(value) for name, value in fields}
        bearer = sent.get("authorization", "").removeprefix("Bearer ")
        return self.key.equals(bearer) or self.key.equals(sent.get("x-api-key", ""))


OPEN: Final = EmulatorGuard()


def build_guard(
    cert: Path | None,
    key: Path | None,
    client_ca: Path | None,
    key_env: str,
    environ: Mapping[str, str],
) -> EmulatorGuard:
    """Of the options of `emulate`. Raises ConfigError for what cannot be used."""
    if (cert is None) != (key is None) or (client_ca is not None and cert is None):
        raise ConfigError("emulate", [("--tls-cert", "give --tls-cert and --tls-key together")])
    tls = None
    if cert is not None:
        files = PemFiles(cert, key, client_ca)
        source = Watched(
            "emulate", files, lambda now: read_pem("--tls", files, now), WallClock().now()
        )
        tls = ServerTls(source, ClientAuth.REQUIRED if client_ca else ClientAuth.NONE)
    wanted = read_secret("emulate", "--key-env", env=key_env, environ=environ) if key_env else None
    return EmulatorGuard(tls, wanted)


def add_port(server: grpc.aio.Server, address: str, guard: EmulatorGuard) -> int:
    """Let a gRPC server listen. Raises RuntimeError where it cannot."""
    if guard.tls is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, server_credentials(guard.tls))


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Refuses gRPC calls without the key."""

    def __init__(self, guard: EmulatorGuard) -> None:
        self._guard = guard

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """As gRPC has it."""
        if self._guard.admits(handler_call_details.invocation_metadata or ()):
            return await continuation(handler_call_details)
        return grpc.stream_unary_rpc_method_handler(_refuse)


async def _refuse(requests: object, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, _REFUSED)


def asking_for_key(guard: EmulatorGuard) -> Middleware:
    """A middleware of aiohttp that refuses requests without the key; health is everybody's."""

    @web.middleware
    async def asked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/health" or guard.admits(request.headers.items()):
            return await handler(request)
        return web.json_response({"error": {"message": _REFUSED}}, status=401)

    return asked
