"""What is read of an endpoint all the time, and the same fit as `carbon-router calibrate` of it.

The fit runs in a process of its own (`python -m router.load.calibration.continuous`): a second of
arithmetic would hold up whoever serves beside it. Question and answer are MessagePack, on its
standard input and output.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from router.errors import DataError
from router.load.calibration.fit import CalibrationFit
from router.load.calibration.lag import fit_lagged
from router.load.calibration.series import EnergyReading

# At 10 s a reading: the last five hours and a half, and at most 12 lags of 5 s are tried.
MOST_READINGS: Final = 2048
_COMMAND: Final = (sys.executable, "-m", "router.load.calibration.continuous")
_LONGEST_S: Final = 120.0
_LEAST_PRIORITY: Final = 19
# Of the variation of joules, explained by the server's work: less steers nothing.
LEAST_R2: Final = 0.9
# A figure in force that lies so near what was found anew says the same.
_SAME: Final = 0.02


class FitQuestion(NamedTuple):
    """``least_s``: of a span."""

    readings: Sequence[EnergyReading]
    least_s: float


class FitAnswer(NamedTuple):
    """``fit`` None: ``why`` nothing can be told."""

    fit: CalibrationFit | None
    by_watts: bool
    why: str


class ReadingKeeper:
    """The last readings of one endpoint, and when their fit is due."""

    def __init__(self, refit_s: float, now: float) -> None:
        self.readings: deque[EnergyReading] = deque(maxlen=MOST_READINGS)
        self.due_at = now
        self.fit_at = now + refit_s


async def fit_apart(question: FitQuestion) -> FitAnswer:
    """In a child, at the lowest priority. Raises DataError where it does not answer."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise DataError(f"a fit cannot be started: {error}") from None
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _LEAST_PRIORITY)
    try:
        async with asyncio.timeout(_LONGEST_S):
            body, _ = await process.communicate(msgspec.msgpack.encode(question))
        return msgspec.msgpack.decode(body, type=FitAnswer)
    except TimeoutError:
        raise DataError(f"a fit took over {_LONGEST_S:g} s, and was ended") from None
    except msgspec.MsgspecError:
        raise DataError(f"a fit ended with code {process.returncode}") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def fitted(question: FitQuestion) -> FitAnswer:
    """What the child answers."""
    try:
        found = fit_lagged(question.readings, question.least_s)
    except DataError as error:
        return FitAnswer(None, False, str(error))
    return FitAnswer(found.fit, found.series.by_watts, "")


def why_not(answer: FitAnswer) -> str:
    """Why its figures are to steer nothing; "" where they may."""
    if answer.fit is None:
        return answer.why
    if answer.by_watts:
        return "the meter tells watts alone, which added up are an estimate"
    if not answer.fit.r2 >= LEAST_R2:
        return f"the server's work explains {100.0 * answer.fit.r2:.0f} % of the meter's joules"
    found = {one.key: one.value for one in answer.fit.figures if one.key and not one.why_not}
    idle_w = found.get("idle_w", math.nan)
    if found.get("base_w", math.inf) <= (1.0 + _SAME) * idle_w:
        return f"it draws no more at work than idle ({idle_w:.4g} W): the meter is another's"
    return ""


def says_the_same(fit: CalibrationFit, in_force: object) -> bool:
    """Whether each figure that was found is, within its interval, that of the profile in force."""
    for one in fit.figures:
        value = getattr(in_force, one.key, math.nan) if one.key and not one.why_not else math.nan
        if math.isnan(value):
            continue
        slack = _SAME * one.value
        if not one.low - slack <= value <= one.high + slack:
            return False
    return True


def main() -> int:
    """The child."""
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=FitQuestion)
    sys.stdout.buffer.write(msgspec.msgpack.encode(fitted(question)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
