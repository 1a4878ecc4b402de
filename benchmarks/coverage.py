"""How often what was told of a latency held, and after how many requests it did for good."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from router.core.latency import PACE_TOKENS

AIM: Final = (0.93, 0.97)
FIGURES: Final = ("ttft", "tpot", "e2e")
# Of the requests after the one in question. Of so many that hold by 95 % each, 86 to 100 hold by
# chance, in 999 cases of 1,000.
WINDOW, HELD_AT_LEAST = 100, 86


class Answer(NamedTuple):
    """One request, ms: what was told before, and what came. NaN where there is no such figure: of
    an answer in one piece only the whole is known."""

    told: tuple[float, float, float]
    came: tuple[float, float, float]


def answer_of(receipt: Mapping[str, Any]) -> Answer:
    """Of a receipt as `/v1/carbon/receipts/` tells it.

    TPOT is a pace: over the gaps between tokens, or over 31 where there are fewer.
    """
    told = tuple(float(receipt.get(f"predicted_{name}_ms", math.nan)) for name in FIGURES)
    ttft_ms = float(receipt.get("actual_ttft_ms", math.nan))
    e2e_ms = float(receipt.get("actual_e2e_ms", math.nan))
    tokens = float(receipt.get("output_tokens", math.nan))
    gaps = max(tokens, PACE_TOKENS) - 1.0
    pace_ms = (e2e_ms - ttft_ms) / gaps if tokens > 1.0 else math.nan
    return Answer((told[0], told[1], told[2]), (ttft_ms, pace_ms, e2e_ms))


class Coverage(NamedTuple):
    """Of one figure: answers of which it is known; the share within what was told; and what was
    told over what came, at the median."""

    answers: int
    share: float
    over: float

    @property
    def is_met(self) -> bool:
        """Whether as many are within as ought to be."""
        return AIM[0] <= self.share <= AIM[1]


def coverage(answers: Sequence[Answer], figure: int) -> Coverage:
    """Of those answers of which ``figure``, an index of FIGURES, is known; NaN of none."""
    pairs = _pairs(answers, figure)
    if not pairs:
        return Coverage(0, math.nan, math.nan)
    within = sum(came <= told for told, came in pairs)
    return Coverage(len(pairs), within / len(pairs), _over(pairs))


def settled_after(answers: Sequence[Answer], figure: int) -> int | None:
    """After how many requests, of all, what was told of ``figure`` held: the first after which, of
    the next WINDOW that have it, HELD_AT_LEAST are within, and not all. None: never."""
    having = [number for number, one in enumerate(answers) if _known(one, figure)]
    for first in range(len(having) - WINDOW + 1):
        pairs = _pairs([answers[number] for number in having[first : first + WINDOW]], figure)
        if HELD_AT_LEAST <= sum(came <= told for told, came in pairs) < WINDOW:
            return having[first]
    return None


def _known(one: Answer, figure: int) -> bool:
    return 0.0 < one.told[figure] < math.inf and 0.0 <= one.came[figure] < math.inf


def _pairs(answers: Sequence[Answer], figure: int) -> list[tuple[float, float]]:
    return [(one.told[figure], one.came[figure]) for one in answers if _known(one, figure)]


def _over(pairs: Sequence[tuple[float, float]]) -> float:
    ratios = sorted(told / came if came > 0.0 else math.inf for told, came in pairs)
    return ratios[len(ratios) // 2]
