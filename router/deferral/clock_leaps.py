"""Until when deadlines have passed for sure: a wall clock that leaps ahead is not believed at once.

What expired because of a clock that was wrong for a minute is gone. The machine's monotonic clock
says how much time has really passed; a wall clock that is ahead of it by minutes is followed only
when it has stood for an hour. What is due by it may begin meanwhile, and that is all.
"""

from __future__ import annotations

from typing import Final

import msgspec

# NTP moves a clock by less, but when it finds it wrong.
_LEAP_S: Final = 300.0
_STANDS_S: Final = 3600.0


class ClockMark(msgspec.Struct, frozen=True):
    """What was believed once. ``boot``: of the machine; ``ticks``: of its monotonic clock, s;
    ``wall``: unix s; ``leapt_at``: ticks at which the wall clock was first seen ahead, None where
    it is not."""

    boot: str
    ticks: float
    wall: float
    leapt_at: float | None = None


def believed(mark: ClockMark | None, boot: str, ticks: float, wall: float) -> ClockMark:
    """What is to be believed at ``ticks`` of a wall clock that says ``wall``; ``mark``: before."""
    if mark is None or mark.boot != boot or ticks < mark.ticks:
        return ClockMark(boot, ticks, wall)
    expected = mark.wall + ticks - mark.ticks
    if wall <= expected + _LEAP_S:
        return ClockMark(boot, ticks, wall)
    leapt_at = ticks if mark.leapt_at is None else mark.leapt_at
    if ticks - leapt_at >= _STANDS_S:
        return ClockMark(boot, ticks, wall)
    return ClockMark(boot, ticks, expected, leapt_at)
