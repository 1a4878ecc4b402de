"""Calls of one script that come at the same time go together: those that come while one is under
way wait for it, and are then one call themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

Arguments: TypeAlias = Sequence[str | bytes]
# Of one call, which has so long as every call has.
MOST_TOGETHER: Final = 64


class _Asked:
    __slots__ = ("answer", "arguments", "is_answered")

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.answer: Any = None
        self.is_answered = False


class GroupedCalls:
    """Of one event loop. ``send``: answers to each, in order; it may raise."""

    def __init__(self, send: Callable[[Sequence[Arguments]], Awaitable[Sequence[Any]]]) -> None:
        self._send = send
        self._sending = asyncio.Lock()
        self._waiting: list[_Asked] = []

    async def ask(self, arguments: Arguments) -> Any:
        """The answer to these; raises what ``send`` does, and an answer that is an error.

        Whoever is cancelled while its call is under way does not know its end; others whose call it
        made ask again.
        """
        mine = _Asked(arguments)
        self._waiting.append(mine)
        try:
            # Whose turn it is makes the call for all that wait by then.
            async with self._sending:
                if not mine.is_answered:
                    await self._ask_together(mine)
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return mine.answer

    async def _ask_together(self, mine: _Asked) -> None:
        others = [one for one in self._waiting if one is not mine][: MOST_TOGETHER - 1]
        together = [mine, *others]
        answers: Sequence[Any]
        try:
            answers = await self._send([one.arguments for one in together])
        except Exception as error:
            answers = [error] * len(together)
        for one, answer in zip(together, answers, strict=True):
            one.answer, one.is_answered = answer, True
        # Who was cancelled meanwhile has left by itself.
        self._waiting = [one for one in self._waiting if not one.is_answered]
