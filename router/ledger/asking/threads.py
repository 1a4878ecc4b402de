"""Reading beside the event loop: a few threads, each bounded in time for who waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from router.errors import ReceiptsUnreachableError

# At one time, of a process: reading decodes on a core of its own.
MOST_READING: Final = 2
_MOST_WAITING: Final = 32
_AGAIN_S: Final = 1.0

_Value = TypeVar("_Value")


class ReadingThreads:
    """Runs what blocks. A thread that does not come back keeps its place, and nobody waits for it,
    not even the end of the process."""

    def __init__(self, most: int = MOST_READING) -> None:
        self._room = asyncio.Semaphore(most)
        self._waiting = 0

    async def run(self, work: Callable[[], _Value], within_s: float) -> _Value:
        """What ``work`` gives, or raises.

        Raises ReceiptsUnreachableError where it takes longer, or too many wait already.
        """
        if self._waiting >= _MOST_WAITING:
            raise _busy("too many are asking the ledger")
        self._waiting += 1
        try:
            async with asyncio.timeout(within_s):
                await self._room.acquire()
                return await self._begin(work)
        except TimeoutError:
            raise _busy("the ledger did not answer in time") from None
        finally:
            self._waiting -= 1

    def _begin(self, work: Callable[[], _Value]) -> asyncio.Future[_Value]:
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[_Value] = loop.create_future()

        def ended(value: _Value | None, error: BaseException | None) -> None:
            self._room.release()
            if asked.done():
                return
            if error is not None:
                asked.set_exception(error)
            else:
                asked.set_result(value)  # type: ignore[arg-type]

        def read() -> None:
            value, failure = None, None
            try:
                value = work()
            except BaseException as error:
                failure = error
            try:
                loop.call_soon_threadsafe(ended, value, failure)
            except RuntimeError:
                # The loop is closed: the process ends.
                return

        try:
            threading.Thread(target=read, name="ledger reading", daemon=True).start()
        except RuntimeError:
            # The system has none left; without this the place would be gone for good.
            self._room.release()
            raise _busy("no thread can be started to read the ledger") from None
        return asked


def _busy(why: str) -> ReceiptsUnreachableError:
    return ReceiptsUnreachableError(f"{why}: what is asked for may be there; ask again", _AGAIN_S)
