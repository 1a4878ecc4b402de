"""What a queue of deferred work does: the Protocol that every implementation keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

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


class ListPage(NamedTuple):
    """``after``: the id of what comes before its first, "" for a first page; ``most``: on it.
    ``family``: of batches, what their ids begin with, up to their first underscore."""

    after: str
    most: int
    is_ascending: bool = False
    family: str = "batch"


class DeferredQueue(Protocol):
    """Files, batches and jobs, on the disk before a call of this returns.

    Everything may raise DeferralStoreError, and what writes DeferralFullError: then nothing of it
    has happened. ``owner``: of others nothing is found. ``now``: unix s. ``fence``: of what was
    claimed; where another process has it by now, a call does nothing and returns False.
    """

    async def add_file(self, file: StoredFile, quota: Quota) -> None:
        """Raises DeferralQuotaError."""
        ...

    async def file(self, owner: str, file_id: str) -> StoredFile:
        """Raises UnknownFileError."""
        ...

    async def files(self, owner: str, page: ListPage, purpose: str = "") -> list[StoredFile]:
        """The newest first; ``purpose``: "" for any. Raises UnknownFileError for its ``after``."""
        ...

    async def delete_file(self, owner: str, file_id: str) -> None:
        """Nobody finds it any more; batches that were made of it go on. Raises
        UnknownFileError."""
        ...

    async def add_batch(self, batch: Batch, quota: Quota, file: StoredFile | None = None) -> None:
        """``file``: its own, which is not there yet: it is added with the batch, or neither is.
        Raises UnknownFileError where its file is not its owner's, DeferralQuotaError."""
        ...

    async def batch(self, owner: str, batch_id: str) -> Batch:
        """Raises UnknownBatchError."""
        ...

    async def batches(self, owner: str, page: ListPage) -> list[Batch]:
        """The newest first. Raises UnknownBatchError for its ``after``."""
        ...

    async def delete_batch(self, owner: str, batch_id: str) -> None:
        """Nobody finds it any more; its files are others' to delete. Raises UnknownBatchError,
        and BatchOpenError where it has not ended."""
        ...

    async def cancel(self, owner: str, batch_id: str, now: float) -> Batch:
        """What has not begun does not any more, what has is let go, and the batch ends. Raises
        UnknownBatchError, BatchEndedError."""
        ...

    async def beat(self) -> int:
        """This process lives. Takes from others that do not what they had claimed; how much."""
        ...

    async def workers(self) -> int:
        """How many processes there are at this queue, this one among them."""
        ...

    async def give_back(self) -> int:
        """What this process had claimed waits again; how much."""
        ...

    async def claim_unread(self) -> ClaimedBatch | None:
        """A batch whose file is to be read, from its first line on or again."""
        ...

    async def add_lines(
        self,
        claimed: ClaimedBatch,
        jobs: Sequence[NewJob],
        bad: Sequence[BadLine],
        quota: Quota,
    ) -> bool:
        """Lines of its file, in order; those that are known already are left out. A job whose
        ``custom_id`` another line of the batch has becomes a bad line. Raises
        DeferralQuotaError."""
        ...

    async def end_reading(
        self,
        claimed: ClaimedBatch,
        now: float,
        errors: Sequence[LineError],
        fails: bool,
        at_once: Mapping[str, str],
    ) -> bool:
        """All of it is read, and its jobs may begin; where it ``fails``, or no line of it asks
        anything, it has ended. ``errors``: of lines, and of all of it; ``at_once``: by model, what
        `ClaimedJob.at_once` is to be."""
        ...

    async def waiting(self) -> list[JobKind]:
        """What waits, of every owner."""
        ...

    async def claim(self, wanted: Sequence[tuple[JobKind, int]], now: float) -> list[ClaimedJob]:
        """So many jobs of each kind at most, the first lines first."""
        ...

    async def under_way(self, batch_id: str) -> int:
        """How many jobs of a batch are, with any process; 0 for one that is none."""
        ...

    async def note_why(self, told: Sequence[tuple[JobKind, str]]) -> None:
        """Why each kind waits, in words, for whoever asks."""
        ...

    async def finish(self, job: ClaimedJob, outcome: JobOutcome) -> bool:
        """It has ended, once and for all."""
        ...

    async def put_back(self, job: ClaimedJob, not_before: float, is_failure: bool) -> bool:
        """It waits again; ``is_failure``: a server failed it, which counts as a try."""
        ...

    async def held(self, claimed: Sequence[ClaimedJob]) -> set[int]:
        """The numbers of those that this process still has: of no others its answers count."""
        ...

    async def expire(self, now: float) -> int:
        """Jobs past their deadline that have not begun do not any more; how many."""
        ...

    async def claim_ended(self, now: float) -> ClaimedBatch | None:
        """A batch of which all jobs have ended, and whose files are to be written."""
        ...

    async def lines(
        self, claimed: ClaimedBatch, is_ok: bool, after: int, most: int
    ) -> list[StoredLine]:
        """Of its output file, or of its error file, those after a line, in order."""
        ...

    async def complete(
        self,
        claimed: ClaimedBatch,
        output: StoredFile | None,
        errors: StoredFile | None,
        now: float,
    ) -> bool:
        """Its files are written: it is over, and its jobs are forgotten."""
        ...

    async def release(self, claimed: ClaimedBatch) -> None:
        """It was not read, or not written: others may."""
        ...

    async def purge(self, now: float, keep_s: float) -> list[str]:
        """Forget files past their time and batches that ended ``keep_s`` ago. The ids of files
        whose bytes nobody needs any more: they are to be deleted, and `forget_files` told."""
        ...

    async def gone_files(self) -> list[str]:
        """What `purge` would return, without anything that needs room on the disk."""
        ...

    async def forget_files(self, file_ids: Sequence[str]) -> None:
        """Their bytes are gone."""
        ...

    async def known_files(self, file_ids: Sequence[str]) -> set[str]:
        """Which of these there are, deleted or not."""
        ...

    async def counts(self) -> dict[str, int]:
        """Jobs of all owners by state: waiting, under_way."""
        ...

    async def close(self) -> None:
        """Let go of all that was claimed."""
        ...
