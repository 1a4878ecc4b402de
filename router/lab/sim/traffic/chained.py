"""Names of blocks, as workload files hold them -> chains of keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.prefixes import chain_words
from router.lab.sim.traffic.columns import Chains, starts_of

# Blocks of a prompt after these are not looked at: half a million tokens, of 512 each.
MOST_BLOCKS: Final = 1_024
_SEPARATORS = re.compile(r"[\[\],;\s]+")
_MOST = 2**63


def chains_of(names: Sequence[Sequence[int]]) -> Chains:
    """Keys of which each stands for all that comes before it, too, whatever the ``names`` stand
    for: those of the public traces do already."""
    kept = [one[:MOST_BLOCKS] for one in names]
    starts = starts_of(np.array([len(one) for one in kept], np.int64))
    words = np.fromiter((name for one in kept for name in one), np.int64, int(starts[-1]))
    return chained(starts, words)


def chained(starts: NDArray[np.int64], words: NDArray[np.int64]) -> Chains:
    """As `chains_of`, of names one after the other."""
    keys = np.empty_like(words)
    chain_words(words, starts, 0, keys)
    return Chains(starts, keys)


def parsed_names(text: str) -> list[int] | None:
    """``46 47 48``, ``[46, 47, 48]``, ``46;47;48``; none of a blank. None for anything else."""
    try:
        found = [int(name) for name in _SEPARATORS.split(text) if name]
    except ValueError:
        return None
    return found if all(-_MOST <= name < _MOST for name in found) else None
