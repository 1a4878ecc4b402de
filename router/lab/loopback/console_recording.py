"""What a console shows while something runs, left as one page that plays it again."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from rich.console import Console

from router.console.page import recorded_page

RECORDING: Final = "console.html"
# Beyond it nothing more is recorded; the page has a tenth of that.
_MOST_BYTES: Final = 48 * 2**20
# Decisions with all their terms: one in so long, s, and so many.
_OPEN_EVERY_S: Final = 1.0
_MOST_OPENED: Final = 400
_AGAIN_S: Final = 0.5


class ConsoleRecorder:
    """Looks on at the console at ``address``, like a browser. ``problem``: why there is no
    recording, "" where there is one."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._events: list[tuple[float, str, Any]] = []
        self._decisions: dict[str, Any] = {}
        self._bytes = 0
        self._began = math.inf
        self._opened_at = float("-inf")
        self.problem = "nothing was shown"

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong ends the recording, and nothing else."""
        async with aiohttp.ClientSession(self._address) as session:
            while self._bytes < _MOST_BYTES:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    await self._follow(session)
                await asyncio.sleep(_AGAIN_S)

    def write(self, path: Path) -> None:
        """As one HTML file; without a tick there is none."""
        if not any(name == "tick" for _, name, _ in self._events):
            return
        try:
            path.write_bytes(recorded_page({"events": self._events, "decisions": self._decisions}))
        except OSError as error:
            self.problem = str(error)
        else:
            self.problem = ""

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        clock = asyncio.get_running_loop().time
        limit = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=60.0)
        async with session.get("/console/events", timeout=limit) as reply:
            async for name, data in _events(reply):
                self._bytes += len(data)
                told = msgspec.json.decode(data)
                self._began = min(self._began, clock())
                self._events.append((round(clock() - self._began, 2), name, told))
                if name == "decisions" and clock() - self._opened_at >= _OPEN_EVERY_S:
                    self._opened_at = clock()
                    await self._open(session, told)
                if self._bytes >= _MOST_BYTES:
                    return

    async def _open(self, session: aiohttp.ClientSession, rows: list[Any]) -> None:
        """The newest of ``rows`` of which the end is known."""
        row = next(
            (
                one
                for one in reversed(rows)
                if (one["receipt"] or one["refusal"]) and one["key"] not in self._decisions
            ),
            None,
        )
        if row is None or len(self._decisions) >= _MOST_OPENED:
            return
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            path = f"/console/decisions/{row['key']}"
            async with session.get(path, timeout=aiohttp.ClientTimeout(total=5.0)) as reply:
                if reply.status == 200:
                    body = await reply.read()
                    self._bytes += len(body)
                    self._decisions[row["key"]] = msgspec.json.decode(body)


async def _events(reply: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, bytes]]:
    """(name, data as JSON) of a stream of the console's, which has data in one line."""
    rest = b""
    async for chunk in reply.content.iter_any():
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            fields = dict(
                line.partition(b": ")[::2] for line in block.split(b"\n") if b": " in line
            )
            if b"event" in fields and b"data" in fields:
                yield fields[b"event"].decode(), fields[b"data"]


def tell_recording(console: Console, out: Path, problem: str) -> None:
    """Where it lies, or why there is none."""
    if problem:
        console.print(f"No recording of the console: {problem}", markup=False)
    else:
        text = f"The day in a browser, to be played again: {out / RECORDING}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)
