"""The judge of a process: asks whichever an alias names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import aiohttp

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.judges.remote import ask
from router.judges.rules import accepts
from router.model import HttpJudge, RulesJudge

# Of request and answer together: a few milliseconds of the event loop to be read.
_MOST_BYTES: Final = 512 * 1024


class Judge:
    """An `AnswerJudge`."""

    def __init__(self, session: Callable[[], aiohttp.ClientSession]) -> None:
        """``session``: asked for when a service is first asked, when an event loop runs."""
        self._session = session

    async def accepts(
        self, judge: RulesJudge | HttpJudge, judged: JudgedAnswer, timeout_s: float
    ) -> bool:
        """See `AnswerJudge`."""
        size = len(judged.request) + len(judged.answer)
        if size > _MOST_BYTES:
            raise JudgeError(f"{size} bytes are too many to be judged; {_MOST_BYTES} are taken")
        if isinstance(judge, RulesJudge):
            return accepts(judge, judged)
        return await ask(self._session(), judge, judged, timeout_s)
