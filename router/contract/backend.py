"""How a model server is spoken to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from router.contract.metadata import Metadata
from router.contract.reports import ModelCatalogue, ReportReader
from router.model import Endpoint


class Probe(StrEnum):
    """What came of asking a server whether it is ready. UNKNOWN: it answered, but not that."""

    READY = "ready"
    NOT_READY = "not_ready"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    SILENT = "silent"


class UnaryReply(NamedTuple):
    """A backend's answer, as bytes."""

    payload: bytes
    initial_metadata: Metadata
    trailers: Metadata


class UpstreamStream(Protocol):
    """One request's answers from one backend."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Messages in order; ends when the backend ends. Raises UpstreamError leaves."""
        ...

    def initial_metadata(self) -> Metadata:
        """What came before the first message; empty before that, and where the transport has
        none to pass on."""
        ...

    def trailers(self) -> Metadata:
        """Trailing metadata; empty before the end."""
        ...

    def cancel(self) -> None:
        """Stop upstream work at once. Safe to call twice and after the end."""
        ...


class Backend(Protocol):
    """The transport to endpoints of one protocol. Cancelling a call cancels it upstream."""

    async def unary(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UnaryReply:
        """One request, one answer. Raises UpstreamError leaves."""
        ...

    def stream(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UpstreamStream:
        """One request, 0..n answers."""
        ...

    async def ask(
        self, endpoint: Endpoint, method: str, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UnaryReply:
        """One question about the server or a model; ``method``: as the protocol names it.

        Raises UpstreamError leaves.
        """
        ...

    async def probe(self, endpoint: Endpoint, timeout_s: float) -> Probe:
        """Ask the server whether it is ready."""
        ...

    async def probe_model(
        self, endpoint: Endpoint, model: str, version: str, timeout_s: float
    ) -> Probe:
        """Ask the server whether it has a model ready."""
        ...

    async def reset(self, endpoint: Endpoint) -> None:
        """Give up the connections to an endpoint: calls there end with UpstreamLostError, later
        ones connect anew."""
        ...

    async def prune(self, addresses: Collection[str]) -> None:
        """Close the connections to every address that is not among ``addresses``, at once."""
        ...

    async def redirect(self, address: str, hosts: Sequence[str]) -> None:
        """New calls to ``address`` go to ``hosts``; returns when the others have ended."""
        ...

    async def renew(self, address: str) -> None:
        """Connections to ``address`` are made anew, as it is to be reached by now: new calls use
        those, calls under way finish. Returns when they have, or after a while."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Upstream(NamedTuple):
    """How the endpoints of one protocol are reached, and how what they say is read.

    ``reports_first``: whether a stream's report comes before its messages, rather than after.
    ``catalogue``: None where servers of the protocol do not say what their models take.
    """

    backend: Backend
    reports: ReportReader
    reports_first: bool = False
    catalogue: ModelCatalogue | None = None
