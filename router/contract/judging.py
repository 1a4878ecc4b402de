"""Who says whether an answer is good enough."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

from router.model import HttpJudge, RulesJudge


class JudgedAnswer(NamedTuple):
    """An answer of a ``variant`` of an ``alias``, with its ``request``: the JSON of both, as they
    travel over the API of ``path``."""

    alias: str
    variant: str
    path: str
    request: bytes | memoryview
    answer: bytes | memoryview


class Verdict(StrEnum):
    """What became of an answer's judging. NONE: nobody could say."""

    ACCEPTED = "accepted"
    NOT_ACCEPTED = "not_accepted"
    NONE = "none"


class AnswerJudge(Protocol):
    """Says whether an answer is good enough. What it takes itself is in no figure here."""

    async def accepts(
        self, judge: RulesJudge | HttpJudge, judged: JudgedAnswer, timeout_s: float
    ) -> bool:
        """By the ``judge`` that the alias names. Raises JudgeError where there is no verdict."""
        ...
