"""Work that one process of all does: who holds the lease for it.

In a store that gateways share, for what is theirs together; on a folder, for what lies in it. Held
by this process's monotonic clock alone: who was stopped for longer than its lease holds it no more.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
from pathlib import Path
from typing import Final, Protocol

from router.contract import Clock, StateStore
from router.errors import StateStoreError

_LEASE_S: Final = 15.0
_RENEW_S: Final = 5.0
_TIMEOUT_S: Final = 1.0

_log = logging.getLogger(__name__)


class ProcessLease(Protocol):
    """Held by one process at a time, and no longer than that lives."""

    @property
    def is_held(self) -> bool:
        """As of this moment."""
        ...

    async def renew(self) -> bool:
        """Renew or seek it, unless that was just done; to be called every few seconds. False where
        another is known to hold it."""
        ...

    async def release(self) -> None:
        """Give it up, so that another has it at once."""
        ...


class StoreLease:
    """``token``: the fencing token of the last time that it came to be held, 0 for never."""

    def __init__(self, store: StateStore, name: str, holder: str, clock: Clock) -> None:
        """``holder``: unique to this process."""
        self.token = 0
        self._store = store
        self._name = name
        self._holder = holder
        self._clock = clock
        self._held_until = -math.inf
        self._asked_at = -math.inf

    @property
    def is_held(self) -> bool:
        """See `ProcessLease`."""
        return self._clock.monotonic() < self._held_until

    async def renew(self) -> bool:
        """See `ProcessLease`. A store that does not answer leaves it to end by itself."""
        ticks = self._clock.monotonic()
        if ticks - self._asked_at < _RENEW_S:
            return True
        self._asked_at = ticks
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                token = await self._store.acquire(
                    self._name, self._holder, _LEASE_S, self._clock.now()
                )
        except (StateStoreError, TimeoutError):
            return True
        self.token = token or self.token
        self._held_until = ticks + _LEASE_S if token else -math.inf
        return bool(token)

    async def release(self) -> None:
        """See `ProcessLease`."""
        if self._held_until == -math.inf:
            return
        self._held_until = -math.inf
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._store.release(self._name, self._holder)
        except (StateStoreError, TimeoutError) as error:
            _log.info("the lease %s ends by itself: %s", self._name, error)


class FolderLease:
    """A lock on a file, which the system takes back from whoever dies."""

    def __init__(self, path: Path) -> None:
        """``path``: of the file, which is made, and stays; its folder is made where it lacks."""
        self._path = path
        self._file = -1

    @property
    def is_held(self) -> bool:
        """See `ProcessLease`."""
        return self._file >= 0

    async def renew(self) -> bool:
        """See `ProcessLease`. Raises OSError where the file cannot be made."""
        # A disk that has stalled holds up nobody else.
        return await asyncio.to_thread(self._renew)

    async def release(self) -> None:
        """See `ProcessLease`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _renew(self) -> bool:
        if self._file >= 0:
            if self._is_there():
                return True
            # Who comes next would lock another file.
            os.close(self._file)
            self._file = -1
        self._path.parent.mkdir(exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except OSError:
            os.close(file)
            raise
        self._file = file
        return True

    def _is_there(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._file))


class SoleLease:
    """Of a process that shares nothing with another."""

    is_held = True

    async def renew(self) -> bool:
        """See `ProcessLease`."""
        return True

    async def release(self) -> None:
        """See `ProcessLease`."""
