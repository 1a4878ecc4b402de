"""Rows of batches, from what is asked to what came of it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from router.deferral import refusals
from router.deferral.queue import ListPage
from router.deferral.sqlite import files
from router.deferral.sqlite.schema import UNDER_WAY, WAITING, use
from router.deferral.values import (
    CANCELLED,
    EXPIRED,
    Batch,
    BatchStatus,
    BatchSums,
    BatchTerms,
    ClaimedBatch,
    Counts,
    LineError,
    Quota,
    StoredFile,
    Unanswered,
)

_COLUMNS: Final = (
    "id, owner, status, terms, created_at, expires_at, times, total, completed, failed,"
    " input_tokens, output_tokens, gco2e, saved_g, gco2e_answers, saved_answers, errors,"
    " output_file, error_file, expired, cancelled"
)
_TERMS: Final = msgspec.json.Decoder(BatchTerms)
_TIMES: Final = msgspec.json.Decoder(dict[str, float])
_ERRORS: Final = msgspec.json.Decoder(tuple[LineError, ...])
# Rows of jobs that are forgotten in one transaction.
_MOST_PURGED: Final = 20_000
_MOST_BATCHES: Final = 100


def terms_of(raw: bytes) -> BatchTerms:
    """As `add` wrote them."""
    return _TERMS.decode(raw)


def _batch(row: Sequence[object]) -> Batch:
    (
        batch_id, owner, status, terms, created_at, expires_at, times, total, completed, failed,
        input_tokens, output_tokens, gco2e, saved_g, gco2e_answers, saved_answers, errors,
        output_file, error_file, expired, cancelled,
    ) = row  # fmt: skip
    return Batch(
        str(batch_id), str(owner), BatchStatus(str(status)), _TERMS.decode(terms),  # type: ignore[arg-type]
        created_at, expires_at,  # type: ignore[arg-type]
        _TIMES.decode(times),  # type: ignore[arg-type]
        Counts(total, completed, failed),  # type: ignore[arg-type]
        BatchSums(
            input_tokens, output_tokens, gco2e, saved_g, gco2e_answers, saved_answers,  # type: ignore[arg-type]
        ),
        _ERRORS.decode(errors), str(output_file), str(error_file),  # type: ignore[arg-type]
        Unanswered(expired, cancelled),  # type: ignore[arg-type]
    )  # fmt: skip


def add(database: sqlite3.Connection, batch: Batch, quota: Quota) -> None:
    """Raises UnknownFileError, DeferralQuotaError."""
    files.find(database, batch.owner, batch.terms.input_file_id)
    used = use(database, batch.owner, batches=1)
    if used.jobs >= quota.max_jobs:
        raise refusals.too_many_jobs(used.jobs)
    if used.batches > quota.max_batches:
        raise refusals.too_many_batches(used.batches - 1)
    database.execute(
        "INSERT INTO batches (id, owner, status, terms, input_file, created_at, expires_at, times)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch.id, batch.owner, str(batch.status), msgspec.json.encode(batch.terms),
            batch.terms.input_file_id, batch.created_at, batch.expires_at,
            msgspec.json.encode(batch.times),
        ),
    )  # fmt: skip


def find(database: sqlite3.Connection, owner: str, batch_id: str) -> Batch:
    """Raises UnknownBatchError."""
    row = database.execute(
        f"SELECT {_COLUMNS} FROM batches WHERE id = ? AND owner = ?", (batch_id, owner)
    ).fetchone()
    if row is None:
        raise refusals.unknown_batch(batch_id)
    return _batch(row)


def listed(database: sqlite3.Connection, owner: str, page: ListPage) -> list[Batch]:
    """Raises UnknownBatchError for the page's ``after``."""
    number = None
    if page.after:
        find(database, owner, page.after)
        (number,) = database.execute(
            "SELECT number FROM batches WHERE id = ?", (page.after,)
        ).fetchone()
    order, beyond = ("ASC", ">") if page.is_ascending else ("DESC", "<")
    family = f"{page.family}_"
    rows = database.execute(
        f"SELECT {_COLUMNS} FROM batches WHERE owner = ?1 AND substr(id, 1, ?4) = ?5"
        f" AND (?2 IS NULL OR number {beyond} ?2)"
        f" ORDER BY number {order} LIMIT ?3",
        (owner, number, page.most, len(family), family),
    )
    return [_batch(row) for row in rows]


def delete(database: sqlite3.Connection, owner: str, batch_id: str) -> None:
    """Raises UnknownBatchError, BatchOpenError."""
    if not find(database, owner, batch_id).status.is_final:
        raise refusals.batch_open(batch_id)
    # Its rows go as those of one that ended long ago.
    database.execute(
        "UPDATE batches SET id = 'deleted ' || id, ended_at = 0 WHERE id = ?", (batch_id,)
    )


def cancel(database: sqlite3.Connection, owner: str, batch_id: str, now: float) -> Batch:
    """Raises UnknownBatchError, BatchEndedError."""
    batch = find(database, owner, batch_id)
    if batch.status.is_final or batch.status is BatchStatus.FINALIZING:
        raise refusals.batch_ended(batch_id, batch.status)
    if batch.status is not BatchStatus.CANCELLING:
        # Nobody reads its file on, and nobody's answer to one of its jobs counts from here on.
        database.execute("UPDATE batches SET worker = NULL, fence = fence + 1 WHERE id = ?",
                         (batch_id,))  # fmt: skip
        _turn(database, batch_id, BatchStatus.CANCELLING, now)
        end_jobs(database, number_of(database, batch_id), (WAITING, UNDER_WAY), CANCELLED)
    return find(database, owner, batch_id)


def number_of(database: sqlite3.Connection, batch_id: str) -> int:
    """Of a batch that there is."""
    row = database.execute("SELECT number FROM batches WHERE id = ?", (batch_id,)).fetchone()
    return int(row[0])


def end_jobs(database: sqlite3.Connection, number: int, states: Sequence[int], code: str) -> int:
    """Jobs of a batch that are in one of ``states`` end unanswered; how many."""
    marks = ", ".join("?" * len(states))
    ended = database.execute(
        f"UPDATE jobs SET state = 2, is_ok = 0, code = ?, worker = NULL, fence = fence + 1"
        f" WHERE batch = ? AND state IN ({marks})",
        (code, number, *states),
    ).rowcount
    if ended:
        for state, column in ((WAITING, "waiting"), (UNDER_WAY, "under_way")):
            if state in states:
                database.execute(f"UPDATE kinds SET {column} = 0 WHERE batch = ?", (number,))
        column = "expired" if code == EXPIRED else "cancelled"
        (owner,) = database.execute(
            f"UPDATE batches SET failed = failed + ?1, {column} = {column} + ?1 WHERE number = ?2"
            " RETURNING owner",
            (ended, number),
        ).fetchone()
        use(database, owner, jobs=-ended)
    return ended


def any_to_claim(database: sqlite3.Connection, wanted: str) -> int:
    """The number of one that fulfils ``wanted``, a condition, and that nobody has; 0: there is
    none."""
    row = database.execute(
        f"SELECT number FROM batches WHERE ended_at IS NULL AND worker IS NULL AND {wanted}"
        " ORDER BY number LIMIT 1"
    ).fetchone()
    return 0 if row is None else int(row[0])


def claim(database: sqlite3.Connection, worker: str, wanted: str) -> ClaimedBatch | None:
    """Such a one, from now on ``worker``'s."""
    number = any_to_claim(database, wanted)
    if not number:
        return None
    *found, fence = database.execute(
        f"UPDATE batches SET worker = ?, fence = fence + 1 WHERE number = ?"
        f" RETURNING {_COLUMNS}, fence",
        (worker, number),
    ).fetchone()
    return ClaimedBatch(_batch(found), fence)


def release(database: sqlite3.Connection, claimed: ClaimedBatch) -> None:
    """Others may have it."""
    database.execute(
        "UPDATE batches SET worker = NULL WHERE id = ? AND fence = ?",
        (claimed.batch.id, claimed.fence),
    )


def is_held(database: sqlite3.Connection, claimed: ClaimedBatch) -> bool:
    """Whether whoever claimed it still has it."""
    row = database.execute(
        "SELECT 1 FROM batches WHERE id = ? AND fence = ? AND worker IS NOT NULL",
        (claimed.batch.id, claimed.fence),
    ).fetchone()
    return row is not None


def end_reading(
    database: sqlite3.Connection,
    claimed: ClaimedBatch,
    now: float,
    errors: Sequence[LineError],
    fails: bool,
    at_once: Mapping[str, str],
) -> bool:
    """See `DeferredQueue.end_reading`."""
    if not is_held(database, claimed):
        return False
    batch_id = claimed.batch.id
    database.executemany(
        "UPDATE kinds SET at_once = ? WHERE batch = ? AND model = ?",
        [(told, number_of(database, batch_id), model) for model, told in at_once.items()],
    )
    if errors:
        database.execute(
            "UPDATE batches SET errors = ? WHERE id = ?", (msgspec.json.encode(errors), batch_id)
        )
    (total, failed) = database.execute(
        "SELECT total, failed FROM batches WHERE id = ?", (batch_id,)
    ).fetchone()
    if fails or total == failed:
        end_jobs(database, number_of(database, batch_id), (WAITING,), CANCELLED)
        _end(database, batch_id, BatchStatus.FAILED, now)
    else:
        _turn(database, batch_id, BatchStatus.IN_PROGRESS, now)
    database.execute("UPDATE batches SET worker = NULL WHERE id = ?", (batch_id,))
    return True


def begin_writing(database: sqlite3.Connection, claimed: ClaimedBatch, now: float) -> Batch:
    """Its jobs have ended: a status that says so."""
    batch = claimed.batch
    if batch.status is BatchStatus.IN_PROGRESS:
        _turn(database, batch.id, BatchStatus.FINALIZING, now)
    return find(database, batch.owner, batch.id)


def complete(
    database: sqlite3.Connection,
    claimed: ClaimedBatch,
    output: StoredFile | None,
    errors: StoredFile | None,
    now: float,
    is_expired: bool,
) -> bool:
    """See `DeferredQueue.complete`."""
    if not is_held(database, claimed):
        return False
    for file in (output, errors):
        if file is not None:
            files.add(database, file, None)
    batch_id = claimed.batch.id
    database.execute(
        "UPDATE batches SET output_file = ?, error_file = ?, worker = NULL WHERE id = ?",
        (output.id if output else "", errors.id if errors else "", batch_id),
    )
    status = BatchStatus.COMPLETED
    if BatchStatus.CANCELLING in claimed.batch.times:
        status = BatchStatus.CANCELLED
    elif is_expired:
        status = BatchStatus.EXPIRED
    _end(database, batch_id, status, now)
    return True


def purge(database: sqlite3.Connection, now: float, keep_s: float) -> None:
    """Forget jobs of batches that have ended, some at a time, and batches that ended long ago."""
    ended = database.execute(
        "SELECT number FROM batches WHERE ended_at IS NOT NULL AND EXISTS"
        " (SELECT 1 FROM jobs WHERE jobs.batch = batches.number) LIMIT ?",
        (_MOST_BATCHES,),
    ).fetchall()
    left = _MOST_PURGED
    for (number,) in ended:
        left -= database.execute(
            "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE batch = ? LIMIT ?)",
            (number, max(0, left)),
        ).rowcount
    database.execute(
        "DELETE FROM kinds WHERE batch IN (SELECT number FROM batches WHERE ended_at IS NOT NULL)"
    )
    forgotten = database.execute(
        "DELETE FROM batches WHERE ended_at <= ? AND NOT EXISTS"
        " (SELECT 1 FROM jobs WHERE jobs.batch = batches.number) RETURNING owner",
        (now - keep_s,),
    ).fetchall()
    for owner, count in Counter(owner for (owner,) in forgotten).items():
        use(database, owner, batches=-count)


def _turn(database: sqlite3.Connection, batch_id: str, status: BatchStatus, now: float) -> None:
    (raw,) = database.execute("SELECT times FROM batches WHERE id = ?", (batch_id,)).fetchone()
    times: Mapping[str, float] = {**_TIMES.decode(raw), str(status): now}
    database.execute(
        "UPDATE batches SET status = ?, times = ? WHERE id = ?",
        (str(status), msgspec.json.encode(times), batch_id),
    )


def _end(database: sqlite3.Connection, batch_id: str, status: BatchStatus, now: float) -> None:
    _turn(database, batch_id, status, now)
    database.execute("UPDATE batches SET ended_at = ? WHERE id = ?", (now, batch_id))
