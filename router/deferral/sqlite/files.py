"""Rows of files. Their bytes are not here."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from router.deferral import refusals
from router.deferral.queue import ListPage
from router.deferral.sqlite.schema import use
from router.deferral.values import Quota, StoredFile

_COLUMNS: Final = "id, owner, filename, purpose, size_bytes, created_at, expires_at"
_MOST_PURGED: Final = 1000


def add(database: sqlite3.Connection, file: StoredFile, quota: Quota | None) -> None:
    """``quota`` None: it is ours, and its owner may have it anyway. Raises DeferralQuotaError."""
    held = use(database, file.owner, file_bytes=file.size_bytes).file_bytes
    if quota is not None and held > quota.max_bytes:
        raise refusals.too_many_bytes(held, quota)
    database.execute(f"INSERT INTO files ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", file)


def find(database: sqlite3.Connection, owner: str, file_id: str) -> StoredFile:
    """Raises UnknownFileError."""
    row = database.execute(
        f"SELECT {_COLUMNS} FROM files WHERE id = ? AND owner = ? AND deleted = 0", (file_id, owner)
    ).fetchone()
    if row is None:
        raise refusals.unknown_file(file_id)
    return StoredFile(*row)


def listed(
    database: sqlite3.Connection, owner: str, page: ListPage, purpose: str
) -> list[StoredFile]:
    """Raises UnknownFileError for the page's ``after``."""
    number = None
    if page.after:
        find(database, owner, page.after)
        (number,) = database.execute(
            "SELECT number FROM files WHERE id = ?", (page.after,)
        ).fetchone()
    order, beyond = ("ASC", ">") if page.is_ascending else ("DESC", "<")
    rows = database.execute(
        f"SELECT {_COLUMNS} FROM files WHERE owner = ?1 AND deleted = 0"
        f" AND (?2 IS NULL OR number {beyond} ?2) AND purpose != 'background'"
        " AND (?3 = '' OR purpose = ?3)"
        f" ORDER BY number {order} LIMIT ?4",
        (owner, number, purpose, page.most),
    )
    return [StoredFile(*row) for row in rows]


def delete(database: sqlite3.Connection, owner: str, file_id: str) -> None:
    """Raises UnknownFileError."""
    found = find(database, owner, file_id)
    database.execute("UPDATE files SET deleted = 1 WHERE id = ?", (file_id,))
    use(database, owner, file_bytes=-found.size_bytes)


def purge(database: sqlite3.Connection, now: float) -> list[str]:
    """Delete those past their time; the ids of all whose bytes nobody needs."""
    due = database.execute(
        "SELECT id, owner FROM files WHERE deleted = 0 AND expires_at <= ? LIMIT ?",
        (now, _MOST_PURGED),
    ).fetchall()
    for file_id, owner in due:
        delete(database, owner, file_id)
    return gone(database)


def gone(database: sqlite3.Connection) -> list[str]:
    """The ids of those that are deleted and whose bytes no batch needs."""
    rows = database.execute(
        "SELECT id FROM files WHERE deleted = 1 AND NOT EXISTS (SELECT 1 FROM batches"
        " WHERE input_file = files.id AND ended_at IS NULL) LIMIT ?",
        (_MOST_PURGED,),
    )
    return [str(row[0]) for row in rows]


def forget(database: sqlite3.Connection, file_ids: Sequence[str]) -> None:
    """Their bytes are gone."""
    database.executemany(
        "DELETE FROM files WHERE id = ? AND deleted = 1", [(one,) for one in file_ids]
    )


def known(database: sqlite3.Connection, file_ids: Sequence[str]) -> set[str]:
    """Which of these there are."""
    find_one = "SELECT 1 FROM files WHERE id = ?"
    return {one for one in file_ids if database.execute(find_one, (one,)).fetchone()}
