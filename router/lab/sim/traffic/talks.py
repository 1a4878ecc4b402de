"""Requests that come in talks: each prompt holds what was said before it, and what comes anew.

A talk begins with a text that it shares with others (a system prompt, a document). Its turns follow
one another: what a prompt begins with is the one before, and the answer to it. Blocks of prompts
stand for so much of the text or the talk (`router.core.prefixes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.traffic.chained import MOST_BLOCKS, chained
from router.lab.sim.traffic.columns import COLUMNS, Chains, Traffic, starts_of
from router.lab.sim.traffic.tables import STEPS, Lengths

# Tokens in a block of what is made up here.
BLOCK_TOKENS: Final = 64
MOST_TURNS: Final = 64
# The least part of a pause, the rest of which is drawn: nobody asks on before an answer is read.
_LEAST_PAUSE: Final = 0.25
# Names of blocks: of a text or a talk, so many.
_NAMES: Final = 1 << 20
_TALKS: Final = 1 << 40
_Number = TypeVar("_Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True)
class Talks:
    """``turns``: mean number of requests in a talk, geometric; ``pause_s``: mean time between two.
    ``shared_tokens`` at the beginning are one of ``shared_texts`` texts. A talk ends before a
    prompt of more than ``most_tokens``."""

    shared_tokens: int
    shared_texts: int
    turns: float
    pause_s: float
    most_tokens: float

    def mean_input_tokens(self, input_tokens: float, output_tokens: float) -> float:
        """Of a prompt, where so many tokens come anew in each and so many answer it."""
        before = (self.turns - 1.0) * (input_tokens + output_tokens)
        return min(self.shared_tokens + before + input_tokens, self.most_tokens)


def talked(
    begins: Traffic, talks: Talks, lengths: tuple[Lengths, Lengths], serial: int,
    rng: np.random.Generator,
) -> Traffic:  # fmt: skip
    """Every request of the talks whose first ones are ``begins``; not in order of arrival.

    ``lengths``: of what comes anew in a prompt, and of answers. ``serial``: of these talks among
    all.
    """
    turns = np.minimum(rng.geometric(1.0 / talks.turns, len(begins)), MOST_TURNS)
    talk = np.repeat(np.arange(len(begins)), turns)
    first = np.repeat(starts_of(turns)[:-1], turns)
    n = len(talk)
    pauses_s = talks.pause_s * (_LEAST_PAUSE + (1.0 - _LEAST_PAUSE) * rng.standard_exponential(n))
    new, answer = (table[rng.integers(0, STEPS, n)].astype(np.int64) for table in lengths)
    text = rng.integers(0, talks.shared_texts, len(begins))
    before = _sums(new + answer, first) - (new + answer)
    input_tokens = talks.shared_tokens + before + new
    pauses_s[first == np.arange(n)] = 0.0
    requests = begins.taken(talk)
    chains = _chains(input_tokens, text[talk], serial * _TALKS + talk, talks.shared_tokens)
    columns = {name: getattr(requests, name) for name in COLUMNS}
    later_s = _sums(pauses_s, first)
    columns["arrival_s"] = requests.arrival_s + later_s
    columns["deadline_s"] = requests.deadline_s + later_s
    columns["input_tokens"] = np.minimum(input_tokens, np.iinfo(np.int32).max).astype(np.int32)
    columns["output_tokens"] = answer.astype(np.int32)
    whole = Traffic(**columns, chains=chains)
    return whole.taken(np.flatnonzero(input_tokens <= talks.most_tokens))


def _sums(values: NDArray[_Number], first: NDArray[np.int64]) -> NDArray[_Number]:
    """Running sums that begin anew at every ``first`` place."""
    whole = np.cumsum(values)
    return np.asarray(whole - (whole - values)[first])


def _chains(
    input_tokens: NDArray[np.int64],
    text: NDArray[np.int64],
    talk: NDArray[np.int64],
    shared_tokens: int,
) -> Chains:
    blocks = np.minimum(input_tokens // BLOCK_TOKENS, MOST_BLOCKS)
    starts = starts_of(blocks)
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], blocks)
    shared = place < shared_tokens // BLOCK_TOKENS
    # No text has the number of a talk.
    owner = np.where(shared, -1 - np.repeat(text, blocks), np.repeat(talk, blocks))
    return chained(starts, owner * _NAMES + place)
