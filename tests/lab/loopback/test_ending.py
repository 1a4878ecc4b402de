import asyncio
import os
import signal

import pytest
from rich.console import Console

from router.lab.loopback.children import ChildError
from router.lab.loopback.ending import INTERRUPTED, TERMINATED, cancel_on_sigterm, conclude


def ended(raised):
    """(exit code, what was printed) of work that raises."""
    console = Console(width=100, no_color=True)

    def work():
        raise raised

    with console.capture() as capture:
        code = conclude(work, console, "The show")
    return code, capture.get()


def test_what_ends_well_keeps_its_code():
    assert conclude(lambda: 3, Console(quiet=True), "The show") == 3


@pytest.mark.parametrize(
    "failure",
    [ChildError("gateway ended [1]"), ExceptionGroup("", [ChildError("gateway ended [1]")])],
)
def test_a_failure_is_told(failure):
    assert ended(failure) == (1, "The show failed: gateway ended [1]\n")


def test_a_failure_without_words_has_its_name():
    assert ended(TimeoutError()) == (1, "The show failed: TimeoutError\n")


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), INTERRUPTED), (asyncio.CancelledError(), TERMINATED)],
)
def test_signals_have_their_codes(raised, code):
    assert ended(raised)[0] == code and "Interrupted" in ended(raised)[1]


def test_a_defect_is_not_swallowed():
    with pytest.raises(KeyError):
        ended(KeyError("defect"))


def test_sigterm_cancels_the_work():
    async def work():
        cancel_on_sigterm()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert conclude(lambda: asyncio.run(work()), Console(quiet=True), "The show") == TERMINATED
