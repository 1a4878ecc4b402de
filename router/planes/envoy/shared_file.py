"""The file that Envoy's workers read tables from, count their requests in, and leave records in.

It outlives the process that writes it, as Envoy does: whoever comes next goes on in the same file.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.errors import EnvoyPlaneError
from router.planes.envoy.layout import (
    MAGIC,
    PROTOCOLS,
    EndpointCells,
    FileHead,
    RequestRecord,
    SeatCount,
    SightHead,
    TableHead,
    Text,
)
from router.planes.envoy.seats import EnvoyHost

# Records until they are overwritten: half a second at 16,000 requests a second, which leave two.
RECORDS: Final = 16_384
# Endpoints that may be there at once, with those that left within the longest request.
SEATS: Final = 16_384
# Of 10,000 endpoints of a few models; taken from memory only as it is used.
TABLE_BYTES: Final = 32 * 2**20
# Sights until they are overwritten, and bytes of each: of up to some 700 candidates.
SIGHTS: Final = 64
_SIGHT_BYTES: Final = 128 * 2**10
_LINE: Final = 64


def take_memory(path: Path, at: int, size: int) -> None:
    """Of a file that is mapped: what a full file system cannot give is an error here, and not a
    signal that ends whoever reads or writes there. Raises EnvoyPlaneError."""
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), at, size)
    except OSError as error:
        raise EnvoyPlaneError(
            f"{path}: no memory for {size // 2**20 + 1} MiB ({error.strerror}); in a "
            "container /dev/shm is 64 MiB unless it is given more"
        ) from error


class SharedFile:
    """One mapped file for ``seats`` endpoints."""

    def __init__(self, path: Path, seats: int = SEATS, table_bytes: int = TABLE_BYTES) -> None:
        """A new one, for tables of up to ``table_bytes``; what was there before is left to those
        who have it mapped. Raises EnvoyPlaneError where there is no memory for it."""
        self.path = path
        self._given: dict[int, int] = {}
        places = _Places(seats, table_bytes)
        path.unlink(missing_ok=True)
        with path.open("xb"):
            path.chmod(0o600)
        os.truncate(path, places.size)
        # All but tables, which are far smaller than they may grow.
        self._have(0, places.slots[0])
        self._map(path)
        head = self.head
        head.records, head.record_bytes = RECORDS, ctypes.sizeof(RequestRecord)
        head.records_at, head.seats, head.seats_at = places.records, seats, places.seats
        head.sights, head.sight_bytes, head.sights_at = SIGHTS, _SIGHT_BYTES, places.sights
        head.slot_bytes = places.slot_bytes
        head.slots_at[0], head.slots_at[1] = places.slots
        # Last: a file without it is none.
        head.magic = MAGIC
        self._read = 0
        self.lost = 0

    @classmethod
    def taken_over(cls, path: Path) -> SharedFile:
        """The file of a process before this one, whose Envoy still has it.

        Raises EnvoyPlaneError for what is none of this version.
        """
        self = cls.__new__(cls)
        self.path, self._given = path, {}
        try:
            self._map(path)
        except (OSError, ValueError) as error:
            raise EnvoyPlaneError(f"{path}: {error}") from error
        if self.head.magic != MAGIC or self.head.record_bytes != ctypes.sizeof(RequestRecord):
            raise EnvoyPlaneError(f"{path} is no table of this version")
        # As far back as there is anything: what runs still departed before.
        self._read = max(0, self.head.head - self.head.records)
        self.lost = 0
        return self

    def _map(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.head = FileHead.from_buffer(self._memory)

    @property
    def seats(self) -> ctypes.Array[SeatCount]:
        """Counts by seat, live: Envoy's workers change them."""
        kind: type[ctypes.Array[SeatCount]] = SeatCount * self.head.seats
        return kind.from_buffer(self._memory, self.head.seats_at)

    @property
    def in_flight(self) -> int:
        """Requests of all seats."""
        seats = self.seats
        return sum(seats[one].in_flight for one in range(self.head.used))

    @property
    def table(self) -> TableHead | None:
        """Of the newest; None before the first."""
        if not self.head.newest:
            return None
        return TableHead.from_buffer(self._memory, self.head.slots_at[self.head.newest & 1])

    def places(self) -> list[tuple[int, EnvoyHost]]:
        """Who has a seat by the newest table."""
        head = self.table
        if head is None:
            return []
        at = self.head.slots_at[self.head.newest & 1]
        cells = (EndpointCells * head.endpoints).from_buffer(self._memory, at + head.endpoints_at)

        def text(where: Text) -> str:
            return self._memory[at + where.at : at + where.at + where.length].decode()

        return [
            (seat, EnvoyHost(text(one.name), PROTOCOLS[one.is_http], text(one.address)))
            for seat, one in enumerate(cells)
            if one.name.length
        ]

    def publish(self, table: bytearray) -> None:
        """Put a whole table in force. Raises EnvoyPlaneError for one that is too large."""
        head, size = self.head, len(table)
        if size > head.slot_bytes:
            raise EnvoyPlaneError(
                f"the table has grown to {size} bytes, over the {head.slot_bytes} that it has room "
                "for: restart"
            )
        number = head.newest + 1
        at = head.slots_at[number & 1]
        self._have(at, size)
        slot = TableHead.from_buffer(self._memory, at)
        # Whoever reads this slot now sees that it changes.
        slot.begun = number
        behind = TableHead.bytes.offset
        self._memory[at + behind : at + size] = bytes(memoryview(table)[behind:])
        slot.done = number
        head.newest = number

    def records(self, at_most: int) -> Iterator[RequestRecord]:
        """Of what happened since the last time, in order. `lost` counts what was overwritten before
        it was read."""
        for _ in range(at_most):
            if self._read >= self.head.head:
                return
            if self.head.head - self._read > self.head.records:
                behind = self.head.head - self.head.records - self._read
                self.lost += behind
                self._read += behind
            record = self._record(self._read)
            if record is None:
                return
            self._read += 1
            self.head.taken = max(self.head.taken, self._read)
            if record.stamp:
                yield record

    def sight(self, number: int) -> tuple[str, NDArray[np.float64]] | None:
        """Of a record's ``sight``: the caller's own list of where it may run, and live columns
        (k.LIVE_ROWS, n). None of one that was overwritten, and of none."""
        if number <= 0:
            return None
        at = self.head.sights_at + (number - 1) % self.head.sights * self.head.sight_bytes
        head = SightHead.from_buffer_copy(self._memory, at)
        size = ctypes.sizeof(SightHead)
        values = k.LIVE_ROWS * head.n
        if head.stamp != number or size + 8 * values > self.head.sight_bytes:
            return None
        live = np.frombuffer(self._memory, np.float64, values, at + size).copy()
        if ctypes.c_uint64.from_buffer(self._memory, at).value != number:
            return None
        return head.residency.decode(errors="replace"), live.reshape(k.LIVE_ROWS, head.n)

    def _record(self, number: int) -> RequestRecord | None:
        """None of one that is still being written; without a stamp: of one that is lost."""
        at = self.head.records_at + number % self.head.records * ctypes.sizeof(RequestRecord)
        seen = ctypes.c_uint64.from_buffer(self._memory, at)
        if seen.value == number + 1:
            record = RequestRecord.from_buffer_copy(self._memory, at)
            if seen.value == number + 1 and record.stamp == number + 1:
                return record
        elif self.head.head - number < self.head.records // 2:
            return None
        # Its writer went before it was done, or it was overwritten.
        self.lost += 1
        return RequestRecord()

    def forget_requests(self) -> None:
        """Envoy has ended, and its requests and records with it: none is still being written."""
        self._read = self.head.taken = self.head.head
        seats = self.seats
        for one in range(self.head.seats):
            seats[one].in_flight = 0

    def _have(self, at: int, size: int) -> None:
        """As `take_memory`, once."""
        if self._given.get(at, 0) >= size:
            return
        take_memory(self.path, at, size)
        self._given[at] = size


class _Places:
    """Where everything lies."""

    def __init__(self, seats: int, table_bytes: int) -> None:
        self.slot_bytes = _whole(2 * table_bytes + 65_536)
        self.seats = _whole(ctypes.sizeof(FileHead))
        self.records = _whole(self.seats + seats * ctypes.sizeof(SeatCount))
        self.sights = _whole(self.records + RECORDS * ctypes.sizeof(RequestRecord))
        first = _whole(self.sights + SIGHTS * _SIGHT_BYTES)
        self.slots = (first, first + self.slot_bytes)
        self.size = first + 2 * self.slot_bytes


def _whole(size: int) -> int:
    return (size + _LINE - 1) // _LINE * _LINE
