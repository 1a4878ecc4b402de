"""What a request asks of an emulated model, whichever protocol it came by."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from router.core.prefixes import CHUNK_BYTES, MOST_BLOCKS, NO_KEYS, Keys, chain_bytes

BYTES_PER_TOKEN: Final = 4.0  # of English text, common rule of thumb; only where no count is given


class Work(NamedTuple):
    """Counts of tokens; NaN, and inf for the limit, where the request does not say.

    ``stream_every``: tokens per streamed piece. ``chain``: keys of the blocks of its prompt.
    """

    input_tokens: float
    output_tokens: float = math.nan
    max_tokens: float = math.inf
    stream_every: float = math.nan
    chain: Keys = NO_KEYS


def tokens_of(size_bytes: int) -> float:
    """Tokens of a prompt of so many bytes, by the rule of thumb."""
    return float(math.ceil(size_bytes / BYTES_PER_TOKEN))


def chain_of(prompt: bytes) -> Keys:
    """Keys of the whole blocks of a prompt."""
    keys = np.empty(min(len(prompt) // CHUNK_BYTES, MOST_BLOCKS), np.int64)
    chain_bytes(np.frombuffer(prompt, np.uint8), 0, CHUNK_BYTES, 0, keys)
    return keys
