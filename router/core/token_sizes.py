"""How large a token is, as several endpoints that serve one model say: a witness for each of them.

What one server says of its tokens cannot be checked by itself, but it is about a text that was
seen. Endpoints of a model have one tokenizer, so what they say of a byte (or of a piece of a
stream) is alike; the median over endpoints, not over answers, is moved by no single one of them,
however much of the traffic it has. There is none where fewer than three have said enough, or where
sizes scatter: several languages, tokens that are not shown, tensors that are no text.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from statistics import median
from typing import Final

from router.core.tokens import PROVEN_SD, TokenBytes, TokenBytesModel

# Of two that contradict each other nobody knows which is right.
LEAST_ENDPOINTS: Final = 3
LEAST_LESSONS: Final = 8
# A count that is off by more is none of this text. Between answers in one language sizes differ by
# a third or so.
UNLIKE: Final = 3.0
# Answers between two looks at all endpoints of a model.
_LOOK_EVERY: Final = 32
_MAX_MODELS: Final = 1024


class _Model:
    __slots__ = ("agreed", "said", "since_look")

    def __init__(self) -> None:
        self.said = TokenBytesModel()
        self.agreed: TokenBytes | None = None
        self.since_look = 0


class TokenSizes:
    """Of answers in bytes, of streams in pieces, or of prompts in bytes; one of each a process."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, _Model] = OrderedDict()

    def agreed(self, model: str) -> TokenBytes | None:
        """What endpoints of ``model`` agree on; None where they do not."""
        known = self._models.get(model)
        return None if known is None else known.agreed

    def is_new(self, model: str, endpoint: str) -> bool:
        """Whether ``endpoint`` has said too little to be compared with others."""
        known = self._models.get(model)
        return known is None or known.said.lessons(endpoint) < LEAST_LESSONS

    def observe(self, model: str, endpoint: str, size: float, tokens: float) -> None:
        """``endpoint`` stated ``tokens`` of a text, believed or not; sizes and counts that are
        none say nothing."""
        if not (size > 0.0 and tokens > 0.0):
            return
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = _Model()
            if len(self._models) > _MAX_MODELS:
                self._models.popitem(last=False)
        known.said.observe(endpoint, size, tokens)
        known.since_look += 1
        if known.since_look >= (LEAST_LESSONS if known.agreed is None else _LOOK_EVERY):
            known.since_look = 0
            known.agreed = _agreed(known.said)


def unlike(tokens: float, size: float, agreed: TokenBytes | None) -> int:
    """Whether ``tokens`` are too few (-1) or too many (1) for a text of ``size``; 0 where they are
    neither, or where nobody can tell."""
    if agreed is None or not (size > 0.0 and tokens > 0.0):
        return 0
    off = math.log(tokens / agreed.tokens(size))
    # A sign more or less is much of a short text.
    least = math.log(UNLIKE + UNLIKE / max(agreed.tokens(size), 1.0))
    return 0 if abs(off) <= least else int(math.copysign(1.0, off))


def _agreed(said: TokenBytesModel) -> TokenBytes | None:
    told = [one for one in said.learned() if one.lessons >= LEAST_LESSONS]
    if len(told) < LEAST_ENDPOINTS:
        return None
    sd = median(one.sd for one in told)
    if sd > PROVEN_SD:
        return None
    return TokenBytes(median(one.log_median for one in told), sd)
