"""What every queue refuses, in the same words."""

from __future__ import annotations

from router.deferral.values import BatchStatus, Quota
from router.errors import (
    BatchEndedError,
    BatchOpenError,
    DeferralQuotaError,
    UnknownBatchError,
    UnknownFileError,
)


def too_many_bytes(held: int, quota: Quota) -> DeferralQuotaError:
    """``held``: with the file that is refused."""
    return DeferralQuotaError(
        f"files of this tenant would have {held} bytes, more than the {quota.max_bytes} that "
        "one may have here: delete some"
    )


def too_many_jobs(waiting: int) -> DeferralQuotaError:
    """Of a batch that is refused."""
    return DeferralQuotaError(
        f"this tenant has {waiting} requests waiting, as many as one may have here: let some "
        "end first"
    )


def too_many_lines(waiting: int, quota: Quota) -> DeferralQuotaError:
    """``waiting``: with the lines that are refused."""
    return DeferralQuotaError(
        f"this tenant would have {waiting} requests waiting, more than the {quota.max_jobs} "
        "that one may have here"
    )


def too_many_batches(batches: int) -> DeferralQuotaError:
    """Of one that is refused."""
    return DeferralQuotaError(
        f"this tenant has {batches} batches and responses in the background, ended ones among "
        "them, as many as one may have here: wait until the oldest are deleted"
    )


def unknown_file(file_id: str) -> UnknownFileError:
    """Of this owner, at least."""
    return UnknownFileError(f"no file {file_id[:64]!r} is kept here")


def unknown_batch(batch_id: str) -> UnknownBatchError:
    """Of this owner, at least."""
    return UnknownBatchError(f"no batch {batch_id[:64]!r} is kept here")


def batch_open(batch_id: str) -> BatchOpenError:
    """It cannot be deleted."""
    return BatchOpenError(f"batch {batch_id!r} has not ended: cancel it, or wait")


def batch_ended(batch_id: str, status: BatchStatus) -> BatchEndedError:
    """It cannot be cancelled."""
    return BatchEndedError(f"batch {batch_id!r} cannot be cancelled any more: it is {status}")
