"""What a queue holds, for whoever looks from outside: nothing is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from router.deferral.seen import SeenBatch, SeenKind
from router.deferral.sqlite.schema import VERSION
from router.deferral.sqlite.store import DATABASE
from router.deferral.values import Counts
from router.errors import DataError

_BUSY_S: Final = 5.0


def seen(folder: Path, batch_id: str = "", ended: bool = False) -> list[SeenBatch]:
    """The batches in a queue, oldest first; only ``batch_id`` where it is not "". ``ended``:
    those, too, that have. Raises DataError where there is no queue, or it cannot be read."""
    with _open(folder) as database:
        rows = database.execute(
            "SELECT number, id, owner, status, created_at, expires_at, total, completed, failed,"
            " iif(gco2e_answers, gco2e, NULL), iif(saved_answers, saved_g, NULL)"
            " FROM batches WHERE (?1 = '' OR id = ?1)"
            " AND (?2 OR ?1 != '' OR ended_at IS NULL) ORDER BY number",
            (batch_id, ended),
        ).fetchall()
        return [_batch(database, row) for row in rows]


def _batch(database: sqlite3.Connection, row: tuple[object, ...]) -> SeenBatch:
    number, batch_id, owner, status, created, expires, *counted = row
    kinds = database.execute(
        "SELECT model, waiting, under_way, why FROM kinds WHERE batch = ? ORDER BY model",
        (number,),
    )
    total, completed, failed, gco2e, saved_g = counted
    return SeenBatch(
        str(batch_id), str(owner), str(status),
        created, expires,  # type: ignore[arg-type]
        Counts(total, completed, failed),  # type: ignore[arg-type]
        gco2e, saved_g,  # type: ignore[arg-type]
        tuple(SeenKind(*kind) for kind in kinds),
    )  # fmt: skip


@contextmanager
def _open(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / DATABASE
    if not path.is_file():
        raise DataError(f"{folder}: no queue is there; name the folder that `deferral.dir` has")
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise DataError(f"{path}: of format {version}, this version reads {VERSION}")
            yield database
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
