"""Requests as columns: what a simulation of millions of them is fed with, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Of a request that states no limit on its answer; the longest answer is far below it.
NO_OUTPUT_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """What the codes in a `Traffic` stand for. ``residencies[0]`` is the empty set: anywhere."""

    origins: tuple[str, ...]
    models: tuple[str, ...]
    tenants: tuple[str, ...]
    residencies: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Consecutive requests in order of arrival; every array has shape (n,).

    ``arrival_s``: seconds since the start of the scenario. ``origin``, ``model``, ``tenant`` and
    ``residency``: codes into `Names`. Tokens are whole numbers >= 1. Budgets in ms, inf where
    unbounded. ``deadline_s``: seconds since the start by which a deferrable request must have
    ended, inf for one that is to run now. ``max_output_tokens``: the caller's own limit, which
    bounds what a router expects of the answer; `NO_OUTPUT_LIMIT` where it states none.
    """

    arrival_s: NDArray[np.float64]
    origin: NDArray[np.int32]
    model: NDArray[np.int32]
    tenant: NDArray[np.int32]
    residency: NDArray[np.int32]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    ttft_budget_ms: NDArray[np.float64]
    tpot_budget_ms: NDArray[np.float64]
    e2e_budget_ms: NDArray[np.float64]
    deadline_s: NDArray[np.float64]
    max_output_tokens: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.arrival_s)
