"""What other processes have at an endpoint, as they tell it through a shared store."""

from __future__ import annotations

import math
from typing import NamedTuple

from router.core.burden import NO_BURDENS, Burdens


class GatewayLoad(NamedTuple):
    """Sums over processes. ``in_flight``: requests of other gateways, those of workers of this one
    not included, which are counted in shared memory; ``told``: requests that the rest is of, of
    whichever process. ``pace_cap_ms``: the longest mean iteration that all of them tolerate;
    ``prompts_ms``, ``unread_ms``: of their prompts, and of those that are not known to be read.
    """

    in_flight: int = 0
    told: int = 0
    pace_cap_ms: float = math.inf
    burdens: Burdens = NO_BURDENS
    prompts_ms: float = 0.0
    unread_ms: float = 0.0


NO_GATEWAY_LOAD = GatewayLoad()


class OwnLoad(NamedTuple):
    """What a process has at an endpoint, to be told. ``sent_ms``, ``paced_ms``: prompts that it
    ever sent there, and what they take at the pace that answers tolerate."""

    in_flight: int
    turns: int
    pace_cap_ms: float
    burdens: Burdens
    prompts_ms: float
    unread_ms: float
    sent_ms: float
    paced_ms: float
