"""Calls that end without a good answer: who is told of them, and what is kept of them."""

from __future__ import annotations

import traceback
from typing import Final, NamedTuple, Protocol

from router.contract import Metadata
from router.model import Request

# The reason of a call whose caller went away.
CANCELLED: Final = "cancelled"


class Arrival(NamedTuple):
    """How a request came: by which protocol, with which header fields, how long ago.
    ``streamed``: it has any number of answers."""

    protocol: str
    metadata: Metadata
    streamed: bool
    after_s: float


class Failures(Protocol):
    """Told of every call that ended without a good answer. Must not block."""

    def failed(
        self,
        method: str,
        request: Request | None,
        code: str,
        reason: str,
        error: BaseException,
        client_retries: int = 0,
        arrival: Arrival | None = None,
    ) -> None:
        """``request``: None when the call failed before it was understood; ``client_retries``: what
        is known even then of how often its client asked before; ``arrival``: of what asks a model
        for an answer, None of questions and of what was cut short.

        ``code``: what the caller was answered with, one of the few words that its protocol has for
        that. ``reason``: from the error tree, `CANCELLED` when the caller went away, or
        ``internal`` for an error that is not in the tree: a fault of the gateway's own.
        """
        ...


def let_go(error: BaseException) -> None:
    """Clear the variables of the frames that ``error`` came through.

    A server may keep the error of a call, as gRPC does in a cycle with the call: until the next
    full collection every message that was refused would stay in memory.
    """
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
