"""Where sequences live, in a table that all workers of a gateway read and write without waiting.

An entry is 32 bytes: which sequence, which endpoint, when it was used last, and a check over the
three. Two writers at once may leave a mixture, which the check tells from an entry; who wrote looks
whether it stands, and writes again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from router.contract import Clock
from router.peers.rows import name_key

_ENTRY: Final = struct.Struct("<4Q")
_WAYS: Final = 8
_WRITES: Final = 4
_CHECK: Final = 0x9E3779B97F4A7C15
_EXPIRES_NS: Final = 3_600_000_000_000
# No endpoint is called so: a sequence whose endpoint is not of this fleet cannot go on.
_GONE: Final = "\0gone"


def pins_nbytes(sequences: int) -> int:
    """Bytes for a table of at least so many sequences."""
    return -(-sequences // _WAYS) * _WAYS * _ENTRY.size


class SharedPins:
    """``contract.SequencePins`` over memory of `pins_nbytes`; a pin unused for an hour expires.

    A sequence's entry is one of eight places; when all are taken the one unused longest makes way.
    """

    def __init__(self, buffer: memoryview | bytearray, clock: Clock) -> None:
        self._buffer = buffer
        self._buckets = len(buffer) // (_WAYS * _ENTRY.size)
        self._clock = clock
        self._names: dict[int, str] = {}

    def know(self, endpoints: Iterable[str]) -> None:
        """The endpoints of the fleet in force."""
        self._names = {name_key(name): name for name in endpoints}

    def find(self, model: str, sequence_id: str) -> str:
        """The endpoint that holds a sequence; "" when none does, and no name of this fleet when it
        is an endpoint that this process does not know."""
        key = name_key(model, sequence_id)
        for _, there, endpoint, _ in self._live(key):
            if there == key:
                return self._names.get(endpoint, _GONE)
        return ""

    def keep(self, model: str, sequence_id: str, endpoint: str) -> None:
        """From now on ``endpoint`` holds the sequence."""
        key, held_by = name_key(model, sequence_id), name_key(endpoint)
        for _ in range(_WRITES):
            at = self._place(key)
            self._write(at, key, held_by)
            if self._read(at)[:2] == (key, held_by):
                return

    def drop(self, model: str, sequence_id: str) -> None:
        """Nobody holds the sequence any more; begun anew, it is free to move."""
        key = name_key(model, sequence_id)
        for at, there, _, _ in self._live(key):
            if there == key:
                _ENTRY.pack_into(self._buffer, at, 0, 0, 0, 0)

    def _place(self, key: int) -> int:
        """Where the entry of ``key`` is or goes: its own, a free one, or that unused longest."""
        live = list(self._live(key))
        taken = {at for at, *_ in live}
        own = [at for at, there, *_ in live if there == key]
        free = [at for at in self._bucket(key) if at not in taken]
        return (own or free or [min(live, key=lambda entry: entry[3])[0]])[0]

    def _live(self, key: int) -> Iterator[tuple[int, int, int, int]]:
        """(where, key, endpoint, used at) of what stands in the bucket of ``key``."""
        now = self._now_ns()
        for at in self._bucket(key):
            there, endpoint, used_at = self._read(at)
            if there and now - used_at < _EXPIRES_NS:
                yield at, there, endpoint, used_at

    def _bucket(self, key: int) -> range:
        first = key % self._buckets * _WAYS * _ENTRY.size
        return range(first, first + _WAYS * _ENTRY.size, _ENTRY.size)

    def _read(self, at: int) -> tuple[int, int, int]:
        """(key, endpoint, used at) of an entry; key 0 when it is none, or a mixture."""
        key, endpoint, used_at, check = _ENTRY.unpack_from(self._buffer, at)
        return (key, endpoint, used_at) if check == _mixed(key, endpoint, used_at) else (0, 0, 0)

    def _write(self, at: int, key: int, endpoint: int) -> None:
        used_at = self._now_ns()
        entry = (key, endpoint, used_at, _mixed(key, endpoint, used_at))
        _ENTRY.pack_into(self._buffer, at, *entry)

    def _now_ns(self) -> int:
        # The monotonic clock of a host is one for all its processes.
        return int(self._clock.monotonic() * 1e9)


def _mixed(key: int, endpoint: int, used_at: int) -> int:
    """A check that a mixture of two entries does not meet but by a chance of 2^-64."""
    digest = _CHECK
    for part in (key, endpoint, used_at):
        digest = (digest ^ part) * 0xFF51AFD7ED558CCD & 0xFFFFFFFFFFFFFFFF
        digest ^= digest >> 32
    return digest
