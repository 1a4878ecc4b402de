"""What a process tells all others of principals' limits, as bytes: a head, and an entry each.

An entry is `router.core.limit_parts.LIMIT_ENTRY`, keys rising. Whatever a row says is checked
before it counts, and one that fails is nobody's: its process then counts as one that tells nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.limit_parts import AT_ONCE, LIMIT_ENTRY, MOST_LISTED, LimitEntries

_VERSION: Final = 1
_MAGIC: Final = b"cl"
# Magic, version, process, incarnation, beat, entries.
_HEAD: Final = struct.Struct("<2sHIQII")
LIMIT_ROW_BYTES: Final = _HEAD.size + MOST_LISTED * LIMIT_ENTRY.itemsize
# A configuration allows no more at once.
_MOST_AT_ONCE: Final = 1_000_000


class LimitRowHead(NamedTuple):
    """Who wrote a row. ``process``: of all that ever were; ``incarnation``: raised whenever it is
    in doubt which row of its was written last; ``beat``: raised with every row."""

    process: int
    incarnation: int = 0
    beat: int = 0


class LimitReading(NamedTuple):
    """What others tell: all their ``entries``, whose each is, and how many ``others`` there are."""

    entries: LimitEntries
    processes: NDArray[np.uint64]
    others: int


def encode_limits(head: LimitRowHead, entries: LimitEntries) -> bytes:
    """The bytes of a row; ``entries``: at most MOST_LISTED, keys rising."""
    packed = _HEAD.pack(
        _MAGIC, _VERSION, len(entries), head.process, head.incarnation, head.beat & 0xFFFFFFFF
    )
    return packed + entries.tobytes()


def decode_limits(row: bytes) -> tuple[LimitRowHead, LimitEntries] | None:
    """What a row says; None for one that is not used."""
    if len(row) < _HEAD.size:
        return None
    magic, version, count, process, incarnation, beat = _HEAD.unpack_from(row)
    sized = len(row) == _HEAD.size + count * LIMIT_ENTRY.itemsize
    if magic != _MAGIC or version != _VERSION or count > MOST_LISTED or not sized:
        return None
    entries = np.frombuffer(row, LIMIT_ENTRY, count, _HEAD.size)
    return (LimitRowHead(process, incarnation, beat), entries) if _sound(entries) else None


def read_limits(rows: Iterable[bytes], own: int) -> LimitReading:
    """The rows of every process but ``own``, of each the one written last."""
    found: dict[int, tuple[LimitRowHead, LimitEntries]] = {}
    for row in rows:
        one = decode_limits(row)
        if one is None or one[0].process == own:
            continue
        before = found.get(one[0].process)
        if before is None or one[0] > before[0]:
            found[one[0].process] = one
    entries = np.concatenate([np.empty(0, LIMIT_ENTRY), *(e for _, e in found.values())])
    counts = [len(e) for _, e in found.values()]
    processes = np.repeat(np.array(list(found), np.uint64), counts)
    return LimitReading(entries, processes, len(found))


def _sound(entries: LimitEntries) -> bool:
    """Whether every entry is one that a process may write. NaN fails every comparison."""
    keys = entries["key"]
    if (keys[1:] <= keys[:-1]).any():
        # A principal that is listed twice would count twice.
        return False
    told = np.concatenate((entries["demand"], entries["claim"]))
    rates, places = told[:, :AT_ONCE], told[:, AT_ONCE]
    # A share is rounded up a little.
    return bool(
        ((rates >= 0.0) & (rates <= 1.001)).all()
        and ((places >= 0.0) & (places <= _MOST_AT_ONCE)).all()
    )
