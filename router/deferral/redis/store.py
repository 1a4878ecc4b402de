"""The queue in Redis: `DeferredQueue` of any number of gateways, each change of it one script."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from router.deferral import refusals
from router.deferral.queue import ListPage
from router.deferral.redis import batch_scripts, job_scripts
from router.deferral.redis.calls import RedisCalls, Scripts
from router.deferral.redis.kinds import KnownKinds
from router.deferral.redis.rows import batch_of, file_of, file_row, kept_line, line_of, terms_bytes
from router.deferral.values import (
    CANCELLED,
    EXPIRED,
    MOST_WAIT_S,
    BadLine,
    Batch,
    BatchStatus,
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
from router.errors import DeferralStoreError

# Rows of one answer: of more the server, and this process' other calls, would be held up.
_PIECE: Final = 500
_MOST_PURGED: Final = 1000
_MS: Final = 1e3
# By (line << this) the number of a batch is one of its jobs.
_LINE_BITS: Final = 32


class RedisQueue:
    """One process at it. See `router.deferral.queue.DeferredQueue`.

    What is there when a call returns is as durable as the server makes it. Leases are on the
    server's clock, by which alone processes are believed or not.
    """

    def __init__(
        self, calls: RedisCalls, prefix: str, folder: str, worker: str, lease_s: float
    ) -> None:
        """``folder``: the name of the one with the files, which all have to have together;
        ``worker``: this process, unlike any other that ever was."""
        self._scripts = Scripts(calls, prefix, folder)
        self._worker = worker
        self._lease_ms = int(lease_s * _MS)
        self._kinds = KnownKinds(self._scripts)
        # What was claimed and has not ended, as `GIVE_BACK` names it.
        self._mine: set[str] = set()
        # Refused at last, and there perhaps all the same: (owner, id).
        self._unsure_files: set[tuple[str, str]] = set()
        self._unsure_batches: set[tuple[str, str]] = set()
        self._workers = 1

    async def add_file(self, file: StoredFile, quota: Quota) -> None:
        """See `DeferredQueue`."""
        try:
            told = await self._scripts.surely(
                batch_scripts.ADD_FILE, *file_row(file), quota.max_bytes
            )
        except BaseException:
            self._unsure_files.add((file.owner, file.id))
            raise
        _check(told, quota, file_id=file.id)

    async def file(self, owner: str, file_id: str) -> StoredFile:
        """See `DeferredQueue`."""
        told = await self._scripts.run(batch_scripts.FILE, owner, file_id)
        return file_of(file_id, _check(told, file_id=file_id))

    async def files(self, owner: str, page: ListPage, purpose: str = "") -> list[StoredFile]:
        """See `DeferredQueue`."""
        found: list[StoredFile] = []
        after, order = page.after, "1" if page.is_ascending else "0"
        while len(found) < page.most:
            most = min(_PIECE, page.most - len(found))
            told = await self._scripts.run(batch_scripts.FILES, owner, after, purpose, order, most)
            rows = _check(told, file_id=after)
            found += [file_of(name.decode(), row) for name, *row in rows]
            if len(rows) < most:
                break
            after = found[-1].id
        return found

    async def delete_file(self, owner: str, file_id: str) -> None:
        """See `DeferredQueue`."""
        told = await self._scripts.run(batch_scripts.DELETE_FILE, owner, file_id)
        _check(told, file_id=file_id)

    async def add_batch(self, batch: Batch, quota: Quota, file: StoredFile | None = None) -> None:
        """See `DeferredQueue`."""
        try:
            told = await self._scripts.surely_together(
                batch_scripts.ADD_BATCH, batch.id, batch.owner, str(batch.status),
                terms_bytes(batch.terms), batch.terms.input_file_id, batch.created_at,
                batch.expires_at, quota.max_jobs, quota.max_batches, quota.max_bytes,
                *(() if file is None else file_row(file)),
            )  # fmt: skip
        except BaseException:
            self._unsure_batches.add((batch.owner, batch.id))
            if file is not None:
                self._unsure_files.add((file.owner, file.id))
            raise
        _check(told, quota, file_id=batch.terms.input_file_id)

    async def batch(self, owner: str, batch_id: str) -> Batch:
        """See `DeferredQueue`."""
        told = await self._scripts.run(batch_scripts.BATCH, owner, batch_id)
        return batch_of(batch_id, _check(told, batch_id=batch_id))[0]

    async def batches(self, owner: str, page: ListPage) -> list[Batch]:
        """See `DeferredQueue`."""
        order = "1" if page.is_ascending else "0"
        told = await self._scripts.run(
            batch_scripts.BATCHES, owner, page.after, page.most, order, page.family
        )
        rows = _check(told, batch_id=page.after)
        return [batch_of(name.decode(), row)[0] for name, row in rows]

    async def delete_batch(self, owner: str, batch_id: str) -> None:
        """See `DeferredQueue`."""
        told = await self._scripts.run(batch_scripts.DELETE_BATCH, owner, batch_id)
        _check(told, batch_id=batch_id)

    async def cancel(self, owner: str, batch_id: str, now: float) -> Batch:
        """See `DeferredQueue`."""
        told = await self._scripts.surely(batch_scripts.CANCEL, owner, batch_id, now, CANCELLED)
        return batch_of(batch_id, _check(told, batch_id=batch_id))[0]

    async def beat(self) -> int:
        """See `DeferredQueue`."""
        if self._scripts.is_unsure:
            await self._make_sure()
        taken, workers, _ = await self._scripts.run(job_scripts.BEAT, self._worker, self._lease_ms)
        self._workers = max(1, int(workers))
        return int(taken)

    async def workers(self) -> int:
        """See `DeferredQueue`: as of the last `beat`."""
        return self._workers

    async def give_back(self) -> int:
        """See `DeferredQueue`."""
        self._mine.clear()
        return int(await self._scripts.run(job_scripts.GIVE_BACK, self._worker))

    async def claim_unread(self) -> ClaimedBatch | None:
        """See `DeferredQueue`."""
        return await self._claim_batch("unread", 0.0)

    async def add_lines(
        self,
        claimed: ClaimedBatch,
        jobs: Sequence[NewJob],
        bad: Sequence[BadLine],
        quota: Quota,
    ) -> bool:
        """See `DeferredQueue`."""
        sent: list[str | bytes | float] = []
        for one in bad:
            document = msgspec.json.encode(one)
            sent += (one.line, kept_line(False, "", one.error.code, document))
        for job in jobs:
            sent += (job.line, job.offset, job.size_bytes, job.custom_id, job.model, job.body_bytes)
        told = await self._scripts.run(
            job_scripts.ADD_LINES, claimed.batch.id, claimed.fence, quota.max_jobs, len(bad), *sent
        )
        return bool(_check(told, quota))

    async def end_reading(
        self,
        claimed: ClaimedBatch,
        now: float,
        errors: Sequence[LineError],
        fails: bool,
        at_once: Mapping[str, str],
    ) -> bool:
        """See `DeferredQueue`."""
        known = [text for pair in at_once.items() for text in pair]
        done = await self._scripts.run(
            batch_scripts.END_READING, claimed.batch.id, claimed.fence, now,
            msgspec.json.encode(errors) if errors else b"", "1" if fails else "0", *known,
        )  # fmt: skip
        self._mine.discard(claimed.batch.id)
        return bool(done)

    async def waiting(self) -> list[JobKind]:
        """See `DeferredQueue`."""
        return await self._kinds.waiting()

    async def claim(self, wanted: Sequence[tuple[JobKind, int]], now: float) -> list[ClaimedJob]:
        """See `DeferredQueue`."""
        asked: list[str | float] = []
        for kind, most in wanted:
            asked += (kind.batch_id, kind.model, max(0, most))
        rows = await self._scripts.run(
            job_scripts.CLAIM, self._worker, now, f"({now + 2.0 * MOST_WAIT_S!r}", *asked
        )
        found = []
        for row in rows:
            batch_id, model, line, fence, offset, size, custom_id, tries = row
            known = await self._kinds.known(batch_id.decode(), model.decode())
            if known is None:
                # Its batch ended meanwhile: nobody waits for it.
                continue
            found.append(ClaimedJob(
                known.number << _LINE_BITS | int(line), int(fence), known.batch_id, known.terms,
                int(line), int(offset), int(size), custom_id.decode(), known.model, int(tries),
                known.queued_at, known.deadline, known.at_once,
            ))  # fmt: skip
        self._mine.update(map(_name, found))
        return sorted(found, key=lambda job: job.number)

    async def under_way(self, batch_id: str) -> int:
        """See `DeferredQueue`."""
        return int(await self._scripts.run(job_scripts.UNDER_WAY, batch_id))

    async def note_why(self, told: Sequence[tuple[JobKind, str]]) -> None:
        """See `DeferredQueue`."""
        for start in range(0, len(told), _PIECE):
            sent: list[str] = []
            for kind, why in told[start : start + _PIECE]:
                sent += (kind.batch_id, kind.model, why)
            await self._scripts.run(job_scripts.NOTE_WHY, *sent)

    async def finish(self, job: ClaimedJob, outcome: JobOutcome) -> bool:
        """See `DeferredQueue`."""
        kept = kept_line(outcome.is_ok, job.custom_id, "", outcome.document)
        done = await self._scripts.run(
            job_scripts.FINISH, job.batch_id, job.model, job.line, job.fence, self._worker,
            "1" if outcome.is_ok else "0", kept, *outcome.sums,
        )  # fmt: skip
        self._mine.discard(_name(job))
        return bool(done)

    async def put_back(self, job: ClaimedJob, not_before: float, is_failure: bool) -> bool:
        """See `DeferredQueue`."""
        done = await self._scripts.run(
            job_scripts.PUT_BACK, job.batch_id, job.model, job.line, job.fence, self._worker,
            not_before, "1" if is_failure else "0",
        )  # fmt: skip
        self._mine.discard(_name(job))
        return bool(done)

    async def held(self, claimed: Sequence[ClaimedJob]) -> set[int]:
        """See `DeferredQueue`."""
        if not claimed:
            return set()
        asked: list[str | float] = []
        for job in claimed:
            asked += (job.batch_id, job.model, job.line, job.fence)
        told = await self._scripts.run(job_scripts.HELD, self._worker, *asked)
        return {job.number for job, has in zip(claimed, told, strict=True) if int(has)}

    async def expire(self, now: float) -> int:
        """See `DeferredQueue`."""
        return int(await self._scripts.run(job_scripts.EXPIRE, now, EXPIRED))

    async def claim_ended(self, now: float) -> ClaimedBatch | None:
        """See `DeferredQueue`."""
        return await self._claim_batch("done", now)

    async def lines(
        self, claimed: ClaimedBatch, is_ok: bool, after: int, most: int
    ) -> list[StoredLine]:
        """See `DeferredQueue`."""
        found: list[StoredLine] = []
        while len(found) < most:
            last = after + _PIECE
            read, code, ended, others = await self._scripts.run(
                job_scripts.LINES, claimed.batch.id, after + 1, last
            )
            lines = [
                line_of(int(line), raw) for line, raw in zip(ended[::2], ended[1::2], strict=True)
            ]
            lines += [
                StoredLine(int(line), custom_id.decode(), False, None, code.decode())
                for line, custom_id in zip(others[::2], others[1::2], strict=True)
            ]
            found += sorted(line for line in lines if line.is_ok is is_ok)
            after = last
            if last >= int(read):
                break
        return found[:most]

    async def complete(
        self,
        claimed: ClaimedBatch,
        output: StoredFile | None,
        errors: StoredFile | None,
        now: float,
    ) -> bool:
        """See `DeferredQueue`."""
        rows = [field for file in (output, errors) if file is not None for field in file_row(file)]
        done = await self._scripts.run(
            batch_scripts.COMPLETE, claimed.batch.id, claimed.fence, now,
            output.id if output else "", errors.id if errors else "", *rows,
        )  # fmt: skip
        self._mine.discard(claimed.batch.id)
        return bool(done)

    async def release(self, claimed: ClaimedBatch) -> None:
        """See `DeferredQueue`."""
        await self._scripts.run(batch_scripts.RELEASE_BATCH, claimed.batch.id, claimed.fence)
        self._mine.discard(claimed.batch.id)

    async def purge(self, now: float, keep_s: float) -> list[str]:
        """See `DeferredQueue`."""
        await self._scripts.run(batch_scripts.PURGE, now, keep_s, _MOST_PURGED)
        return await self.gone_files()

    async def gone_files(self) -> list[str]:
        """See `DeferredQueue`."""
        told = await self._scripts.run(batch_scripts.GONE, _MOST_PURGED)
        return [name.decode() for name in told]

    async def forget_files(self, file_ids: Sequence[str]) -> None:
        """See `DeferredQueue`."""
        if file_ids:
            await self._scripts.run(batch_scripts.FORGET_FILES, *file_ids)

    async def known_files(self, file_ids: Sequence[str]) -> set[str]:
        """See `DeferredQueue`."""
        found: set[str] = set()
        for start in range(0, len(file_ids), _PIECE):
            some = file_ids[start : start + _PIECE]
            told = await self._scripts.run(batch_scripts.KNOWN_FILES, *some)
            found.update(name.decode() for name in told)
        return found

    async def counts(self) -> dict[str, int]:
        """See `DeferredQueue`."""
        return await self._kinds.counts()

    async def close(self) -> None:
        """See `DeferredQueue`. Calling it twice does nothing."""
        try:
            # Where the server is away the lease ends by itself.
            with contextlib.suppress(DeferralStoreError):
                await self._scripts.run(job_scripts.LEAVE, self._worker)
        finally:
            await self._scripts.close()

    async def _claim_batch(self, which: str, now: float) -> ClaimedBatch | None:
        told = await self._scripts.run(batch_scripts.CLAIM_BATCH, which, self._worker, now)
        if not told:
            return None
        batch, fence = batch_of(told[0].decode(), told[1])
        self._mine.add(batch.id)
        return ClaimedBatch(batch, fence)

    async def _make_sure(self) -> None:
        """What calls did whose answers were lost is taken back, where nobody knows of it."""
        self._scripts.is_unsure = False
        try:
            await self._scripts.run(job_scripts.GIVE_BACK, self._worker, *self._mine)
            for owner, batch_id in list(self._unsure_batches):
                await self._scripts.run(batch_scripts.CANCEL, owner, batch_id, 0.0, CANCELLED)
                self._unsure_batches.discard((owner, batch_id))
            for owner, file_id in list(self._unsure_files):
                await self._scripts.run(batch_scripts.DELETE_FILE, owner, file_id)
                self._unsure_files.discard((owner, file_id))
        except BaseException:
            self._scripts.is_unsure = True
            raise


def _name(job: ClaimedJob) -> str:
    return f"{job.batch_id}:{job.model}:{job.line}"


def _check(told: Any, quota: Quota | None = None, file_id: str = "", batch_id: str = "") -> Any:
    """What a script told, where it refused nothing. Raises UnknownFileError, UnknownBatchError,
    BatchEndedError, DeferralQuotaError."""
    if not isinstance(told, list) or not told or not isinstance(told[0], bytes):
        return told
    if told[0] == b"!file":
        raise refusals.unknown_file(file_id)
    if told[0] == b"!batch":
        raise refusals.unknown_batch(batch_id)
    if told[0] == b"!open":
        raise refusals.batch_open(batch_id)
    if told[0] == b"!ended":
        raise refusals.batch_ended(batch_id, BatchStatus(told[1].decode()))
    if told[0] == b"!batches":
        raise refusals.too_many_batches(int(told[1]))
    if told[0] == b"!jobs":
        raise refusals.too_many_jobs(int(told[1]))
    if quota is not None and told[0] == b"!bytes":
        raise refusals.too_many_bytes(int(told[1]), quota)
    if quota is not None and told[0] == b"!lines":
        raise refusals.too_many_lines(int(told[1]), quota)
    return told
