"""Requests that may wait before they begin, while their callers hold the connection open.

    service_tier: flex                                OpenAI's, of chat, completions and responses
    vllm_xargs.agentic_context.deadline_seconds       vLLM's, of the same
    x-deadline-s                                      a header, over HTTP and gRPC
    deadline-s                                        a parameter of the Open Inference Protocol

How long is bounded by the operator, and by what a client says that it waits itself.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

from router.model import Request, RunAtOnce

FLEX: Final = "flex"
DEFAULT: Final = "default"
# What SDKs of OpenAI and Anthropic say of their patience, s: for silence, and for all.
PATIENCE: Final = ("x-stainless-read-timeout", "x-stainless-timeout")
# Of a client's patience the rest is for the answer.
_OF_PATIENCE: Final = 0.5


class Waited(NamedTuple):
    """``was_held``: whether it might wait, however short; ``waited_s``: how long it did;
    ``run_at_once``: what it would have been without, None where that is not known."""

    was_held: bool = False
    waited_s: float = 0.0
    run_at_once: RunAtOnce | None = None

    @property
    def tier(self) -> str:
        """In OpenAI's words."""
        return FLEX if self.was_held else DEFAULT


class Holding(Protocol):
    """`router.app.deferral.holding.HeldRequests`."""

    async def hold(self, request: Request, wait_s: float) -> Waited:
        """Returns when it may begin: at once where nothing is gained by waiting, or where too many
        wait. Whoever is cancelled meanwhile waits no more."""
        ...


async def held(
    holding: Holding | None, request: Request, deadline_s: float, patience: float
) -> Waited:
    """Returns when ``request`` may begin; how long it waited. ``deadline_s``: by which it
    is to be answered, from now on, inf where it is not to wait; ``patience``: of its caller, s."""
    if holding is None or deadline_s == math.inf:
        return Waited()
    return await holding.hold(request, min(deadline_s, patience))


def patience_s(fields: dict[str, str]) -> float:
    """How long a client may be kept waiting, by what it says in its header fields; inf where it
    says nothing that can be used."""
    said = math.inf
    for name in PATIENCE:
        try:
            value = float(fields.get(name, "inf")[:32])
        except ValueError:
            continue
        if value > 0.0:
            said = min(said, value)
    return _OF_PATIENCE * said
