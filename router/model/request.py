"""What routing needs to know of a request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # What everything reads stays quick to import.
    import numpy as np
    from numpy.typing import NDArray

UNLIMITED = math.inf


class Budget(NamedTuple):
    """Latency limits in ms, inf where unbounded. ``explicit``: the caller set at least one."""

    ttft_ms: float = UNLIMITED
    tpot_ms: float = UNLIMITED
    e2e_ms: float = UNLIMITED
    explicit: bool = False


class Prefix(NamedTuple):
    """What a prompt begins with: the ``keys`` of its blocks of ``block_tokens`` each, in order, as
    `router.core.prefixes` chains them."""

    keys: NDArray[np.int64]
    block_tokens: float


class RunAtOnce(NamedTuple):
    """Of a request that waited ``waited_s``: where it would have run when it came, at the intensity
    that was known then, of which ``kind`` and ``basis`` say what that was."""

    waited_s: float
    region: str
    g_per_kwh: float
    kind: str
    basis: str
    pue: float


class Request(NamedTuple):
    """What routing needs of one inference request. Token counts are NaN where unknown.

    ``sequence_start``, ``sequence_end``: whether it begins, or ends, a stateful sequence.
    ``ignored``: flags of what the caller said and routing cannot use (`router.core.claims`).
    ``prefix``: what its prompt begins with, None where nobody looked. ``prompt_bytes``: of its
    text, from which its tokens can be estimated; 0 where that is not known. ``client_retries``:
    how often its client asked before, as it says. ``sequence_owner``: whose ``sequence_id`` that
    is: another's of the same text is another sequence.
    ``run_at_once``: what it would have been without waiting, None where it did not wait.
    ``can_wait_until``: unix s, until when one that is deferred may still be put off; NaN of others.
    ``quality_floor``: the least quality of a variant, where ``model`` is an alias, that its caller
    takes; ``agreed_floor``: that the operator and its tenant agreed on, which gives way where a
    carbon budget says so; 0: any.
    """

    model: str
    version: str = ""
    request_id: str = ""
    sequence_id: str = ""
    origin: str = ""
    tenant: str = ""
    residency: frozenset[str] = frozenset()
    budget: Budget = Budget()
    input_tokens: float = math.nan
    max_output_tokens: float = UNLIMITED
    payload_bytes: int = 0
    sequence_start: bool = False
    sequence_end: bool = False
    ignored: tuple[str, ...] = ()
    prefix: Prefix | None = None
    prompt_bytes: int = 0
    client_retries: int = 0
    sequence_owner: str = ""
    run_at_once: RunAtOnce | None = None
    quality_floor: float = 0.0
    agreed_floor: float = 0.0
    can_wait_until: float = math.nan

    @property
    def least_quality(self) -> float:
        """By both floors; 0 where any will do."""
        return max(self.quality_floor, self.agreed_floor)

    @property
    def receipt_owner(self) -> str:
        """Who is told its receipt: its tenant, or without one whoever called alone, whose name
        begins with a space as no tenant's does; "" where nobody is asked who calls."""
        return self.tenant or self.sequence_owner.partition("\0")[0]
