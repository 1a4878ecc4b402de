"""What a server says of a request, of itself and of its models, and who reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from router.contract.metadata import Metadata
from router.errors import UpstreamError
from router.model import Endpoint, Load


class StatedLoad(NamedTuple):
    """What an answer says of its server's load: requests that run and wait there, and the used
    share of its cache, 0 to 1. Within bounds; NaN of what it does not say, or says out of them."""

    running: float
    queued: float
    kv_fraction: float


class StatedTimes(NamedTuple):
    """Where a server says that one request's time went, by its own clock, ms; NaN of what it does
    not say. One after the other: ``queue_ms`` until it began with the request, ``reading_ms`` from
    then until the first token, ``decoding_ms`` from that to the last."""

    queue_ms: float = math.nan
    reading_ms: float = math.nan
    decoding_ms: float = math.nan


UNTIMED = StatedTimes()


class BackendReport(NamedTuple):
    """What a backend said of one request's cost; NaN where it said nothing usable.

    ``energy_j``: attributional IT joules; ``marginal_energy_j``: short-run marginal IT joules.
    ``input_tokens``: of the whole prompt; ``cached_tokens``: of the prompt, not read.
    Figures are as they came, checked by nobody. ``malformed``: something in it was no figure.
    ``load``: of the server, beside what the request cost; None where it says nothing of it.
    ``times``: where the request's time went.
    """

    energy_j: float
    marginal_energy_j: float
    output_tokens: float
    malformed: bool = False
    cached_tokens: float = math.nan
    input_tokens: float = math.nan
    load: StatedLoad | None = None
    times: StatedTimes = UNTIMED


class AnswerSize(NamedTuple):
    """What an answer tells of its length without being decoded; NaN where it does not.

    ``output_bytes``: of its output; ``output_tokens``: as it states itself, and ``cached_tokens``:
    of the prompt, not read; ``input_tokens``: of the whole prompt; ``times``: where its time went.
    """

    output_bytes: float
    output_tokens: float
    cached_tokens: float = math.nan
    input_tokens: float = math.nan
    times: StatedTimes = UNTIMED


class ReportReader(Protocol):
    """Finds what a backend itself says of a request's cost and length; never raises."""

    def read(self, trailers: Metadata) -> BackendReport:
        """All NaN when there is none."""
        ...

    def failure(self, message: bytes, streamed: bool) -> UpstreamError | None:
        """What an answer under status OK says that went wrong, or is none: None of a good one."""
        ...

    def pieces(self, message: bytes) -> int:
        """How many pieces of output a streamed message brings; 0 of one that brings none."""
        ...

    def size(self, message: bytes, streamed: bool) -> AnswerSize:
        """Of one answer."""
        ...


class LoadSource(Protocol):
    """What endpoints say of their own load."""

    async def read(self, endpoint: Endpoint, now: float) -> Load:
        """Raises DataError when the endpoint's metrics cannot be read: never a zero instead."""
        ...


class LoadListener(Protocol):
    """Who is told of load that came with an answer. Must not block: called on the hot path."""

    def told(self, endpoint: str, load: StatedLoad, since: float) -> None:
        """The server said so at ``since`` (monotonic, s) or later."""
        ...


class StatedModel(NamedTuple):
    """What a server says of a model that it is to serve. ``listed``: whether it names it, None
    where it names none; ``context_tokens``: input plus output that it takes, NaN where it does not
    say, or says what is no such length."""

    listed: bool | None
    context_tokens: float


class ModelCatalogue(Protocol):
    """What servers say of their models, beside whether they are ready."""

    async def models(self, endpoint: Endpoint, timeout_s: float) -> Mapping[str, StatedModel]:
        """By name, of each that the endpoint is to serve. Raises UpstreamError leaves."""
        ...
