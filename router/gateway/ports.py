"""What the gateway needs of the rooms behind it; ``router.director`` provides it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc

from router.contract import Metadata, UnaryReply
from router.director import Answer
from router.model import Receipt, Request


class Context(Protocol):
    """The part of ``grpc.aio.ServicerContext`` in use, as it behaves on a server."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]: ...

    def peer(self) -> str:
        """The client's address, such as ``ipv4:10.0.0.7:40122``: one a connection."""
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


class RoutedStream(Protocol):
    """One request's routed answers; ``receipt`` and ``trailers`` are set when it has ended."""

    @property
    def receipt(self) -> Receipt | None: ...

    @property
    def trailers(self) -> Metadata: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Cancel upstream if it still runs. Safe to call after the end."""
        ...


class Director(Protocol):
    """Routes requests; raises the leaves of ``router.errors``."""

    async def infer(
        self, request: Request, payload: bytes, metadata: Metadata, deadline_s: float | None
    ) -> Answer: ...

    def stream(
        self, request: Request, payload: bytes, metadata: Metadata, deadline_s: float | None
    ) -> RoutedStream: ...

    async def ask(
        self,
        model: str,
        version: str,
        method: str,
        payload: bytes,
        metadata: Metadata,
        deadline_s: float | None,
    ) -> UnaryReply: ...

    def model_ready(self, model: str, version: str) -> bool: ...
