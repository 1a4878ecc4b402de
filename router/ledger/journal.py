"""Rows that are not in a sealed file yet, on the disk of their process: a file that is appended to.

A header with the table's schema, then frames: length, CRC-32, and the rows as one Arrow record
batch. Each is brought to the disk before the next; a frame that is not whole is none, and nothing
after it is read.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import pyarrow as pa

from router.ledger.tables import LedgerTable

_MAGIC: Final = b"carbon-router ledger 1\n"
_FRAME: Final = struct.Struct("<4sII")
_MARK: Final = b"ROWS"
_MOST_BYTES: Final = 1 << 30


class Journal:
    """One that is written. Never two processes; the slot of the writer sees to that."""

    def __init__(self, path: Path, table: LedgerTable) -> None:
        """Begin a new file. Raises OSError, FileExistsError among them."""
        self.path = path
        self.rows = 0
        self._schema = plain_schema(table.schema)
        schema = self._schema.serialize()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        self._size = 0
        try:
            self._write(_MAGIC + _frame(schema))
        except OSError:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    def append(self, rows: pa.Table) -> None:
        """Bring ``rows`` to the disk. Raises OSError, and leaves the file as it was."""
        batch = rows.cast(self._schema).combine_chunks().to_batches()[0]
        self._write(_frame(batch.serialize()))
        self.rows += batch.num_rows

    def close(self) -> None:
        """It is not written any more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            # What came after half a frame would never be read.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)


class ReadJournal(NamedTuple):
    """``rows``: of all frames that are whole; ``cut_bytes``: behind those."""

    rows: pa.Table
    cut_bytes: int


def read_journal(path: Path, table: LedgerTable) -> ReadJournal:
    """What a journal holds; nothing of one that is cut short before its first frame, or is none.

    Raises OSError.
    """
    empty = table.schema.empty_table()
    found: list[Any] = []
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(_MAGIC)) != _MAGIC:
            return ReadJournal(empty, size)
        whole = file.tell()
        for part in _parts(file):
            whole = file.tell()
            found.append(part)
    if len(found) < 2:
        return ReadJournal(empty, size - whole)
    rows = pa.Table.from_batches(found[1:], found[0])
    return ReadJournal(_in_columns(rows, table), size - whole)


def journal_batches(path: Path) -> Iterator[Any]:
    """The record batches of a journal that may be written at the same time, one after the other, as
    far as they are whole; nothing of what is no journal. Names are plain texts.

    Raises OSError.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            yield from itertools.islice(_parts(file), 1, None)


def _parts(file: BinaryIO) -> Iterator[Any]:
    """The schema, then batches."""
    schema = None
    while (payload := _next_payload(file)) is not None:
        try:
            if schema is None:
                schema = pa.ipc.read_schema(pa.py_buffer(payload))
                yield schema
            else:
                yield pa.ipc.read_record_batch(pa.py_buffer(payload), schema)
        except pa.ArrowException:
            return


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """``schema`` with names as plain texts: a journal holds no dictionaries."""
    return pa.schema(
        [
            pa.field(
                field.name,
                field.type.value_type if pa.types.is_dictionary(field.type) else field.type,
                field.nullable,
            )
            for field in schema
        ]
    )


def _in_columns(rows: pa.Table, table: LedgerTable) -> pa.Table:
    """``rows``, as the table is now: a journal may be of a version before."""
    columns = []
    for field in table.schema:
        if field.name in rows.column_names:
            columns.append(_cast(rows.column(field.name), field.type))
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return column.combine_chunks().dictionary_encode()
    return column.cast(kind)


def _frame(payload: Any) -> bytes:
    body = memoryview(payload)
    return _FRAME.pack(_MARK, len(body), zlib.crc32(body)) + bytes(body)


def _next_payload(file: BinaryIO) -> bytes | None:
    """Of the frame that begins where ``file`` stands; None where there is no whole one."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    mark, length, crc = _FRAME.unpack(head)
    if mark != _MARK or length > _MOST_BYTES:
        return None
    body = file.read(length)
    return body if len(body) == length and zlib.crc32(body) == crc else None
