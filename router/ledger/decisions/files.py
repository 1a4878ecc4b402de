"""The files of kept decisions: ``decisions`` and the ``documents`` that they name, by hour, UTC.

``TABLE/date=YYYY-MM-DD/hour=HH/WRITER-NUMBER.parquet``. A file is written aside and renamed: it is
there whole or not at all. The documents of an hour's decisions lie in the same hour, so that hours
can be taken away one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from router.errors import DataError
from router.ledger.decisions.documents import DECISIONS_VERSION
from router.units import DAY_S, HOUR_S
from router.url_files import file_system

DECISIONS: Final = "decisions"
DOCUMENTS: Final = "documents"
DOCUMENT_SCHEMA: Final = pa.schema([("id", pa.string()), ("body", pa.binary())])
_VERSION_KEY: Final = b"carbon_router.decisions"
_SUFFIX: Final = ".parquet"
_LEVEL: Final = 9
# Rows of one read.
_BATCH: Final = 8192


class DecisionFiles(NamedTuple):
    """A ledger's folder: ``root`` on ``system``."""

    system: fs.FileSystem
    root: str

    def write(self, folder: str, name: str, table: pa.Table) -> None:
        """Raises OSError; then there is no such file."""
        path = f"{self.root}/{folder}/{name}{_SUFFIX}"
        aside = f"{self.root}/{folder}/.{name}{_SUFFIX}.aside"
        marked = table.replace_schema_metadata({_VERSION_KEY: str(DECISIONS_VERSION).encode()})
        self.system.create_dir(f"{self.root}/{folder}", recursive=True)
        with self.system.open_output_stream(aside) as file:
            pq.write_table(marked, file, compression="zstd", compression_level=_LEVEL)
        self.system.move(aside, path)

    def paths(self, kind: str, since: float, until: float) -> list[str]:
        """Of the files of ``kind`` with hours that ``since`` .. ``until`` (unix s) reaches into,
        oldest hour first. Raises DataError for a place that cannot be read."""
        return [path for paths in self.hours(kind, since, until).values() for path in paths]

    def hours(self, kind: str, since: float, until: float) -> dict[float, list[str]]:
        """The same by hour, unix s."""
        base = f"{self.root}/{kind}"
        found = []
        try:
            if self.system.get_file_info(base).type is not fs.FileType.Directory:
                return {}
            for info in self.system.get_file_info(fs.FileSelector(base, recursive=True)):
                hour = _hour_of(info.path[len(base) + 1 :])
                if info.is_file and hour is not None and since < hour + HOUR_S and hour < until:
                    found.append((hour, info.path))
        except OSError as error:
            raise DataError(f"{base}: cannot be read: {error}") from None
        by_hour: dict[float, list[str]] = {}
        for hour, path in sorted(found):
            by_hour.setdefault(hour, []).append(path)
        return by_hour

    def prune(self, before: float) -> int:
        """Remove the files of hours that were over at ``before`` (unix s); how many. Raises
        DataError, OSError; decisions go before their documents."""
        paths = [
            path
            for kind in (DECISIONS, DOCUMENTS)
            for path in self.paths(kind, -math.inf, before // HOUR_S * HOUR_S)
        ]
        for path in paths:
            self.system.delete_file(path)
        return len(paths)

    def read(self, path: str, schema: pa.Schema) -> Iterator[pa.Table]:
        """A file's rows, some thousand at a time. Raises DataError."""
        try:
            with self.system.open_input_file(path) as opened:
                file = pq.ParquetFile(opened)
                said = (file.schema_arrow.metadata or {}).get(_VERSION_KEY)
                if said != str(DECISIONS_VERSION).encode():
                    raise DataError(_foreign(path, said))
                missing = sorted(set(schema.names) - set(file.schema_arrow.names))
                if missing:
                    text = "; another version of the program wrote it"
                    raise DataError(f"{path}: lacks {', '.join(missing)}{text}")
                for batch in file.iter_batches(batch_size=_BATCH, columns=schema.names):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None


def decision_files(where: str | Path) -> DecisionFiles:
    """Of a folder, or a URL that pyarrow knows. Raises DataError for what is neither."""
    return DecisionFiles(*file_system(where))


def hour_folder(kind: str, unix_s: float) -> str:
    """Where rows of this time lie, relative to the ledger."""
    when = datetime.fromtimestamp(unix_s // HOUR_S * HOUR_S, UTC)
    return f"{kind}/date={when:%Y-%m-%d}/hour={when:%H}"


def _hour_of(relative: str) -> float | None:
    """Unix s; None of what is no file of an hour."""
    parts = relative.split("/")
    if len(parts) != 3 or not parts[2].endswith(_SUFFIX) or parts[2].startswith("."):
        return None
    date, hour = parts[0].removeprefix("date="), parts[1].removeprefix("hour=")
    try:
        day = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
        number = int(hour)
    except ValueError:
        return None
    return day + number * HOUR_S if 0 <= number * HOUR_S < DAY_S else None


def _foreign(path: str, said: bytes | None) -> str:
    if said is None:
        return f"{path}: a Parquet file, but none of a ledger's decisions"
    return f"{path}: of version {said!r}, and this program reads {DECISIONS_VERSION}"
