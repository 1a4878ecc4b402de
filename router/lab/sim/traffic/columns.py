"""Requests as columns: what a simulation of millions of them is fed with, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Of a request that states no limit on its answer; the longest answer is far below it.
NO_OUTPUT_LIMIT: Final = 2**31 - 1
# Tokens of a block, where nothing else is said: those of the Mooncake traces.
BLOCK_TOKENS: Final = 512
NOT_DEFERRED: Final = "no request is deferred"
"""In a note on deadlines, for those who do not use them."""


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """What the codes in a `Traffic` stand for. ``residencies[0]`` is the empty set: anywhere.
    ``block_tokens``: of a prompt, in one block of its chain. ``asked``: of each model, the code of
    the name that callers ask for, where several stand for one; () where none do.
    """

    origins: tuple[str, ...]
    models: tuple[str, ...]
    tenants: tuple[str, ...]
    residencies: tuple[frozenset[str], ...]
    block_tokens: int = BLOCK_TOKENS
    asked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """The beginnings of some prompts, block by block (`router.core.prefixes`): the keys of request
    i are ``keys[starts[i]:starts[i + 1]]``; none where nothing is known of its prompt.
    """

    starts: NDArray[np.int64]
    keys: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Blocks of each."""
        return np.diff(self.starts)

    def taken(self, which: slice | NDArray[np.integer]) -> Chains:
        """Those at ``which`` places, in that order."""
        firsts, lengths = self.starts[:-1][which], self.lengths[which]
        starts = starts_of(lengths)
        places = np.repeat(firsts - starts[:-1], lengths) + np.arange(starts[-1])
        return Chains(starts, self.keys[places])


def starts_of(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where chains of such lengths begin, one after the other, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def unchained(count: int) -> Chains:
    """Of so many requests, whose prompts nothing is known of."""
    return Chains(np.zeros(count + 1, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Consecutive requests in order of arrival; every array has shape (n,).

    ``arrival_s``: seconds since the start of the scenario. ``origin``, ``model``, ``tenant`` and
    ``residency``: codes into `Names`. Tokens are whole numbers >= 1. Budgets in ms, inf where
    unbounded. ``deadline_s``: seconds since the start by which a deferrable request must have
    ended, inf for one that is to run now. ``max_output_tokens``: the caller's own limit, which
    bounds what a router expects of the answer; `NO_OUTPUT_LIMIT` where it states none.
    ``chains``: what prompts begin with; None where that is known of none.
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
    chains: Chains | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def taken(self, which: slice | NDArray[np.integer]) -> Traffic:
        """The requests at ``which`` places, in that order."""
        columns: dict[str, Any] = {name: getattr(self, name)[which] for name in COLUMNS}
        chains = None if self.chains is None else self.chains.taken(which)
        return Traffic(**columns, chains=chains)


# Those that are arrays with one figure a request.
COLUMNS: Final = tuple(one.name for one in fields(Traffic) if one.name != "chains")


def joined(parts: Sequence[Traffic]) -> Traffic:
    """Consecutive parts as one."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in parts]) for name in COLUMNS
    }
    if all(one.chains is None for one in parts):
        return Traffic(**columns)
    chains = [one.chains or unchained(len(one)) for one in parts]
    lengths = np.concatenate([one.lengths for one in chains])
    keys = np.concatenate([one.keys for one in chains])
    return Traffic(**columns, chains=Chains(starts_of(lengths), keys))
