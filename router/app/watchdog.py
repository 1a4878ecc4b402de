"""Ends a process whose event loop stands still.

A loop that is stuck in Python or in compiled code answers nothing, not even SIGTERM. faulthandler
waits in a thread of its own that needs no interpreter: it writes every thread's stack to stderr and
ends the process with code 1, for a parent or a supervisor to start another. A pause of the whole
process (SIGSTOP, a frozen container) that is longer counts as well.
"""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Callable
from typing import Final

from router.config.settings import ServerSettings

BEAT_S: Final = 0.5
_STDERR: Final = 2
_WORKER_S: Final = 5.0
_ALONE_S: Final = 30.0


def frozen_after_s(settings: ServerSettings, workers: int) -> float:
    """How long an event loop may stand still before it is taken for frozen."""
    if settings.frozen_after_s is not None:
        return settings.frozen_after_s
    return _WORKER_S if workers > 1 else _ALONE_S


async def beat_for_ever(limit_s: float, beat: Callable[[], None]) -> None:
    """Call ``beat`` each half second; end the process if that fails for ``limit_s``."""
    try:
        while True:
            faulthandler.dump_traceback_later(limit_s, exit=True, file=_STDERR)
            beat()
            await asyncio.sleep(BEAT_S)
    finally:
        faulthandler.cancel_dump_traceback_later()
