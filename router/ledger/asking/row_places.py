"""Where the receipts of an hour lie: in journals, in files of the folder, in files behind its URL.

A row moves from one to the next, and is in the next before it leaves the one before: whoever looks
in this order finds it, and may find it twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from router.errors import DataError
from router.ledger.journal import journal_batches, plain_schema
from router.ledger.month import US_PER_HOUR
from router.ledger.sealed_files import SUFFIX, partition
from router.ledger.tables import RECEIPTS
from router.ledger.writer_slot import WRITERS
from router.units import HOUR_S
from router.url_files import file_system

# Rows that are decoded at once: some 4 MiB.
BATCH: Final = 8192
_JOURNALS: Final = f"*/{RECEIPTS.name}-*.journal"


class Deadline(NamedTuple):
    """Until when there is time; ``monotonic``: the clock that it is of, s."""

    monotonic: Callable[[], float]
    at: float

    @property
    def is_over(self) -> bool:
        """Whether there is none left."""
        return self.monotonic() >= self.at


class RowFile(NamedTuple):
    """``system`` None: a journal, of this host. Reading raises DataError for what cannot be read
    (any more), naming no folder."""

    system: fs.FileSystem | None
    path: str

    @property
    def name(self) -> str:
        """Without its folder."""
        return self.path.rpartition("/")[2]

    @property
    def is_gone(self) -> bool:
        """Whether it is not there any more: sealed, sent, or made one with others. False where a
        store does not say."""
        if self.system is None:
            return not Path(self.path).exists()
        try:
            kind = self.system.get_file_info(self.path).type
        except (OSError, pa.ArrowException):
            return False
        return bool(kind is fs.FileType.NotFound)

    def batches(
        self, columns: Sequence[str] | None = None, groups: Callable[[Any], bool] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """(place of its first row in the file, record batch), in order; ``columns``: only these;
        ``groups``: of a Parquet file only row groups whose metadata it is true of."""
        try:
            if self.system is None:
                yield from _of_journal(Path(self.path), columns)
            else:
                yield from _of_parquet(self.system, self.path, columns, groups)
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            raise DataError(f"{self.name}: cannot be read: {type(error).__name__}") from error


class RowPlaces:
    """Of one ledger. ``places``: folder, or URL, or both."""

    def __init__(self, places: Sequence[str | Path]) -> None:
        self._places = [str(place) for place in places]
        self._opened: dict[str, tuple[fs.FileSystem, str]] = {}

    def hours(self, first: int, end: int) -> list[int]:
        """Those from ``first`` until before ``end``, hours since 1970, in which there may be rows,
        in order. Raises DataError where a place cannot be read."""
        found: set[int] = set()
        for place in self._places:
            system, root = self._open(place)
            found.update(self._journals_of(system, root))
            for day_folder in _folders(system, f"{root}/{RECEIPTS.name}", "date="):
                start = _hour_of(day_folder)
                if start is None or not (first - 24 < start < end):
                    continue
                for folder in _folders(system, day_folder, "hour="):
                    hour = folder.rpartition("=")[2]
                    if hour.isdigit() and hour.isascii() and int(hour) < 24:
                        found.add(start + int(hour))
        return [hour for hour in sorted(found) if first <= hour < end]

    def files(self, hour: int) -> list[RowFile]:
        """Those of one hour, journals first. Raises DataError where a place cannot be read."""
        found: list[RowFile] = []
        folder = partition(RECEIPTS, hour * HOUR_S)
        for place in self._places:
            system, root = self._open(place)
            journals = self._journals_of(system, root).get(hour, ())
            found += [RowFile(None, str(path)) for path in journals]
            selector = fs.FileSelector(f"{root}/{folder}", allow_not_found=True)
            files = [
                RowFile(system, info.path)
                for info in _infos(system, selector)
                if info.type is fs.FileType.File
                and info.base_name.endswith(SUFFIX)
                and info.base_name[0] not in "._"
            ]
            found += sorted(files, key=lambda file: file.path)
        return found

    def _journals_of(self, system: fs.FileSystem, root: str) -> dict[int, list[Path]]:
        """By the hour of their rows."""
        found: dict[int, list[Path]] = defaultdict(list)
        if not isinstance(system, fs.LocalFileSystem):
            return found
        for path in sorted((Path(root) / WRITERS).glob(_JOURNALS)):
            try:
                batch = next(journal_batches(path), None)
            except OSError:
                # Sealed meanwhile: it is among the files.
                continue
            if batch is not None and batch.num_rows:
                found[batch.column(RECEIPTS.time)[0].value // US_PER_HOUR].append(path)
        return found

    def _open(self, place: str) -> tuple[fs.FileSystem, str]:
        if place not in self._opened:
            self._opened[place] = file_system(place)
        return self._opened[place]


def plain_rows(batch: Any) -> pa.Table:
    """``batch`` in the columns of receipts as they are now, names as plain texts."""
    schema = plain_schema(RECEIPTS.schema)
    names = set(batch.schema.names)
    return pa.Table.from_arrays(
        [
            batch.column(field.name).cast(field.type)
            if field.name in names
            else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def may_hold(column: str, value: str) -> Callable[[Any], bool]:
    """Whether a row group can have ``value`` in ``column``, by what its metadata say of the
    smallest and largest there."""

    def told(group: Any) -> bool:
        for at in range(group.num_columns):
            one = group.column(at)
            if one.path_in_schema == column:
                known = one.statistics
                if known is None or not known.has_min_max:
                    return True
                least, most = known.min, known.max
                if not (isinstance(least, str) and isinstance(most, str)):
                    return True
                # As bytes: in the order that Parquet compares them in.
                return least.encode() <= value.encode(errors="replace") <= most.encode()
        return False

    return told


def is_equal(batch: Any, column: str, value: str) -> Any:
    """A mask of the rows that have ``value`` in ``column``."""
    texts = batch.column(column)
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    return pc.fill_null(pc.equal(texts, value), False)


def _of_journal(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[int, Any]]:
    at = 0
    for batch in journal_batches(path):
        yield at, batch if columns is None else batch.select(list(columns))
        at += batch.num_rows


def _of_parquet(
    system: fs.FileSystem,
    path: str,
    columns: Sequence[str] | None,
    groups: Callable[[Any], bool] | None,
) -> Iterator[tuple[int, Any]]:
    with system.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
        metadata = file.metadata
        known = set(file.schema_arrow.names)
        wanted = None if columns is None else [name for name in columns if name in known]
        at = 0
        for group in range(metadata.num_row_groups):
            told = metadata.row_group(group)
            if groups is None or groups(told):
                place = at
                for batch in file.iter_batches(BATCH, [group], wanted, use_threads=False):
                    yield place, batch
                    place += batch.num_rows
            at += told.num_rows


def _folders(system: fs.FileSystem, folder: str, prefix: str) -> list[str]:
    selector = fs.FileSelector(folder, allow_not_found=True)
    return [
        info.path
        for info in _infos(system, selector)
        if info.type is fs.FileType.Directory and info.base_name.startswith(prefix)
    ]


def _infos(system: fs.FileSystem, selector: fs.FileSelector) -> Any:
    try:
        return system.get_file_info(selector)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"the ledger cannot be read: {type(error).__name__}") from error


def _hour_of(folder: str) -> int | None:
    """Hours since 1970 at which the day of ``.../date=YYYY-MM-DD`` begins."""
    try:
        day = datetime.strptime(folder.rpartition("=")[2], "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(day.timestamp() // HOUR_S)
