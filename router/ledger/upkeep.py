"""Files of a ledger made fewer, and old ones removed; what is left is still held to account.

Compaction puts files of one hour into one: its rows are theirs in order, its batches are theirs as
they were. Pruning removes whole days and keeps where each writer's chain begins since.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from router.errors import DataError
from router.ledger.chain_files import LedgerFile, LedgerPlace, each_link
from router.ledger.links import encoded_links
from router.ledger.sealed_files import LINKS_KEY, ROW_GROUP, SUFFIX, Head, parquet_options
from router.ledger.tables import LedgerTable


class DayOfFiles(NamedTuple):
    """One day of a ledger. ``missing``: rows that its writers say are missing."""

    day: date
    files: int
    rows: int
    size: int
    writers: int
    missing: int


class Compacted(NamedTuple):
    """So many ``files`` became ``into``."""

    files: int
    into: int


def days(where: str | Path, table: LedgerTable) -> list[DayOfFiles]:
    """Oldest first, by the files' own words alone. Raises DataError."""
    by_day: dict[date, list[LedgerFile]] = defaultdict(list)
    for file in LedgerPlace(where).files(table):
        by_day[file.day].append(file)
    return [
        DayOfFiles(
            day,
            len(files),
            sum(file.rows for file in files),
            sum(file.size for file in files),
            len({link.writer for _, link, _ in each_link(files)}),
            sum(
                gap.last_seq - gap.first_seq + 1
                for _, link, _ in each_link(files)
                for gap in link.gaps
            ),
        )
        for day, files in sorted(by_day.items())
    ]


def compact(where: str | Path, table: LedgerTable, before: float) -> Compacted:
    """Every hour that was over at ``before``, unix s. One that was ended in the middle goes on.

    Raises DataError where a file is none of a ledger, OSError; what was done until then stays.
    """
    place = LedgerPlace(where)
    hours: dict[tuple[date, int], list[LedgerFile]] = defaultdict(list)
    for file in place.files(table):
        if file.fault:
            raise DataError(f"{file.name}: {file.fault}")
        hours[file.day, file.hour].append(file)
    files = into = 0
    for (day, hour), found in sorted(hours.items()):
        over = (day.toordinal() - _EPOCH) * 86_400 + (hour + 1) * 3600
        if over > before or len(found) < 2:
            continue
        files += len(found)
        into += 1
        _merge(place, table, _without_repeated(place, found))
    return Compacted(files, into)


_EPOCH = date(1970, 1, 1).toordinal()


def prune(where: str | Path, table: LedgerTable, before: date) -> int:
    """Remove files of days before ``before``; how many. A writer's later batches stay whole.

    Raises DataError and OSError; what was done until then stays. `verify` tells of files that are
    still there then, and to call it once more removes them.
    """
    place = LedgerPlace(where)
    files = place.files(table)
    heads = place.checkpoints(table)
    goes = _going(files, before)
    for _, link, _ in each_link(goes):
        head = heads.get(link.writer, Head())
        if link.link > head.link:
            last = max(head.last_seq, link.last_seq, *(gap.last_seq for gap in link.gaps), 0)
            heads[link.writer] = Head(link.link, link.hash, last)
    if goes:
        place.keep_checkpoints(table, heads)
    for file in goes:
        place.remove(file.name)
    return len(goes)


def _going(files: Sequence[LedgerFile], before: date) -> list[LedgerFile]:
    """Those of days before ``before`` that lie before all that stays of each of their writers: what
    is left begins after what a checkpoint says."""
    goes = [file for file in files if not file.fault and file.day < before]
    while True:
        names = {file.name for file in goes}
        first: dict[str, int] = {}
        for _, link, _ in each_link([file for file in files if file.name not in names]):
            first[link.writer] = min(link.link, first.get(link.writer, link.link))
        kept = [
            file for file in goes
            if all(link.link < first.get(link.writer, math.inf) for link in file.links)
        ]  # fmt: skip
        if len(kept) == len(goes):
            return goes
        # Of a file with batches of several writers, the others' stay as well.
        goes = kept


def _without_repeated(place: LedgerPlace, files: Sequence[LedgerFile]) -> list[LedgerFile]:
    """``files`` but for those all of whose batches are in another, which are removed."""
    kept = []
    for file in files:
        mine = {link.hash for link in file.links}
        others = (other for other in files if other is not file)
        held = any(
            mine < {link.hash for link in other.links}
            or (mine == {link.hash for link in other.links} and other.name < file.name)
            for other in others
        )
        if held:
            place.remove(file.name)
        else:
            kept.append(file)
    return kept


def _merge(place: LedgerPlace, table: LedgerTable, files: Sequence[LedgerFile]) -> None:
    if len(files) < 2:
        return
    links = [link for file in files for link in file.links]
    if len({link.hash for link in links}) < len(links):
        raise DataError(f"{files[0].name}: some of its hour's batches are there twice: verify")
    body = encoded_links(links)
    folder = files[0].name.rpartition("/")[0]
    name = f"{folder}/compacted-{hashlib.sha256(body).hexdigest()[:16]}{SUFFIX}"
    aside = name if place.is_object_store else f"{folder}/.{name.rpartition('/')[2]}.aside"
    schema = table.schema.with_metadata({LINKS_KEY: body})
    with (
        place.system.open_output_stream(f"{place.root}/{aside}") as target,
        pq.ParquetWriter(target, schema, **parquet_options(table)) as writer,
    ):
        for file in files:
            with place.open(file.name) as parquet:
                rows = parquet.read()
            writer.write_table(_as(rows, schema), row_group_size=ROW_GROUP)
    if aside != name:
        place.system.move(f"{place.root}/{aside}", f"{place.root}/{name}")
    for file in files:
        place.remove(file.name)


def _as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        column = rows.column(field.name)
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
