"""The file in which Envoy's workers find who calls, and count what principals use: the same layout
as source/known.h and source/limits.h, which a test compares.

What the gateway answered about a caller lies under the digest of what the call brought; workers ask
for what is not there, or is of an older generation. Rows of use are by principal.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from typing import Final, NamedTuple

from router.errors import EnvoyPlaneError
from router.planes.envoy.shared_file import take_memory

MAGIC: Final = 0x324E574F4E4B5243
WAYS: Final = 8
TEXT_BYTES: Final = 1792
# Of `KnownHead.asks`.
ASKS_WHO, ASKS_TENANTS = 1, 2
# 8,192 callers are known at a time, each some 2 KiB of memory once it was seen.
_SETS: Final = 1024
USES: Final = 4096
# As MAX_BUDGETS and the rest of source/shared.h.
MAX_BUDGETS: Final = 32
ACCOUNTS: Final = 16_384

_u32, _u64, _i64, _f8 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64, ctypes.c_double


class KnownHead(ctypes.Structure):
    """Of the whole file. ``looked_s``: when this process last looked whether what it answered
    still holds, monotonic."""

    _fields_ = (
        *((name, _u64) for name in (
            "magic", "sets", "entries_at", "uses", "uses_at", "generation", "asks", "entry_bytes",
            "accounts", "accounts_at",
        )),
        ("looked_s", _f8), ("unused", _u64 * 5),
    )  # fmt: skip


class KnownEntry(ctypes.Structure):
    """What a caller may. ``text``: tenant, origin and patterns of models, each with a zero."""

    _fields_ = (
        ("stamp", _u64), ("generation", _u64), ("digest", ctypes.c_ubyte * 32), ("until_s", _f8),
        ("residency", _i64), ("use", _i64), ("accounts", ctypes.c_int32 * MAX_BUDGETS),
        ("patterns", _u32), ("text_bytes", _u32),
        ("text", ctypes.c_ubyte * TEXT_BYTES),
    )  # fmt: skip


class UseCells(ctypes.Structure):
    """What one principal uses. Up to ``passed_at_once`` the gateway writes, then Envoy's workers;
    of buckets what is passed on takes, too."""

    _fields_ = (
        ("key", _u64), ("per_s", _f8), ("burst", _f8), ("tokens_per_min", _f8),
        *((name, _i64) for name in (
            "most_at_once", "owed_ns", "owed_at_ns", "passed_at_once", "requests_full_ns",
            "tokens_full_ns", "taken_ns", "at_once",
        )),
        *((name, _u64) for name in ("asked", "asked_tokens", "refused_at_once", "peak")),
    )  # fmt: skip


class AccountCells(ctypes.Structure):
    """What is left of one carbon budget for one name. All but ``claimed_ug`` the gateway writes."""

    _fields_ = (
        ("key", _u64), ("granted_ug", _i64), ("left_ug", _i64), ("left", _f8),
        ("claimed_ug", _i64), ("unused", _i64 * 3),
    )  # fmt: skip


class KnownCaller(NamedTuple):
    """``models``: patterns, empty for any. ``residency``: bits of where its requests may run.
    ``use``: its principal's row, -1 where that has no limits. ``until_s``: monotonic. ``accounts``:
    its tenant's rows by carbon budget, -1 for none."""

    tenant: str
    origin: str
    models: tuple[str, ...]
    residency: int
    use: int
    until_s: float
    accounts: tuple[int, ...] = ()

    @property
    def text(self) -> bytes:
        """As an entry has it."""
        return b"".join(one.encode() + b"\0" for one in (self.tenant, self.origin, *self.models))

    @property
    def fits(self) -> bool:
        """Whether there is room for all that it says."""
        return len(self.text) <= TEXT_BYTES


class KnownFile:
    """One mapped file, of which this process is the only one that writes entries."""

    def __init__(self, path: Path) -> None:
        """A new one; what was there before is left to those who have it mapped. Raises
        EnvoyPlaneError where there is no memory for it."""
        path.unlink(missing_ok=True)
        uses_at = ctypes.sizeof(KnownHead)
        accounts_at = uses_at + USES * ctypes.sizeof(UseCells)
        entries_at = accounts_at + ACCOUNTS * ctypes.sizeof(AccountCells)
        with path.open("xb") as file:
            path.chmod(0o600)
            file.truncate(entries_at + _SETS * WAYS * ctypes.sizeof(KnownEntry))
        take_memory(path, 0, entries_at)
        self._map(path)
        head = self.head
        head.sets, head.entries_at, head.uses, head.uses_at = _SETS, entries_at, USES, uses_at
        head.accounts, head.accounts_at = ACCOUNTS, accounts_at
        head.entry_bytes, head.generation = ctypes.sizeof(KnownEntry), 1
        # Last: a file without it is none.
        head.magic = MAGIC

    @classmethod
    def taken_over(cls, path: Path) -> KnownFile:
        """The file of a process before this one. Raises EnvoyPlaneError for what is none."""
        self = cls.__new__(cls)
        try:
            self._map(path)
        except (OSError, ValueError) as error:
            raise EnvoyPlaneError(f"{path}: {error}") from error
        head = self.head
        if head.magic != MAGIC or head.entry_bytes != ctypes.sizeof(KnownEntry):
            raise EnvoyPlaneError(f"{path} is no table of callers of this version")
        self.forget()
        return self

    def _map(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._path = path
        self._has_entries = False
        self.head = KnownHead.from_buffer(self._memory)
        kind: type[ctypes.Array[UseCells]] = UseCells * USES
        self.uses = kind.from_buffer(self._memory, ctypes.sizeof(KnownHead))
        accounts: type[ctypes.Array[AccountCells]] = AccountCells * ACCOUNTS
        at = ctypes.sizeof(KnownHead) + ctypes.sizeof(kind)
        self.accounts = accounts.from_buffer(self._memory, at)

    def require_entries(self) -> None:
        """Memory for all of them: strangers choose which ones are looked at. Raises
        EnvoyPlaneError."""
        if not self._has_entries:
            take_memory(self._path, 0, len(self._memory))
            self._has_entries = True

    def forget(self) -> None:
        """Whoever calls next is asked for."""
        self.head.generation += 1

    def put(self, digest: bytes, caller: KnownCaller, now_s: float) -> None:
        """Whoever brings ``digest`` is this one; ``now_s``: monotonic. Where all places are taken
        the one that holds the shortest is given up. Raises ValueError for what has no room."""
        if not caller.fits:
            raise ValueError("the caller's tenant, origin and models take too much room")
        entry = self._place(digest, now_s)
        text = caller.text
        entry.stamp += 1
        entry.digest[:] = digest
        entry.until_s, entry.residency, entry.use = caller.until_s, caller.residency, caller.use
        for place in range(MAX_BUDGETS):
            entry.accounts[place] = -1
        entry.accounts[: len(caller.accounts)] = caller.accounts
        entry.patterns, entry.text_bytes = len(caller.models), len(text)
        entry.text[: len(text)] = text
        entry.generation = self.head.generation
        entry.stamp += 1

    def _place(self, digest: bytes, now_s: float) -> KnownEntry:
        first = int.from_bytes(digest[:8], "little") % self.head.sets * WAYS
        size = ctypes.sizeof(KnownEntry)
        ways = [
            KnownEntry.from_buffer(self._memory, self.head.entries_at + (first + way) * size)
            for way in range(WAYS)
        ]
        for entry in ways:
            if bytes(entry.digest) == digest:
                return entry
        generation = self.head.generation
        for entry in ways:
            if entry.generation != generation or entry.until_s <= now_s:
                return entry
        # By turns of what is put there: of those that hold alike none goes before another.
        return min(ways, key=lambda entry: (entry.until_s, entry.stamp))
