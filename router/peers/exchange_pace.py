"""How often a process exchanges rows with all others, by the bytes that an exchange moves.

Everybody reads everybody, so bytes grow with the square of the processes. What one process moves,
and what all move together, is bounded: the rest between two exchanges stretches, and rows live as
much longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

# Between two exchanges of a process with nothing to hurry for, s.
PERIOD_S: Final = 0.075
LEAST_TTL_S: Final = 1.0
MOST_TTL_S: Final = 120.0
# What one process may move on average; more than so many processes share what as many may. Together
# that is 256 MiB/s, a quarter to a half of what one core of a server hands out.
PROCESS_BYTES_PER_S: Final = 4.0 * 2**20
FULL_SHARES: Final = 64
# Two exchanges are so far apart at least, and so many times what one takes of the event loop.
_LEAST_GAP_S: Final = 0.02
_GAP_PER_WORK: Final = 50.0
_LONGEST_GAP_FOR_WORK_S: Final = 0.1
# The least that a configuration lets a process move, and how much smaller a fleet may have become
# since its rows were written.
_LEAST_BYTES_PER_S: Final = 0.25 * 2**20
_SHRUNK: Final = 4.0
# So many exchanges fall in a row's life: one that is lost costs nobody a claim.
_PER_TTL: Final = 4.0


class ExchangePace(NamedTuple):
    """``gap_s``: until the next exchange at the earliest, whoever hurries; ``period_s``: on
    average; ``ttl_s``: how long the next row has to live."""

    gap_s: float
    period_s: float
    ttl_s: float


def pace_of(
    exchanged_bytes: int,
    members: int,
    worked_s: float,
    ttl_s: float = LEAST_TTL_S,
    most_bytes_per_s: float = PROCESS_BYTES_PER_S,
) -> ExchangePace:
    """After an exchange of so many bytes, written and read, among ``members`` processes, which took
    ``worked_s`` of the event loop; ``ttl_s``: how long the row lives that it wrote;
    ``most_bytes_per_s``: of one process."""
    bytes_per_s = most_bytes_per_s * min(1.0, FULL_SHARES / max(1, members))
    moved_s = min(exchanged_bytes / bytes_per_s, MOST_TTL_S / _PER_TTL)
    work_s = min(max(_LEAST_GAP_S, _GAP_PER_WORK * worked_s), _LONGEST_GAP_FOR_WORK_S)
    # Not before a row is written that lives as long.
    gap_s = min(max(work_s, moved_s), ttl_s / _PER_TTL)
    return ExchangePace(gap_s, max(PERIOD_S, gap_s), max(LEAST_TTL_S, _PER_TTL * moved_s))


def longest_life_s(rows: Mapping[str, bytes]) -> float:
    """For how long a row of a room may live, s: of one that says more, nobody would have a reason
    to."""
    moved = sum(map(len, rows.values()))
    pace = pace_of(moved, len(rows), 0.0, most_bytes_per_s=_LEAST_BYTES_PER_S)
    return min(_SHRUNK * pace.ttl_s, MOST_TTL_S)
