"""One thread that has the database: what is asked of it meanwhile goes into one transaction.

Every commit waits for the disk (``synchronous=FULL``), some milliseconds; so a hundred calls that
come together wait once. Each is a savepoint of its own: one that fails takes back nothing of the
others.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

from router.deferral.blobs import disk_full
from router.errors import CarbonRouterError, DeferralFullError, DeferralStoreError

Found = TypeVar("Found")
Work = Callable[[sqlite3.Connection], Found]

# Calls of one transaction, at most.
_MOST_TOGETHER: Final = 256
# How long another process' transaction is waited for, s; one of ours takes less than a second.
_BUSY_S: Final = 20.0
_AGAIN_S: Final = 1.0
# What SQLite cannot write for want of room it calls one of these; a quota of the filesystem is an
# error of its input and output.
_FULL: Final = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE))
_PASSING: Final = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR))


class _Asked:
    __slots__ = ("changes", "frees", "future", "work")

    def __init__(self, work: Work[Any], changes: bool, frees: bool, future: Future[Any]) -> None:
        self.work = work
        self.changes = changes
        self.frees = frees
        self.future = future


class SqliteThread:
    """Opens, or makes, the database at ``path``. ``prepare``: run first of all, within a
    transaction.

    Raises DeferralStoreError where it cannot be used.
    """

    def __init__(
        self, path: Path, prepare: Work[None], make_room: Callable[[], bool] = lambda: False
    ) -> None:
        """``make_room``: frees some of a disk that is full, for what frees more; False where there
        is nothing left to."""
        self._path = path
        self._make_room = make_room
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, args=(prepare,), name="deferral queue", daemon=True
        )
        self._thread.start()
        self._opened.result()

    async def change(self, work: Work[Found]) -> Found:
        """``work`` with the database; its changes are on the disk when this returns.

        Raises what ``work`` does, DeferralFullError, and DeferralStoreError.
        """
        return await self._ask(work, True)

    async def free(self, work: Work[Found]) -> Found:
        """As `change`, of what makes room on the disk, or lets some be made: one that is full is
        no reason not to."""
        return await self._ask(work, True, True)

    async def read(self, work: Work[Found]) -> Found:
        """Likewise, of ``work`` that changes nothing."""
        return await self._ask(work, False)

    def close(self) -> None:
        """What was asked is done first."""
        if not self._closed:
            self._closed = True
            self._asked.put(None)
            self._thread.join()

    async def _ask(self, work: Work[Found], changes: bool, frees: bool = False) -> Found:
        if self._closed:
            raise DeferralStoreError("the queue is closed: this gateway is shutting down")
        future: Future[Found] = Future()
        self._asked.put(_Asked(work, changes, frees, future))
        # Whoever goes away while it waits takes nothing back: it is done, or was not.
        return await asyncio.shield(asyncio.wrap_future(future))

    def _run(self, prepare: Work[None]) -> None:
        try:
            database = self._open(prepare)
        except Exception as error:
            self._opened.set_exception(_told(error, self._path))
            return
        self._opened.set_result(None)
        ends = False
        while not ends:
            together, ends = self._next()
            if together:
                self._surely_do(database, together)
        database.close()

    def _open(self, prepare: Work[None]) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            # A commit that was told of is there after a power cut.
            database.execute("PRAGMA synchronous=FULL")
            database.execute("PRAGMA foreign_keys=OFF")
            database.execute("PRAGMA cache_size=-16384")
            database.execute("BEGIN IMMEDIATE")
            prepare(database)
            database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        return database

    def _next(self) -> tuple[list[_Asked], bool]:
        """What was asked, waiting for the first; and whether that was the last."""
        found: list[_Asked] = []
        one = self._asked.get()
        while one is not None:
            if one.future.set_running_or_notify_cancel():
                found.append(one)
            if len(found) == _MOST_TOGETHER:
                return found, False
            try:
                one = self._asked.get_nowait()
            except queue.Empty:
                return found, False
        return found, True

    def _surely_do(self, database: sqlite3.Connection, together: list[_Asked]) -> None:
        """Whatever becomes of the database, everybody is told: nobody would ever stop waiting."""
        try:
            self._do(database, together)
        except Exception as error:
            for asked in together:
                if not asked.future.done():
                    asked.future.set_exception(_told(error, self._path))

    def _do(self, database: sqlite3.Connection, together: list[_Asked]) -> None:
        ended: list[tuple[_Asked, Any, BaseException | None]] = []
        try:
            database.execute("BEGIN IMMEDIATE" if any(a.changes for a in together) else "BEGIN")
            for asked in together:
                ended.append((asked, *_one(database, asked.work)))
                full = isinstance(_told(ended[-1][2], self._path), DeferralFullError)
                if not database.in_transaction or (full and asked.frees):
                    # A full disk mostly ends all of it at once.
                    raise ended[-1][2] or sqlite3.OperationalError("the transaction ended")
            database.execute("COMMIT")
        except Exception as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if len(together) > 1:
                # One of them may have asked for too much: what each comes to is its own.
                for asked in together:
                    self._do(database, [asked])
                return
            told = _told(error, self._path)
            # Before anybody else takes it.
            if together[0].frees and isinstance(told, DeferralFullError) and self._make_room():
                self._do(database, together)
            else:
                together[0].future.set_exception(told)
            return
        for asked, found, failed in ended:
            if failed is None:
                asked.future.set_result(found)
            else:
                asked.future.set_exception(_told(failed, self._path))


def _one(database: sqlite3.Connection, work: Work[Any]) -> tuple[Any, BaseException | None]:
    """What ``work`` came to, and what it raised; then it has changed nothing."""
    database.execute("SAVEPOINT one")
    try:
        found = work(database)
    except Exception as error:
        if database.in_transaction:
            database.execute("ROLLBACK TO one")
            database.execute("RELEASE one")
        return None, error
    database.execute("RELEASE one")
    return found, None


def _told(error: BaseException | None, path: Path) -> BaseException | None:
    """In the terms of the error tree. The path is the operator's: it is in the log alone."""
    if isinstance(error, CarbonRouterError) or not isinstance(error, sqlite3.Error | OSError):
        return error
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _FULL:
        told: CarbonRouterError = disk_full()
    else:
        again = _AGAIN_S if code & 0xFF in _PASSING else None
        text = f"the queue of deferred work cannot be used just now ({error})"
        told = DeferralStoreError(text, again)
    told.__cause__ = error
    told.add_note(str(path))
    return told
