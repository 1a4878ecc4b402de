"""How a live run ends at the command line, whichever way it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from router.lab.loopback.children import ChildError

INTERRUPTED, TERMINATED = 130, 143
# Into a pipe or a file there is no edge to fit; 80 columns would cut the tables.
_PIPE_COLUMNS = 120

# What a failing run raises; `leaves` tells what went wrong.
FAILURES = (ChildError, TimeoutError, BaseExceptionGroup)


def open_console() -> Console:
    """The terminal, or a pipe wide enough for tables."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_COLUMNS)


def conclude(work: Callable[[], int], console: Console, what: str) -> int:
    """The exit code of ``work``; 1 when it failed, after telling why; 130 and 143 for signals."""
    try:
        return work()
    except FAILURES as failure:
        for error in leaves(failure):
            text = escape(str(error) or type(error).__name__)
            console.print(f"[red]{what} failed:[/red] {text}", highlight=False)
        return 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except asyncio.CancelledError:
        code = TERMINATED
    console.print("Interrupted; everything that had been started was stopped.")
    return code


def cancel_on_sigterm() -> None:
    """Have SIGTERM cancel the running task, so that everything is stopped in order."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def leaves(failure: BaseException) -> list[BaseException]:
    """The errors inside an exception group, or the one error."""
    if isinstance(failure, BaseExceptionGroup):
        return [leaf for inner in failure.exceptions for leaf in leaves(inner)]
    return [failure]
