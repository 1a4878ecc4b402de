"""What a gateway expects its servers to have cached of prompts, one index a model.

It learns from what was sent: the blocks of a prompt are taken to be kept by the server that it went
to, for as long as that has room for them beside what others send. What answers report
(``cached_tokens``) says how much of that is true: a server that keeps no prompts, or shares its
memory with many, is soon expected to have few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.layout import Candidates
from router.core.prefixes import (
    BELIEFS,
    CHUNK_TOKENS,
    believe,
    build_caches,
    cached_tokens,
    clear,
    expect,
    keep,
    matched,
    share_of,
    transfer,
)
from router.model import Prefix, TokenProfile

# Blocks remembered of one server, and of all that serve a model: 1 MiB, and 90 at most.
MOST_OF_SERVER: Final = 16_384
MOST_OF_MODEL: Final = 1_048_576


class PrefixIndex:
    """Of the candidates of one model, by row. ``previous``: of the layout before a reload, of which
    is kept what was learned of servers by the same name that keep as much.
    """

    def __init__(
        self,
        candidates: Candidates,
        previous: PrefixIndex | None = None,
        block_tokens: float = CHUNK_TOKENS,
    ) -> None:
        """``block_tokens``: usually in one block, for how many a server has room for."""
        self._names = [
            (endpoint.name, served.version)
            for endpoint, served in zip(candidates.endpoints, candidates.served, strict=True)
        ]
        self._blocks = _rooms(candidates, block_tokens)
        self.keeps = any(self._blocks)
        if not self.keeps:
            return
        profiles = [served.profile for served in candidates.served]
        self._server_blocks = np.array(
            [one.prefix_block if isinstance(one, TokenProfile) else 1.0 for one in profiles],
            np.float64,
        )
        self._caches = build_caches(self._blocks)
        self._beliefs = np.ones((len(self._names), BELIEFS))
        if previous is not None and previous.keeps:
            self._adopt(previous)

    def expected(self, prefix: Prefix, input_tokens: float) -> NDArray[np.float64]:
        """Tokens of a prompt that each candidate is expected to have cached, (n,); changes
        nothing."""
        out = np.empty(len(self._names))
        keys = prefix.keys
        expect(
            *self._caches, self._beliefs, 0, keys, 0, len(keys), prefix.block_tokens, input_tokens,
            self._server_blocks, out,
        )  # fmt: skip
        return out

    def sent(self, row: int, prefix: Prefix, input_tokens: float) -> float:
        """Tokens that candidate ``row`` ought to have cached of a prompt that goes there, for
        `report`; changes nothing."""
        keys = prefix.keys
        blocks = matched(*self._caches, row, keys, 0, len(keys))
        tokens: float = cached_tokens(
            blocks, prefix.block_tokens, input_tokens, self._server_blocks[row]
        )
        return tokens

    def read(self, row: int, prefix: Prefix, ours: float) -> None:
        """Candidate ``row`` has read a prompt. ``ours``: the share of this gateway in what ran
        there when it went there."""
        keys = prefix.keys
        keep(*self._caches, row, keys, 0, len(keys), share_of(self._beliefs, row, ours))

    def depart(self, row: int, prefix: Prefix, input_tokens: float, ours: float) -> float:
        """`sent`, and `read` at once, where nothing fails in between."""
        tokens = self.sent(row, prefix, input_tokens)
        self.read(row, prefix, ours)
        return tokens

    def report(self, row: int, sent_tokens: float, cached_tokens: float, exact: bool) -> None:
        """An answer says how much of a prompt was cached, of which ``sent_tokens`` ought to have
        been. Not ``exact``: the prompt's length was but guessed, so only whether any was counts."""
        if not (self.keeps and sent_tokens > 0.0 and 0.0 <= cached_tokens < math.inf):
            return
        found = min(1.0, cached_tokens / sent_tokens)
        believe(self._beliefs, row, found if exact else math.ceil(found))

    def forget(self, row: int) -> None:
        """The server of candidate ``row`` was gone, and what it kept."""
        if self.keeps:
            clear(*self._caches, row)

    def trust(self, row: int) -> float:
        """How much of what ought to be cached there was, by what answers reported; 0 to 1."""
        return float(self._beliefs[row, 0]) if self.keeps else 0.0

    def row_of(self, endpoint: str, version: str = "") -> int | None:
        """The row of a version of the model, as its endpoint declares it; None where that is no
        candidate any more."""
        name = endpoint, version
        return self._names.index(name) if name in self._names else None

    def _adopt(self, previous: PrefixIndex) -> None:
        for row, name in enumerate(self._names):
            before = previous.row_of(*name)
            if before is not None and previous._blocks[before] == self._blocks[row]:
                self._beliefs[row] = previous._beliefs[before]
                transfer(*previous._caches, before, *self._caches, row)


def _rooms(candidates: Candidates, block_tokens: float) -> Sequence[int]:
    """Blocks remembered of each candidate."""
    profiles = [served.profile for served in candidates.served]
    most = min(MOST_OF_SERVER, MOST_OF_MODEL // max(1, len(profiles)))
    return [
        min(most, int(one.prefix_cache_tokens / block_tokens))
        if isinstance(one, TokenProfile)
        else 0
        for one in profiles
    ]
