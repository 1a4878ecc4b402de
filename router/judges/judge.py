"""The judge of a process: asks whichever an alias names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import aiohttp

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.judges.remote import ask
from router.judges.rules import accepts
from router.model import HttpJudge, RulesJudge
from router.telemetry.throttle import LineThrottle

_TOLD_S: Final = 60.0
_log = logging.getLogger(__name__)
# Of request and answer together: a few milliseconds of the event loop to be read.
_MOST_BYTES: Final = 512 * 1024


class Judge:
    """An `AnswerJudge`."""

    def __init__(
        self, session: Callable[[], aiohttp.ClientSession], monotonic: Callable[[], float]
    ) -> None:
        """``session``: asked for when a service is first asked, when an event loop runs;
        ``monotonic``: s, by which what is said again and again is said less often."""
        self._session = session
        self._monotonic = monotonic
        self._told = LineThrottle(_TOLD_S)

    async def accepts(
        self, judge: RulesJudge | HttpJudge, judged: JudgedAnswer, timeout_s: float
    ) -> bool:
        """See `AnswerJudge`."""
        try:
            return await self._accepts(judge, judged, timeout_s)
        except JudgeError as error:
            suppressed = self._told.admit((judged.alias,), self._monotonic())
            if suppressed is not None:
                _log.warning(
                    "an answer was not judged, and stands: %s", error,
                    extra={"alias": judged.alias, "path": judged.path[:64],
                           "suppressed": suppressed},
                )  # fmt: skip
            raise

    async def _accepts(
        self, judge: RulesJudge | HttpJudge, judged: JudgedAnswer, timeout_s: float
    ) -> bool:
        size = len(judged.request) + len(judged.answer)
        if size > _MOST_BYTES:
            raise JudgeError(f"{size} bytes are too many to be judged; {_MOST_BYTES} are taken")
        if isinstance(judge, RulesJudge):
            return accepts(judge, judged)
        return await ask(self._session(), judge, judged, timeout_s)
