"""A caller that speaks OpenAI's HTTP: chat questions, streamed, and the receipts of the answers."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp

from router.errors import RefusedError
from router.lab.demo.openai.fleet import MAX_TOKENS, SYSTEM, TTFT_BUDGET_MS, ChatQuestion
from router.lab.loopback.llama_server import ALIAS

_FIELD = re.compile(r'(id|region)="([^"]*)"')
_DATA = b"data: "
_DONE = b"[DONE]"


class Ending(StrEnum):
    """What came of a question. ``CUT``: the stream had begun, and said itself that it broke.
    ``REFUSED``: the gateway said why, before anything was tried in vain. ``LOST``: anything else.
    """

    OPEN = "open"
    ANSWERED = "answered"
    CUT = "cut"
    REFUSED = "refused"
    LOST = "lost"


@dataclass(slots=True)
class AskedChat:
    """One question and what has come of it. Times are the loop's seconds, NaN until they come.

    ``began_at``: of the first event; ``first_token_at``: of the first text. ``why``: the reason of
    an ending that is no answer. ``energy``: the answer's ``usage.energy``. ``receipt``: as the
    gateway keeps it, fetched afterwards; {} where it has none.
    """

    question: ChatQuestion
    sent_at: float
    began_at: float = math.nan
    first_token_at: float = math.nan
    ending: Ending = Ending.OPEN
    why: str = ""
    region: str = ""
    decision_id: str = ""
    text: str = ""
    energy: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether nothing of an answer has come yet, though it may."""
        return self.ending is Ending.OPEN and math.isnan(self.began_at)

    @property
    def ttft_ms(self) -> float:
        """From when it was asked to the first text."""
        return (self.first_token_at - self.sent_at) * 1e3


class ChatCaller:
    """Asks the gateway at ``url``, open loop. ``asked``: everything so far, in order."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.asked: list[AskedChat] = []
        self._session = session
        self._url = url
        self._loop = asyncio.get_running_loop()

    async def ask_all(self, questions: Sequence[ChatQuestion], start: float) -> None:
        """Ask each at ``start + at_s`` (loop seconds); ends when all have come to an end."""
        async with asyncio.TaskGroup() as tasks:
            for question in questions:
                await asyncio.sleep(max(0.0, start + question.at_s - self._loop.time()))
                one = AskedChat(question, self._loop.time())
                self.asked.append(one)
                tasks.create_task(self._ask(one))

    async def fetch_receipts(self) -> None:
        """What the gateway knows of every answer."""
        for one in self.asked:
            if one.ending is Ending.ANSWERED:
                url = f"{self._url}/v1/carbon/receipts/{one.decision_id}"
                async with self._session.get(url) as answer:
                    if answer.status == 200:
                        one.receipt = await answer.json()

    async def _ask(self, one: AskedChat) -> None:
        headers = {"x-ttft-budget-ms": f"{TTFT_BUDGET_MS:g}", "x-energy-data": "true"}
        try:
            async with self._session.post(
                f"{self._url}/v1/chat/completions", json=body(one.question), headers=headers
            ) as answer:
                if answer.status != 200:
                    self._end_by_error(one, await answer.json(content_type=None))
                    return
                told = dict(_FIELD.findall(answer.headers.get("x-carbon", "")))
                one.region, one.decision_id = told.get("region", ""), told.get("id", "")
                await self._read(one, answer.content)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            one.ending, one.why = Ending.LOST, type(error).__name__

    async def _read(self, one: AskedChat, content: AsyncIterable[bytes]) -> None:
        """Lines of server-sent events, to their end."""
        async for line in content:
            if not line.startswith(_DATA):
                continue
            data = line.removeprefix(_DATA).strip()
            now = self._loop.time()
            if math.isnan(one.began_at):
                one.began_at = now
            if data == _DONE:
                one.ending = Ending.ANSWERED
                continue
            event = json.loads(data)
            if "error" in event:
                self._end_by_error(one, event)
                return
            for choice in event.get("choices", ()):
                piece = choice["delta"].get("content") or ""
                if piece and math.isnan(one.first_token_at):
                    one.first_token_at = now
                one.text += piece
            one.energy = (event.get("usage") or {}).get("energy", one.energy)
        if one.ending is Ending.OPEN:
            one.ending, one.why = Ending.LOST, "ended_without_a_word"

    def _end_by_error(self, one: AskedChat, told: Any) -> None:
        error = told.get("error", {}) if isinstance(told, dict) else {}
        one.why = str(error.get("code", "no_code"))
        if not math.isnan(one.began_at):
            one.ending = Ending.CUT
        else:
            one.ending = Ending.REFUSED if one.why in REFUSALS else Ending.LOST


REFUSALS = frozenset(kind.reason for kind in RefusedError.__subclasses__())


def body(question: ChatQuestion) -> dict[str, Any]:
    """A chat request, as OpenAI's SDKs write it."""
    return {
        "model": ALIAS,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": question.text},
        ],
        "max_tokens": MAX_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
