"""What the candidates of an alias have cached of a prompt, by what is known of its variants: a
server has the same cached of a prompt by whichever name it is asked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from router.core.layout import Candidates, Layout
from router.core.prefix_index import PrefixIndex
from router.model import Prefix


class VariantPrefixes:
    """Of the candidates of an alias, by row; changes nothing, and nobody teaches it."""

    def __init__(self, candidates: Candidates, indexes: Mapping[str, PrefixIndex]) -> None:
        """``indexes``: by variant, of those of which any server keeps prompts."""
        self._size = len(candidates.endpoints)
        pairs = list(zip(candidates.endpoints, candidates.served, strict=True))
        self._parts = []
        for name, index in indexes.items():
            here = [row for row, (_, served) in enumerate(pairs) if served.name == name]
            there = [index.row_of(pairs[row][0].name, pairs[row][1].version) for row in here]
            self._parts.append((index, np.array(here), np.array(there, np.int64)))

    def expected(self, prefix: Prefix, input_tokens: float) -> NDArray[np.float64]:
        """As `PrefixIndex.expected`."""
        out = np.zeros(self._size)
        for index, here, there in self._parts:
            out[here] = index.expected(prefix, input_tokens)[there]
        return out


def of_variants(
    layout: Layout, indexes: Mapping[tuple[str, str], PrefixIndex]
) -> dict[tuple[str, str], VariantPrefixes]:
    """By key of the aliases' candidates, where any variant has servers that keep prompts.
    ``indexes``: by model and version."""
    found = {}
    for key, candidates in layout.candidates.items():
        if key[0] not in layout.fleet.aliases:
            continue
        mine = {
            name: indexes[name, ""]
            for name in dict.fromkeys(served.name for served in candidates.served)
            if (name, "") in indexes
        }
        if mine:
            found[key] = VariantPrefixes(candidates, mine)
    return found
