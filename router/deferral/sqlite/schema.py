"""The tables, and whose version of them a file has."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from router.errors import DeferralStoreError

VERSION: Final = 3

# States of a job.
WAITING: Final = 0
UNDER_WAY: Final = 1
ENDED: Final = 2

# `kinds` counts what `jobs` has, so that nobody has to; `usage` likewise of owners. A line without
# a custom_id of its own has NULL there, of which there may be any number.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    filename TEXT NOT NULL, purpose TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, deleted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS files_of_owners ON files (owner, number);
CREATE INDEX IF NOT EXISTS files_by_end ON files (deleted, expires_at);
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    status TEXT NOT NULL, terms BLOB NOT NULL, input_file TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, ended_at REAL,
    times BLOB NOT NULL, errors BLOB NOT NULL DEFAULT x'5b5d', read_line INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0, input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0, gco2e REAL NOT NULL DEFAULT 0,
    saved_g REAL NOT NULL DEFAULT 0, gco2e_answers INTEGER NOT NULL DEFAULT 0,
    saved_answers INTEGER NOT NULL DEFAULT 0, output_file TEXT NOT NULL DEFAULT '',
    error_file TEXT NOT NULL DEFAULT '', expired INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0, worker TEXT, fence INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS batches_of_owners ON batches (owner, number);
CREATE INDEX IF NOT EXISTS batches_open ON batches (status) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS batches_of_files ON batches (input_file) WHERE ended_at IS NULL;
CREATE TABLE IF NOT EXISTS kinds (
    batch INTEGER NOT NULL, model TEXT NOT NULL, waiting INTEGER NOT NULL DEFAULT 0,
    under_way INTEGER NOT NULL DEFAULT 0, body_bytes INTEGER NOT NULL DEFAULT 0,
    jobs INTEGER NOT NULL DEFAULT 0, at_once TEXT NOT NULL DEFAULT '',
    why TEXT NOT NULL DEFAULT '', PRIMARY KEY (batch, model)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, batch INTEGER NOT NULL, line INTEGER NOT NULL,
    custom_id TEXT, model TEXT NOT NULL DEFAULT '', start INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL,
    not_before REAL NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, worker TEXT,
    fence INTEGER NOT NULL DEFAULT 0, is_ok INTEGER NOT NULL DEFAULT 0,
    code TEXT NOT NULL DEFAULT '', document BLOB
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_line ON jobs (batch, line);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_id ON jobs (batch, custom_id);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (batch, model, not_before, number) WHERE state = 0;
CREATE INDEX IF NOT EXISTS jobs_under_way ON jobs (worker) WHERE state = 1;
CREATE TABLE IF NOT EXISTS workers (
    name TEXT PRIMARY KEY, boot TEXT NOT NULL, until REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage (
    owner TEXT PRIMARY KEY, file_bytes INTEGER NOT NULL DEFAULT 0,
    jobs INTEGER NOT NULL DEFAULT 0, batches INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
"""
# What the first version counted nowhere: sums are of all answers, or of none.
_FROM_1: Final = (
    "ALTER TABLE batches ADD COLUMN gco2e_answers INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE batches ADD COLUMN saved_answers INTEGER NOT NULL DEFAULT 0",
    "UPDATE batches SET gco2e_answers = completed WHERE gco2e != 0",
    "UPDATE batches SET saved_answers = completed WHERE saved_g != 0",
)
# What the second did not count.
_FROM_2: Final = (
    "ALTER TABLE batches ADD COLUMN expired INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE batches ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE usage ADD COLUMN batches INTEGER NOT NULL DEFAULT 0",
    "INSERT INTO usage (owner, batches) SELECT owner, count(*) FROM batches WHERE true"
    " GROUP BY owner ON CONFLICT (owner) DO UPDATE SET batches = excluded.batches",
    "DELETE FROM usage WHERE file_bytes = 0 AND jobs = 0 AND batches = 0",
)


def prepare(database: sqlite3.Connection) -> None:
    """Make the tables where there are none. Raises DeferralStoreError for those of a newer
    version."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise DeferralStoreError(
            f"the queue was written by a newer version (format {version}, this one has {VERSION})"
        )
    for statement in (*(_FROM_1 if version == 1 else ()), *(_FROM_2 if 0 < version < 3 else ())):
        database.execute(statement)
    for statement in _TABLES.split(";"):
        if statement.strip():
            database.execute(statement)
    database.execute(f"PRAGMA user_version={VERSION}")


class OwnerUse(NamedTuple):
    """What one owner has."""

    file_bytes: int
    jobs: int
    batches: int


def use(
    database: sqlite3.Connection, owner: str, file_bytes: int = 0, jobs: int = 0, batches: int = 0
) -> OwnerUse:
    """Count so much more for ``owner``; what it has then."""
    row = database.execute(
        "INSERT INTO usage (owner, file_bytes, jobs, batches) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (owner) DO UPDATE SET file_bytes = file_bytes + excluded.file_bytes,"
        " jobs = jobs + excluded.jobs, batches = batches + excluded.batches"
        " RETURNING file_bytes, jobs, batches",
        (owner, file_bytes, jobs, batches),
    ).fetchone()
    if not any(row):
        # Of an owner of nothing nothing is kept: names come from callers.
        database.execute("DELETE FROM usage WHERE owner = ?", (owner,))
    return OwnerUse(*map(int, row))
