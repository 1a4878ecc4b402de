"""The queue in a folder: `DeferredQueue` over one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from router.deferral.queue import ListPage
from router.deferral.sqlite import batches, files, jobs
from router.deferral.sqlite.reserve import Reserve
from router.deferral.sqlite.schema import prepare
from router.deferral.sqlite.thread import SqliteThread
from router.deferral.sqlite.workers import Worker, workers
from router.deferral.values import (
    BadLine,
    Batch,
    ClaimedBatch,
    ClaimedJob,
    JobKind,
    JobOutcome,
    LineError,
    NewJob,
    Quota,
    StoredFile,
    StoredLine,
)

DATABASE: Final = "queue.sqlite"
_RESERVE: Final = "reserve"
_WORKERS: Final = "workers"
_UNREAD: Final = "status = 'validating'"
_ENDED: Final = (
    "status IN ('in_progress', 'finalizing', 'cancelling') AND NOT EXISTS (SELECT 1 FROM kinds"
    " WHERE kinds.batch = batches.number AND (kinds.waiting > 0 OR kinds.under_way > 0))"
)


class SqliteQueue:
    """One process at it. See `router.deferral.queue.DeferredQueue`.

    Other processes of the machine may be at the same folder, which has to be on a disk of it: locks
    of a file that is reached over a network cannot be relied on.
    """

    def __init__(
        self, folder: Path, worker: str, lease_s: float, monotonic: Callable[[], float]
    ) -> None:
        """``worker``: this process, unlike any other that ever was; ``monotonic``: s, of all
        processes since the machine was started.

        Raises DeferralStoreError, OSError.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        self._reserve = Reserve(folder / _RESERVE)
        self._worker = Worker(folder / _WORKERS, worker, lease_s, monotonic)
        try:
            self._thread = SqliteThread(folder / DATABASE, prepare, self._reserve.give)
        except BaseException:
            self._worker.close()
            raise

    async def add_file(self, file: StoredFile, quota: Quota) -> None:
        """See `DeferredQueue`."""
        await self._thread.change(lambda database: files.add(database, file, quota))

    async def file(self, owner: str, file_id: str) -> StoredFile:
        """See `DeferredQueue`."""
        return await self._thread.read(lambda database: files.find(database, owner, file_id))

    async def files(self, owner: str, page: ListPage, purpose: str = "") -> list[StoredFile]:
        """See `DeferredQueue`."""
        return await self._thread.read(
            lambda database: files.listed(database, owner, page, purpose)
        )

    async def delete_file(self, owner: str, file_id: str) -> None:
        """See `DeferredQueue`."""
        await self._thread.free(lambda database: files.delete(database, owner, file_id))

    async def add_batch(self, batch: Batch, quota: Quota, file: StoredFile | None = None) -> None:
        """See `DeferredQueue`."""

        def add(database: sqlite3.Connection) -> None:
            if file is not None:
                files.add(database, file, quota)
            batches.add(database, batch, quota)

        await self._thread.change(add)

    async def batch(self, owner: str, batch_id: str) -> Batch:
        """See `DeferredQueue`."""
        return await self._thread.read(lambda database: batches.find(database, owner, batch_id))

    async def batches(self, owner: str, page: ListPage) -> list[Batch]:
        """See `DeferredQueue`."""
        return await self._thread.read(lambda database: batches.listed(database, owner, page))

    async def delete_batch(self, owner: str, batch_id: str) -> None:
        """See `DeferredQueue`."""
        await self._thread.free(lambda database: batches.delete(database, owner, batch_id))

    async def cancel(self, owner: str, batch_id: str, now: float) -> Batch:
        """See `DeferredQueue`."""
        return await self._thread.free(
            lambda database: batches.cancel(database, owner, batch_id, now)
        )

    async def beat(self) -> int:
        """See `DeferredQueue`."""
        return await self._thread.change(self._worker.beat)

    async def workers(self) -> int:
        """See `DeferredQueue`."""
        return await self._thread.read(workers)

    async def give_back(self) -> int:
        """See `DeferredQueue`."""
        name = self._worker.name
        return await self._thread.change(lambda database: jobs.take_from(database, name))

    async def claim_unread(self) -> ClaimedBatch | None:
        """See `DeferredQueue`."""
        return await self._claim_batch(_UNREAD)

    async def add_lines(
        self,
        claimed: ClaimedBatch,
        jobs_: Sequence[NewJob],
        bad: Sequence[BadLine],
        quota: Quota,
    ) -> bool:
        """See `DeferredQueue`."""
        return await self._thread.change(
            lambda database: jobs.add_lines(database, claimed, jobs_, bad, quota)
        )

    async def end_reading(
        self,
        claimed: ClaimedBatch,
        now: float,
        errors: Sequence[LineError],
        fails: bool,
        at_once: Mapping[str, str],
    ) -> bool:
        """See `DeferredQueue`."""
        return await self._thread.change(
            lambda database: batches.end_reading(database, claimed, now, errors, fails, at_once)
        )

    async def waiting(self) -> list[JobKind]:
        """See `DeferredQueue`."""
        return await self._thread.read(jobs.waiting)

    async def claim(self, wanted: Sequence[tuple[JobKind, int]], now: float) -> list[ClaimedJob]:
        """See `DeferredQueue`."""
        name = self._worker.name
        return await self._thread.change(lambda database: jobs.claim(database, name, wanted, now))

    async def under_way(self, batch_id: str) -> int:
        """See `DeferredQueue`."""
        return await self._thread.read(lambda database: jobs.under_way(database, batch_id))

    async def note_why(self, told: Sequence[tuple[JobKind, str]]) -> None:
        """See `DeferredQueue`."""
        await self._thread.change(lambda database: jobs.note_why(database, told))

    async def finish(self, job: ClaimedJob, outcome: JobOutcome) -> bool:
        """See `DeferredQueue`."""
        return await self._thread.change(lambda database: jobs.finish(database, job, outcome))

    async def put_back(self, job: ClaimedJob, not_before: float, is_failure: bool) -> bool:
        """See `DeferredQueue`."""
        return await self._thread.change(
            lambda database: jobs.put_back(database, job, not_before, is_failure)
        )

    async def held(self, claimed: Sequence[ClaimedJob]) -> set[int]:
        """See `DeferredQueue`."""
        return await self._thread.read(lambda database: jobs.held(database, claimed))

    async def expire(self, now: float) -> int:
        """See `DeferredQueue`."""
        if not await self._thread.read(lambda database: jobs.due(database, now)):
            return 0
        return await self._thread.change(lambda database: jobs.expire(database, now))

    async def claim_ended(self, now: float) -> ClaimedBatch | None:
        """See `DeferredQueue`."""
        claimed = await self._claim_batch(_ENDED)
        if claimed is None:
            return None
        found = claimed
        batch = await self._thread.change(
            lambda database: batches.begin_writing(database, found, now)
        )
        return claimed._replace(batch=batch)

    async def lines(
        self, claimed: ClaimedBatch, is_ok: bool, after: int, most: int
    ) -> list[StoredLine]:
        """See `DeferredQueue`."""
        return await self._thread.read(
            lambda database: jobs.lines(database, claimed, is_ok, after, most)
        )

    async def complete(
        self,
        claimed: ClaimedBatch,
        output: StoredFile | None,
        errors: StoredFile | None,
        now: float,
    ) -> bool:
        """See `DeferredQueue`."""

        def end(database: sqlite3.Connection) -> bool:
            expired = jobs.has_expired(database, claimed.batch.id)
            return batches.complete(database, claimed, output, errors, now, expired)

        return await self._thread.change(end)

    async def release(self, claimed: ClaimedBatch) -> None:
        """See `DeferredQueue`."""
        await self._thread.change(lambda database: batches.release(database, claimed))

    async def purge(self, now: float, keep_s: float) -> list[str]:
        """See `DeferredQueue`."""

        def forget(database: sqlite3.Connection) -> list[str]:
            batches.purge(database, now, keep_s)
            return files.purge(database, now)

        found = await self._thread.free(forget)
        await asyncio.to_thread(self._reserve.take)
        return found

    async def gone_files(self) -> list[str]:
        """See `DeferredQueue`."""
        return await self._thread.read(files.gone)

    async def forget_files(self, file_ids: Sequence[str]) -> None:
        """See `DeferredQueue`."""
        await self._thread.free(lambda database: files.forget(database, file_ids))

    async def known_files(self, file_ids: Sequence[str]) -> set[str]:
        """See `DeferredQueue`."""
        return await self._thread.read(lambda database: files.known(database, file_ids))

    async def counts(self) -> dict[str, int]:
        """See `DeferredQueue`."""
        return await self._thread.read(jobs.counts)

    async def close(self) -> None:
        """See `DeferredQueue`. Calling it twice does nothing."""
        try:
            await self._thread.change(self._worker.leave)
        finally:
            self._thread.close()
            self._worker.close()

    async def _claim_batch(self, wanted: str) -> ClaimedBatch | None:
        name = self._worker.name
        # Mostly there is none, and nobody has to wait for the disk to know it.
        if not await self._thread.read(lambda database: batches.any_to_claim(database, wanted)):
            return None
        return await self._thread.change(lambda database: batches.claim(database, name, wanted))
