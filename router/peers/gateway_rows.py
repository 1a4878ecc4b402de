"""What a gateway process tells all others of its load, as bytes: a head, and an entry an endpoint.

A row lists the endpoints where there is something to tell. Of all others it claims a part of their
places, which whoever reads it works out from the head. Numbers are little-endian; whatever a row
says is checked before it counts, and a row that fails is nobody's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntFlag, StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION: Final = 2
MAX_ENTRIES: Final = 20_000
# A configuration allows no more in flight to an endpoint.
_MAX_COUNT: Final = 1_000_000
# Of prompts, ms, and of cached tokens: beyond what any endpoint could have.
_MAX_SUM: Final = 1e12
_MAX_PARTS: Final = 4096
# Who says that it lives for longer would hold up all others as long.
_MAX_TTL_MS: Final = 120_000

# Magic, version, flags, process, group, seen, incarnation, beat, parts, ttl_ms, entries.
_HEAD: Final = struct.Struct("<2sBBQQQIIIII")
_MAGIC: Final = b"cr"

# ``cap``: 0 where any pace is tolerated. ``sent`` and ``paced`` are sums that never end, in
# sixteenths of a ms, and wrap.
ENTRY: Final = np.dtype(
    [
        ("key", "<u8"), ("in_flight", "<u4"), ("claim", "<u4"), ("cap_ms", "<f4"),
        ("pace_ms", "<f4"), ("pace_ms2", "<f4"), ("cached_tokens", "<f4"), ("prompts_ms", "<f4"),
        ("unread_ms", "<f4"), ("sent", "<u4"), ("paced", "<u4"), ("mark", "<u4"),
    ]
)  # fmt: skip
SUMS: Final = ("pace_ms", "pace_ms2", "cached_tokens", "prompts_ms", "unread_ms")
PER_MS: Final = 16.0

Entries = NDArray[np.void]


class Flag(IntFlag):
    """What a process says of itself. SETTLED: its claims are confirmed, and it has missed nobody
    for as long as a row lives; LEAVING: its row will go."""

    SETTLED = 1
    LEAVING = 2


class Mark(IntFlag):
    """What a process holds of an endpoint's health."""

    NONE = 0
    OUT = 1


class Defect(StrEnum):
    """Why a row is not used."""

    LENGTH = "length"
    VERSION = "version"
    VALUE = "value"


class RowHead(NamedTuple):
    """Who wrote a row. ``process``: of all that ever were; ``group``: of the workers of one
    gateway; ``seen``: by `digest_of`, the processes of its last reading; ``incarnation``: raised
    whenever it is in doubt which row of its was written last; ``beat``: raised with every row;
    ``parts``: of an endpoint that is not listed, ``max_in_flight`` over so many is claimed;
    ``ttl_ms``: how long the row lives.
    """

    process: int
    group: int
    seen: int
    incarnation: int
    beat: int
    parts: int
    flags: Flag
    ttl_ms: int = 1000


class PeerRow(NamedTuple):
    """One row, checked."""

    head: RowHead
    entries: Entries


def digest_of(processes: Iterable[int]) -> int:
    """64 bits that tell sets of processes apart, in whatever order."""
    digest = 0
    for process in processes:
        digest ^= process
    return digest


def encode(head: RowHead, entries: Entries) -> bytes:
    """The bytes of a row; ``entries``: of dtype ENTRY, at most MAX_ENTRIES, keys rising."""
    packed = _HEAD.pack(
        _MAGIC, VERSION, int(head.flags), head.process, head.group, head.seen, head.incarnation,
        head.beat & 0xFFFFFFFF, head.parts, head.ttl_ms, len(entries),
    )  # fmt: skip
    return packed + entries.tobytes()


def decode(row: bytes) -> PeerRow | Defect:
    """What a row says, or why it is not used."""
    if len(row) < _HEAD.size or row[:2] != _MAGIC:
        return Defect.LENGTH
    _, version, flags, process, group, seen, incarnation, beat, parts, ttl_ms, count = (
        _HEAD.unpack_from(row)
    )
    if version != VERSION:
        return Defect.VERSION
    if count > MAX_ENTRIES or len(row) != _HEAD.size + count * ENTRY.itemsize:
        return Defect.LENGTH
    if not 1 <= parts <= _MAX_PARTS or flags & ~int(Flag.SETTLED | Flag.LEAVING):
        return Defect.VALUE
    if not 1 <= ttl_ms <= _MAX_TTL_MS:
        return Defect.VALUE
    head = RowHead(process, group, seen, incarnation, beat, parts, Flag(flags), ttl_ms)
    return PeerRow(head, np.frombuffer(row, ENTRY, count, _HEAD.size))


def sound(entries: Entries) -> bool:
    """Whether every entry of a row, or of several, is one that a gateway may write."""
    if not len(entries):
        return True
    if max(int(entries["in_flight"].max()), int(entries["claim"].max())) > _MAX_COUNT:
        return False
    if int(entries["mark"].max()) > int(Mark.OUT):
        return False
    # NaN fails every comparison.
    return all(
        bool(((entries[name] >= 0.0) & (entries[name] <= _MAX_SUM)).all())
        for name in (*SUMS, "cap_ms")
    )


def read_rows(
    rows: Mapping[str, bytes], longest_s: float = _MAX_TTL_MS / 1e3
) -> tuple[list[PeerRow], list[Defect]]:
    """The rows of every process, of each the one written last, and why others are not used.
    ``longest_s``: how long any of them is taken to live."""
    longest_ms = int(longest_s * 1e3)
    found: dict[int, PeerRow] = {}
    defects: list[Defect] = []
    for row in rows.values():
        one = decode(row)
        if isinstance(one, Defect):
            defects.append(one)
            continue
        if one.head.ttl_ms > longest_ms:
            one = one._replace(head=one.head._replace(ttl_ms=longest_ms))
        before = found.get(one.head.process)
        if before is None or _age(one.head) > _age(before.head):
            found[one.head.process] = one
    peers = list(found.values())
    if not sound(joined(peers)) or any(_repeats(peer.entries) for peer in peers):
        # Seldom, so which of them it is may take its time.
        bad = [p for p in peers if not sound(p.entries) or _repeats(p.entries)]
        defects += [Defect.VALUE] * len(bad)
        peers = [p for p in peers if all(p is not one for one in bad)]
    return peers, defects


def joined(peers: Iterable[PeerRow]) -> Entries:
    """The entries of several rows, one after the other."""
    return np.concatenate([np.empty(0, ENTRY), *(peer.entries for peer in peers)])


def _age(head: RowHead) -> tuple[int, int]:
    return head.incarnation, head.beat


def _repeats(entries: Entries) -> bool:
    """Whether keys do not rise: an endpoint that is listed twice would count twice."""
    keys = entries["key"]
    return bool((keys[1:] <= keys[:-1]).any())
