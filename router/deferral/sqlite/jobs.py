"""Rows of jobs: who does which, and how they ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from router.deferral import refusals
from router.deferral.input_lines import duplicate_line
from router.deferral.sqlite.batches import end_jobs, is_held, number_of, terms_of
from router.deferral.sqlite.schema import ENDED, WAITING, use
from router.deferral.values import (
    EXPIRED,
    MOST_WAIT_S,
    BadLine,
    ClaimedBatch,
    ClaimedJob,
    JobKind,
    JobOutcome,
    NewJob,
    Quota,
    StoredLine,
)


def add_lines(
    database: sqlite3.Connection,
    claimed: ClaimedBatch,
    jobs: Sequence[NewJob],
    bad: Sequence[BadLine],
    quota: Quota,
) -> bool:
    """See `DeferredQueue.add_lines`."""
    if not is_held(database, claimed):
        return False
    number = number_of(database, claimed.batch.id)
    (read_line,) = database.execute(
        "SELECT read_line FROM batches WHERE number = ?", (number,)
    ).fetchone()
    added: list[NewJob] = []
    refused = [one for one in bad if one.line > read_line]
    for job in jobs:
        if job.line <= read_line:
            continue
        try:
            _insert(database, number, job)
        except sqlite3.IntegrityError:
            refused.append(duplicate_line(job.line, job.custom_id))
        else:
            added.append(job)
    for one in refused:
        database.execute(
            "INSERT INTO jobs (batch, line, state, code, document) VALUES (?, ?, ?, ?, ?)",
            (number, one.line, ENDED, one.error.code, msgspec.json.encode(one)),
        )
    last = max((*(job.line for job in jobs), *(one.line for one in bad)), default=0)
    database.execute(
        "UPDATE batches SET total = total + ?, failed = failed + ?, read_line = max(read_line, ?)"
        " WHERE number = ?",
        (len(added) + len(refused), len(refused), last, number),
    )
    waiting = use(database, claimed.batch.owner, jobs=len(added)).jobs
    if waiting > quota.max_jobs:
        raise refusals.too_many_lines(waiting, quota)
    return True


def _insert(database: sqlite3.Connection, number: int, job: NewJob) -> None:
    database.execute(
        "INSERT INTO jobs (batch, line, custom_id, model, start, size_bytes, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, job.line, job.custom_id, job.model, job.offset, job.size_bytes, WAITING),
    )
    database.execute(
        "INSERT INTO kinds (batch, model, waiting, body_bytes, jobs) VALUES (?, ?, 1, ?, 1)"
        " ON CONFLICT DO UPDATE SET waiting = waiting + 1, jobs = jobs + 1,"
        " body_bytes = body_bytes + excluded.body_bytes",
        (number, job.model, job.body_bytes),
    )


def waiting(database: sqlite3.Connection) -> list[JobKind]:
    """Of batches whose jobs may begin, the oldest first."""
    rows = database.execute(
        "SELECT batches.id, kinds.model, batches.owner, batches.created_at, batches.expires_at,"
        " kinds.waiting, kinds.under_way, kinds.body_bytes / kinds.jobs, kinds.at_once, kinds.why"
        " FROM batches"
        " JOIN kinds ON kinds.batch = batches.number"
        " WHERE batches.ended_at IS NULL AND batches.status = 'in_progress' AND kinds.waiting > 0"
        " ORDER BY batches.number"
    )
    return [JobKind(*row) for row in rows]


def claim(
    database: sqlite3.Connection, worker: str, wanted: Sequence[tuple[JobKind, int]], now: float
) -> list[ClaimedJob]:
    """See `DeferredQueue.claim`."""
    return [job for kind, most in wanted for job in _claim(database, worker, kind, most, now)]


def _claim(
    database: sqlite3.Connection, worker: str, kind: JobKind, most: int, now: float
) -> Iterator[ClaimedJob]:
    found = database.execute(
        "SELECT number, terms, created_at, expires_at, kinds.at_once FROM batches"
        " JOIN kinds ON kinds.batch = batches.number AND kinds.model = ?"
        " WHERE id = ? AND status = 'in_progress'",
        (kind.model, kind.batch_id),
    ).fetchone()
    if found is None or most < 1:
        return
    number, raw_terms, queued_at, deadline, at_once = found
    rows = database.execute(
        "UPDATE jobs SET state = 1, worker = ?1, fence = fence + 1 WHERE number IN"
        " (SELECT number FROM jobs WHERE state = 0 AND batch = ?2 AND model = ?3"
        " AND (not_before <= ?4 OR not_before > ?6) ORDER BY not_before, number LIMIT ?5)"
        " RETURNING number, fence, line, start, size_bytes, custom_id, tries",
        # What is to wait for longer than anything does was put back before a clock was set back.
        (worker, number, kind.model, now, most, now + 2.0 * MOST_WAIT_S),
    ).fetchall()
    if not rows:
        return
    _moved(database, number, kind.model, -len(rows), len(rows))
    terms = terms_of(raw_terms)
    for job, fence, line, start, size_bytes, custom_id, tries in sorted(rows):
        yield ClaimedJob(
            job, fence, kind.batch_id, terms, line, start, size_bytes, custom_id, kind.model, tries,
            queued_at, deadline, at_once,
        )  # fmt: skip


def under_way(database: sqlite3.Connection, batch_id: str) -> int:
    """See `DeferredQueue.under_way`."""
    (count,) = database.execute(
        "SELECT coalesce(sum(kinds.under_way), 0) FROM batches JOIN kinds"
        " ON kinds.batch = batches.number WHERE batches.id = ?",
        (batch_id,),
    ).fetchone()
    return int(count)


def note_why(database: sqlite3.Connection, told: Sequence[tuple[JobKind, str]]) -> None:
    """See `DeferredQueue.note_why`."""
    database.executemany(
        "UPDATE kinds SET why = ? WHERE model = ? AND batch ="
        " (SELECT number FROM batches WHERE id = ?)",
        [(why, kind.model, kind.batch_id) for kind, why in told],
    )


def finish(database: sqlite3.Connection, job: ClaimedJob, outcome: JobOutcome) -> bool:
    """See `DeferredQueue.finish`."""
    row = database.execute(
        "UPDATE jobs SET state = 2, worker = NULL, is_ok = ?, document = ?"
        " WHERE number = ? AND fence = ? AND state = 1 RETURNING batch",
        (int(outcome.is_ok), outcome.document, job.number, job.fence),
    ).fetchone()
    if row is None:
        return False
    sums = outcome.sums
    (owner,) = database.execute(
        "UPDATE batches SET completed = completed + ?, failed = failed + ?,"
        " input_tokens = input_tokens + ?, output_tokens = output_tokens + ?, gco2e = gco2e + ?,"
        " saved_g = saved_g + ?, gco2e_answers = gco2e_answers + ?,"
        " saved_answers = saved_answers + ? WHERE number = ? RETURNING owner",
        (int(outcome.is_ok), int(not outcome.is_ok), *sums, row[0]),
    ).fetchone()
    _moved(database, row[0], job.model, 0, -1)
    use(database, owner, jobs=-1)
    return True


def put_back(
    database: sqlite3.Connection, job: ClaimedJob, not_before: float, is_failure: bool
) -> bool:
    """See `DeferredQueue.put_back`."""
    row = database.execute(
        "UPDATE jobs SET state = 0, worker = NULL, not_before = ?, tries = tries + ?"
        " WHERE number = ? AND fence = ? AND state = 1 RETURNING batch",
        (not_before, int(is_failure), job.number, job.fence),
    ).fetchone()
    if row is None:
        return False
    _moved(database, row[0], job.model, 1, -1)
    return True


def take_from(database: sqlite3.Connection, worker: str) -> int:
    """What a process had claimed waits again; how much."""
    kinds = database.execute(
        "SELECT batch, model, count(*) FROM jobs WHERE state = 1 AND worker = ?"
        " GROUP BY batch, model",
        (worker,),
    ).fetchall()
    database.execute(
        "UPDATE jobs SET state = 0, worker = NULL, fence = fence + 1"
        " WHERE state = 1 AND worker = ?",
        (worker,),
    )
    for number, model, count in kinds:
        _moved(database, number, model, count, -count)
    batches = database.execute(
        "UPDATE batches SET worker = NULL, fence = fence + 1 WHERE worker = ?", (worker,)
    ).rowcount
    return int(sum(count for _, _, count in kinds) + batches)


def held(database: sqlite3.Connection, claimed: Sequence[ClaimedJob]) -> set[int]:
    """See `DeferredQueue.held`."""
    is_held = "SELECT 1 FROM jobs WHERE number = ? AND fence = ? AND state = 1"
    return {
        job.number
        for job in claimed
        if database.execute(is_held, (job.number, job.fence)).fetchone()
    }


def expire(database: sqlite3.Connection, now: float) -> int:
    """See `DeferredQueue.expire`."""
    return sum(end_jobs(database, number, (WAITING,), EXPIRED) for number in due(database, now))


def due(database: sqlite3.Connection, now: float) -> list[int]:
    """Batches past their deadline of which jobs wait."""
    rows = database.execute(
        "SELECT number FROM batches WHERE ended_at IS NULL AND status = 'in_progress'"
        " AND expires_at <= ? AND EXISTS (SELECT 1 FROM kinds WHERE kinds.batch = batches.number"
        " AND kinds.waiting > 0)",
        (now,),
    )
    return [int(number) for (number,) in rows]


def has_expired(database: sqlite3.Connection, batch_id: str) -> bool:
    """Whether a job of a batch has come to its deadline unanswered."""
    row = database.execute(
        "SELECT 1 FROM jobs WHERE batch = ? AND state = 2 AND code = ? LIMIT 1",
        (number_of(database, batch_id), EXPIRED),
    ).fetchone()
    return row is not None


def lines(
    database: sqlite3.Connection, claimed: ClaimedBatch, is_ok: bool, after: int, most: int
) -> list[StoredLine]:
    """See `DeferredQueue.lines`."""
    rows = database.execute(
        "SELECT line, custom_id, is_ok, document, code FROM jobs WHERE batch = ? AND is_ok = ?"
        " AND state = 2 AND line > ? ORDER BY line LIMIT ?",
        (number_of(database, claimed.batch.id), int(is_ok), after, most),
    )
    return [
        StoredLine(line, custom_id or "", bool(ok), document, code)
        for line, custom_id, ok, document, code in rows
    ]


def counts(database: sqlite3.Connection) -> dict[str, int]:
    """See `DeferredQueue.counts`."""
    waits, runs = database.execute(
        "SELECT coalesce(sum(kinds.waiting), 0), coalesce(sum(kinds.under_way), 0) FROM batches"
        " JOIN kinds ON kinds.batch = batches.number WHERE batches.ended_at IS NULL"
    ).fetchone()
    return {"waiting": int(waits), "under_way": int(runs)}


def _moved(database: sqlite3.Connection, number: int, model: str, waits: int, runs: int) -> None:
    database.execute(
        "UPDATE kinds SET waiting = waiting + ?, under_way = under_way + ?"
        " WHERE batch = ? AND model = ?",
        (waits, runs, number, model),
    )
