"""The file in which Envoy's workers find the keys of servers: the same layout as
source/keys/keys.h, which a test compares.

It lies in the run's folder, in memory, which this user alone may read, as the private keys of
certificates do; nothing of it is in Envoy's configuration, and so in none of its admin pages.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from router.errors import EnvoyPlaneError

MAGIC: Final = 0x3153594543425243
KEYS: Final = "table.keys"
# What stands for the address of the gateway's own process; as in source/keys/filter.c.
NATIVE: Final = "native"
# Sparse: 16,000 endpoints with keys of 1 KiB.
_ROOM: Final = 16 * 2**20


class KeysHead(ctypes.Structure):
    """Of the whole file. ``begun``, ``done``: as of a table."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in (
        "magic", "room", "begun", "done", "bytes",
    ))  # fmt: skip


class KeysFile:
    """One mapped file, which this process alone writes."""

    def __init__(self, path: Path) -> None:
        """That of a process before this one where it has left one, whose Envoy has it mapped."""
        size = ctypes.sizeof(KeysHead) + _ROOM
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)
        self._path = path
        self._written: bytes | None = None
        self.head = KeysHead.from_buffer(self._memory)
        self.head.room = _ROOM
        # Last: a file without it is none.
        self.head.magic = MAGIC

    def write(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """From now on these: address as Envoy writes it, header and its value. Raises
        EnvoyPlaneError for more than there is room for."""
        lines = sorted(tuple(part.encode() for part in one) for one in keys)
        texts = b"".join(part + b"\0" for line in lines for part in line)
        if texts == self._written:
            return
        at = ctypes.sizeof(KeysHead)
        if len(texts) > _ROOM:
            raise EnvoyPlaneError(f"the keys of endpoints take {len(texts)} bytes, over {_ROOM}")
        try:
            # What a full file system cannot give is an error here, and no signal.
            with self._path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, at + len(texts) + 1)
        except OSError as error:
            raise EnvoyPlaneError(f"{self._path}: {error.strerror}") from error
        head = self.head
        number = max(head.begun, head.done) + 1
        # Whoever copies it now sees that it changes.
        head.begun = number
        head.bytes = len(texts)
        self._memory[at : at + len(texts)] = texts
        head.done = number
        self._written = texts
