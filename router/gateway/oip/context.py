"""What of a gRPC call is used here, so that tests need no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import grpc


class Context(Protocol):
    """The part of ``grpc.aio.ServicerContext`` in use, as it behaves on a server."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...

    def peer(self) -> str:
        """The client's address, such as ``ipv4:10.0.0.7:40122``: one a connection."""
        ...

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What the connection's handshake told of the client; empty without TLS."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        ...

    async def read(self) -> Any:
        """The next message, or ``grpc.aio.EOF``."""
        ...

    async def write(self, message: bytes) -> None: ...

    async def send_initial_metadata(
        self, initial_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None: ...

    def set_trailing_metadata(
        self, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None: ...

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str,
        trailing_metadata: tuple[tuple[str, str | bytes], ...],
    ) -> None:
        """End the call; always raises."""
        ...
