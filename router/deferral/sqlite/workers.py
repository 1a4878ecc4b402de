"""Which processes drain the queue, and which of them are no more.

Each holds a lock on a file of its own, which the kernel lets go when it ends, however it ends; and
says now and then until when it is to be believed, on a clock that all processes of a machine share
and nobody sets: one that hangs holds its lock as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from router.deferral.sqlite.jobs import take_from

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Other after each start of the machine; "" where that cannot be told."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def workers(database: sqlite3.Connection) -> int:
    """How many there are, one at least."""
    (count,) = database.execute("SELECT count(*) FROM workers").fetchone()
    return max(1, int(count))


class Worker:
    """This process among those at one queue. ``name``: unlike any other's that ever was."""

    def __init__(
        self, folder: Path, name: str, lease_s: float, monotonic: Callable[[], float]
    ) -> None:
        """``monotonic``: s, of all processes since the machine was started. Raises OSError."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self.name = name
        self._folder = folder
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._boot = boot_id()
        self._lock: int | None = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def beat(self, database: sqlite3.Connection) -> int:
        """It lives; what others that do not had claimed waits again. How much that is."""
        now = self._monotonic()
        database.execute(
            "INSERT INTO workers (name, boot, until) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET boot = excluded.boot, until = excluded.until",
            (self.name, self._boot, now + self._lease_s),
        )
        taken = 0
        others = database.execute("SELECT name, boot, until FROM workers WHERE name != ?",
                                  (self.name,)).fetchall()  # fmt: skip
        for name, boot, until in others:
            if boot == self._boot and until > now and not self._has_ended(name):
                continue
            taken += take_from(database, name)
            database.execute("DELETE FROM workers WHERE name = ?", (name,))
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
        return taken

    def leave(self, database: sqlite3.Connection) -> None:
        """What it had claimed waits again."""
        take_from(database, self.name)
        database.execute("DELETE FROM workers WHERE name = ?", (self.name,))

    def close(self) -> None:
        """Calling it twice does nothing."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self._folder / self.name).unlink()
            os.close(self._lock)
            self._lock = None

    def _has_ended(self, name: str) -> bool:
        try:
            lock = os.open(self._folder / name, os.O_RDWR)
        except OSError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(lock)
        return True
