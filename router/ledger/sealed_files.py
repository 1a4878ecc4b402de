"""Parquet files of a ledger: rows that stay as they are, and the links that say so.

``TABLE/date=YYYY-MM-DD/hour=HH/WRITER-FIRSTSEQ.parquet``, by the hour, UTC, of the rows' time. A
file is written aside, brought to the disk and renamed: it is there whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from router.errors import DataError
from router.ledger.columns import CellType
from router.ledger.links import NO_LINK, ChainLink, Gap, decoded_links, encoded_links, hashed
from router.ledger.row_digest import row_digest
from router.ledger.tables import LedgerTable, arrow_table
from router.units import HOUR_S

LINKS_KEY: Final = b"carbon_router.links"
SUFFIX: Final = ".parquet"
ROW_GROUP: Final = 1 << 18
_LEVEL: Final = 1
# Of few different values, though they are numbers.
_REPEATED: Final = frozenset(
    (
        "pue", "g_per_kwh", "low_g_per_kwh", "high_g_per_kwh", "marginal_g_per_kwh",
        "intensity_observed_at", "ttft_budget_ms", "tpot_budget_ms", "e2e_budget_ms",
    )
)  # fmt: skip
_ENCODINGS: Final = {
    CellType.TIME: "DELTA_BINARY_PACKED",
    CellType.COUNT: "DELTA_BINARY_PACKED",
    CellType.SINGLE: "BYTE_STREAM_SPLIT",
    CellType.DOUBLE: "BYTE_STREAM_SPLIT",
}


class Sealed(NamedTuple):
    """One file that was sealed, and its link."""

    path: Path
    link: ChainLink


class Head(NamedTuple):
    """Where a writer stands: its newest link and that one's hash, and the last row numbered."""

    link: int = 0
    hash: str = NO_LINK
    last_seq: int = 0


FIRST: Final = Head()


def partition(table: LedgerTable, unix_s: float) -> str:
    """The folder, relative to the ledger's, of rows of this time."""
    when = datetime.fromtimestamp(unix_s // HOUR_S * HOUR_S, UTC)
    return f"{table.name}/date={when:%Y-%m-%d}/hour={when:%H}"


def file_name(writer: str, first_seq: int) -> str:
    """Of the file of a link."""
    return f"{writer}-{first_seq:012d}{SUFFIX}"


def next_link(
    table: LedgerTable,
    rows: pa.Table,
    writer: str,
    head: Head,
    gaps: Sequence[Gap] = (),
    through: int | None = None,
) -> ChainLink:
    """Of ``rows``, at least one, after ``head``. ``through``: see `ChainLink`; left out: the last
    of them."""
    seqs = rows.column("seq").to_numpy()
    return hashed(
        ChainLink(
            table.name,
            writer,
            head.link + 1,
            int(seqs.min()),
            int(seqs.max()),
            rows.num_rows,
            row_digest(table, rows),
            head.hash,
            tuple(gaps),
            int(seqs.max()) if through is None else through,
        )
    )


def seal(
    table: LedgerTable,
    rows: pa.Table,
    root: Path,
    writer: str,
    head: Head = FIRST,
    gaps: Sequence[Gap] = (),
) -> Sealed:
    """Write ``rows``, all of one hour, into the ledger at ``root``; the link goes on from ``head``.

    Raises OSError, and leaves no file: also where there is one of that name.
    """
    link = next_link(table, rows, writer, head, gaps)
    time = rows.column(table.time)[0].value / 1e6
    path = root / partition(table, time) / file_name(writer, link.first_seq)
    write_parquet(table, rows, (link,), path)
    return Sealed(path, link)


def seal_rows(
    table: LedgerTable, rows: Sequence[Sequence[Any]], root: Path, writer: str, head: Head = FIRST
) -> Sealed:
    """`seal` of cells as `arrow_table` takes them."""
    return seal(table, arrow_table(table, writer, head.last_seq + 1, rows), root, writer, head)


def write_parquet(
    table: LedgerTable,
    rows: pa.Table,
    links: Sequence[ChainLink],
    path: Path,
    replace: bool = False,
) -> None:
    """Raises OSError, FileExistsError too unless it may ``replace`` a file, and changes nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.aside")
    schema = rows.schema.with_metadata({LINKS_KEY: encoded_links(links)})
    try:
        with aside.open("wb") as file:
            pq.write_table(
                rows.cast(schema), file, row_group_size=ROW_GROUP, **parquet_options(table)
            )
            file.flush()
            os.fsync(file.fileno())
        if not replace and path.exists():
            raise FileExistsError(f"{path} is there already")
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def parquet_options(table: LedgerTable) -> dict[str, Any]:
    """How columns are encoded: by measurement (benchmarks/ledger.py)."""
    names = {one.name for one in table.columns if one.type is CellType.NAME}
    names |= {one.name for one in table.columns if one.name in _REPEATED}
    return {
        "compression": "zstd",
        "compression_level": _LEVEL,
        "use_dictionary": sorted(names),
        "column_encoding": {
            one.name: _ENCODINGS[one.type]
            for one in table.columns
            if one.type in _ENCODINGS and one.name not in names
        },
        "write_statistics": True,
        # The schema's metadata, links included, travels in it.
        "store_schema": True,
    }


def read_links(file: pq.ParquetFile) -> tuple[ChainLink, ...]:
    """Of one file. Raises DataError for a file that is none of a ledger."""
    metadata = file.schema_arrow.metadata or {}
    if LINKS_KEY not in metadata:
        raise DataError("a Parquet file, but none that a ledger wrote")
    return decoded_links(metadata[LINKS_KEY])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
