"""What servers have cached of every prompt: the words that their chat templates put before it.

They are not in a request's bytes, so no prefix of it tells of them (`router.core.prefixes`), but
servers that keep prompts report them as cached. Taken for granted is the least that a server
reported of its last requests of which nothing else was expected to be cached: one that was read
whole is enough to expect nothing. No more than a template has, whatever is reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from router.core.layout import Candidates

# So many must say so, and the least of them counts.
LEAST_REPORTS = 8
# System prompts of templates have some dozens; what is longer is somebody's prompt.
MOST_TEMPLATE_TOKENS = 256.0
_LEAST_WITNESSES = 3

# An endpoint by name, and name and version of one of its models.
_Place: TypeAlias = tuple[str, str, str]


class CachedTemplates:
    """By endpoint and model. Bounded by the fleet: `keep` forgets those that are gone."""

    def __init__(self) -> None:
        self._reported: dict[_Place, deque[float]] = {}
        # The least that each reported of late, 0 included; and of them what is believed.
        self._least: dict[_Place, float] = {}
        self._known: dict[_Place, float] = {}
        self._rows: dict[tuple[str, str], NDArray[np.float64]] = {}
        # By model, the least of its servers that have one.
        self._models: dict[str, float] = {}

    def observe(self, endpoint: str, model: str, version: str, cached_tokens: float) -> None:
        """A prompt of which nothing but the template was expected to be cached."""
        if not cached_tokens >= 0.0:
            return
        place = (endpoint, model, version)
        reported = self._reported.setdefault(place, deque(maxlen=LEAST_REPORTS))
        reported.append(min(cached_tokens, MOST_TEMPLATE_TOKENS))
        if len(reported) == LEAST_REPORTS and min(reported) != self._least.get(place):
            self._least[place] = min(reported)
            self._changed()

    def tokens(self, endpoint: str, model: str, version: str) -> float:
        """What one is taken to have of every prompt; 0 where nothing is known."""
        return self._known.get((endpoint, model, version), 0.0)

    def of_model(self, model: str) -> float:
        """Tokens that come before what a prompt of the model says, whoever serves it; 0 where that
        is not known."""
        return self._models.get(model, 0.0)

    def of(self, candidates: Candidates) -> NDArray[np.float64] | None:
        """The same for each of ``candidates``; None where it is 0 for all of them. To read."""
        if not self._known:
            return None
        key = (candidates.model, candidates.version)
        row = self._rows.get(key)
        if row is None or len(row) != len(candidates.endpoints):
            pairs = zip(candidates.endpoints, candidates.served, strict=True)
            row = self._rows[key] = np.array(
                [self.tokens(one.name, served.name, served.version) for one, served in pairs]
            )
        return row if row.any() else None

    def keep(self, endpoints: Collection[str]) -> None:
        """Another fleet is in force: forget those that are not in it."""
        for known in (self._reported, self._least):
            for place in [one for one in known if one[0] not in endpoints]:
                del known[place]
        self._changed()

    def _changed(self) -> None:
        self._rows.clear()
        self._models.clear()
        self._known.clear()
        said: dict[str, list[float]] = {}
        for (_, model, _), tokens in self._least.items():
            said.setdefault(model, []).append(tokens)
        for place, tokens in self._least.items():
            model = place[1]
            told = sorted(said[model])
            believed = min(tokens, told[-2]) if len(told) >= _LEAST_WITNESSES else tokens
            if believed > 0.0:
                self._known[place] = believed
                self._models[model] = min(believed, self._models.get(model, believed))
