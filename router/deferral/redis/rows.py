"""Values as Redis keeps them, and back."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from router.deferral.input_lines import duplicate_line
from router.deferral.values import (
    Batch,
    BatchStatus,
    BatchSums,
    BatchTerms,
    Counts,
    LineError,
    StoredFile,
    StoredLine,
    Unanswered,
)

_TERMS: Final = msgspec.json.Decoder(BatchTerms)
_ERRORS: Final = msgspec.json.Decoder(tuple[LineError, ...])
_SUMS: Final[tuple[tuple[str, Any], ...]] = (
    ("input_tokens", int), ("output_tokens", int), ("gco2e", float), ("saved_g", float),
    ("gco2e_answers", int), ("saved_answers", int),
)  # fmt: skip
_SINCE: Final = "t:"
# What is shorter is not packed.
_PACKED_BYTES: Final = 512
_DUPLICATE: Final = b"D"


class _Ended(msgspec.Struct, array_like=True):
    is_ok: bool
    custom_id: str
    code: str
    document: bytes
    is_packed: bool


_ENDED: Final = msgspec.msgpack.Decoder(_Ended)


def file_row(file: StoredFile) -> tuple[str | float, ...]:
    """A file as scripts take it."""
    return (
        file.id, file.owner, file.filename, file.purpose, file.size_bytes, file.created_at,
        file.expires_at,
    )  # fmt: skip


def file_of(file_id: str, row: Sequence[bytes]) -> StoredFile:
    """A file as scripts tell it."""
    owner, filename, purpose, size, created, expires = (one.decode() for one in row)
    return StoredFile(file_id, owner, filename, purpose, int(size), float(created), float(expires))


def terms_bytes(terms: BatchTerms) -> bytes:
    """What `terms_of` reads."""
    return msgspec.json.encode(terms)


def terms_of(raw: bytes) -> BatchTerms:
    """As `terms_bytes` wrote them."""
    return _TERMS.decode(raw)


def pairs(told: Mapping[bytes, bytes] | Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """A hash, however the protocol tells it."""
    if isinstance(told, Mapping):
        return told.items()
    return zip(told[::2], told[1::2], strict=True)


def batch_of(batch_id: str, told: Mapping[bytes, bytes] | Sequence[bytes]) -> tuple[Batch, int]:
    """A batch, and its fence."""
    row = {name.decode(): value for name, value in pairs(told)}
    times = {
        name.removeprefix(_SINCE): float(value)
        for name, value in row.items()
        if name.startswith(_SINCE)
    }
    sums = BatchSums(*(kind(float(row.get(name, b"0"))) for name, kind in _SUMS))
    batch = Batch(
        batch_id,
        row["owner"].decode(),
        BatchStatus(row["status"].decode()),
        _TERMS.decode(row["terms"]),
        float(row["created"]),
        float(row["expires"]),
        times,
        Counts(int(row["total"]), int(row["completed"]), int(row["failed"])),
        sums,
        _ERRORS.decode(row.get("errors", b"[]")),
        row.get("output", b"").decode(),
        row.get("error", b"").decode(),
        Unanswered(int(row.get("expired", b"0")), int(row.get("cancelled", b"0"))),
    )
    return batch, int(row["fence"])


def kept_line(is_ok: bool, custom_id: str, code: str, document: bytes) -> bytes:
    """What is kept of a line that has ended: `line_of` reads it."""
    is_packed = len(document) > _PACKED_BYTES
    packed = zlib.compress(document, 1) if is_packed else document
    return msgspec.msgpack.encode(_Ended(is_ok, custom_id, code, packed, is_packed))


def line_of(line: int, raw: bytes) -> StoredLine:
    """As `kept_line` wrote it, or a line whose custom_id another has."""
    if raw[:1] == _DUPLICATE:
        bad = duplicate_line(line, raw[1:].decode())
        return StoredLine(line, "", False, msgspec.json.encode(bad), bad.error.code)
    kept = _ENDED.decode(raw)
    document = zlib.decompress(kept.document) if kept.is_packed else kept.document
    return StoredLine(line, kept.custom_id, kept.is_ok, document, kept.code)
