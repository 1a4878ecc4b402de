"""Of the kept decisions, the newest before some time, read for whoever looks back.

An hour has many small files: of each only times and owners are read, and of the rows that are
wanted the rest. Snapshots are built of those decisions alone that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from router.errors import DataError
from router.ledger.decisions.documents import (
    KeptSnapshot,
    document_id,
    fleet_of,
    snapshot_fleet,
    snapshot_of,
)
from router.ledger.decisions.files import (
    DECISIONS,
    DOCUMENT_SCHEMA,
    DOCUMENTS,
    DecisionFiles,
)
from router.ledger.decisions.rows import SCHEMA, DecisionRow, decision_rows
from router.units import HOUR_S

# How far before a time its decisions are looked for.
REACH_S: Final = HOUR_S
_KEYS: Final = pa.schema([SCHEMA.field(name) for name in ("at", "tenant", "decision_id", "writer")])


class KeyedRow(NamedTuple):
    """``key``: by which it is found again, and no word of anybody's."""

    key: str
    row: DecisionRow


class _Place(NamedTuple):
    at: float
    files: DecisionFiles
    path: str
    place: int


class NewestDecisions:
    """Of a ledger, which may lie in several places. ``is_late``: asked between files."""

    def __init__(self, files: Sequence[DecisionFiles], is_late: Callable[[], bool]) -> None:
        self._files = files
        self._is_late = is_late
        # Of files that could not be read, or were not any more for want of time.
        self.unread = 0

    def before(self, at: float, most: int, owner: str | None) -> list[KeyedRow]:
        """The ``most`` newest at ``at`` (unix s) and before, oldest first; ``owner``: as it is
        kept, None for all."""
        found: list[_Place] = []
        for files, path in self._paths(at - REACH_S, at + 1e-6):
            keys = self._keys(files, path)
            if keys is None:
                continue
            mask = keys.at <= at
            if owner is not None:
                mask &= keys.tenant == owner
            places = np.flatnonzero(mask)
            newest = places[np.argsort(keys.at[places], kind="stable")[-most:]]
            found += [_Place(float(keys.at[one]), files, path, int(one)) for one in newest]
        found.sort(key=lambda one: one.at)
        return self._read(found[-most:])

    def of_id(self, decision_id: str, hour: float) -> list[KeyedRow]:
        """Those of a request that was decided in the hour from ``hour`` (unix s) on."""
        # It may have ended, and been tried again, in the next.
        found = []
        for files, path in self._paths(hour, hour + 2.0 * HOUR_S):
            keys = self._keys(files, path)
            if keys is not None:
                for one in np.flatnonzero(keys.decision_id == decision_id):
                    found.append(_Place(float(keys.at[one]), files, path, int(one)))
        found.sort(key=lambda one: one.at)
        return self._read(found)

    def of_key(self, key: str) -> list[KeyedRow]:
        """That of a key; none of what is no key."""
        parsed = _parsed(key)
        if parsed is None:
            return []
        at, writer = parsed
        for files, path in self._paths(at - 1e-6, at + 1e-6):
            keys = self._keys(files, path)
            if keys is not None:
                chosen = np.flatnonzero((keys.at == at) & (keys.writer == writer))
                if len(chosen):
                    return self._read([_Place(at, files, path, int(chosen[0]))])
        return []

    def snapshots(self, rows: Iterable[DecisionRow]) -> dict[str, KeptSnapshot]:
        """Those of ``rows``, by their ids, as far as they are there. Raises DataError."""
        wanted = {row.snapshot: row.seen.at for row in rows}
        if not wanted:
            return {}
        times = wanted.values()
        bodies = self._documents(set(wanted), min(times), max(times))
        fleets = {key: snapshot_fleet(body) for key, body in bodies.items()}
        layouts = {
            key: fleet_of(body)
            for key, body in self._documents(
                set(fleets.values()), min(times), max(times)
            ).items()
        }  # fmt: skip
        return {
            key: snapshot_of(body, layouts[fleets[key]])
            for key, body in bodies.items()
            if fleets[key] in layouts
        }

    def _paths(self, since: float, until: float) -> list[tuple[DecisionFiles, str]]:
        """The newest hour first."""
        found = []
        for files in self._files:
            by_hour = files.hours(DECISIONS, since, until)
            found += [(hour, files, path) for hour, paths in by_hour.items() for path in paths]
        found.sort(key=lambda one: -one[0])
        return [(files, path) for _, files, path in found]

    def _keys(self, files: DecisionFiles, path: str) -> _Keys | None:
        if self._is_late():
            self.unread += 1
            return None
        try:
            tables = list(files.read(path, _KEYS))
        except DataError:
            self.unread += 1
            return None
        if not tables:
            return None
        table = pa.concat_tables(tables, promote_options="permissive")
        texts = {name: _texts(table.column(name)) for name in ("tenant", "decision_id", "writer")}
        return _Keys(table.column("at").to_numpy(), **texts)

    def _read(self, places: Sequence[_Place]) -> list[KeyedRow]:
        """In order; a file is read once."""
        by_path: dict[str, list[_Place]] = {}
        for one in places:
            by_path.setdefault(one.path, []).append(one)
        found: list[KeyedRow] = []
        for path, wanted in by_path.items():
            chosen = np.array(sorted(one.place for one in wanted))
            begin = 0
            for table in wanted[0].files.read(path, SCHEMA):
                here = chosen[(chosen >= begin) & (chosen < begin + table.num_rows)] - begin
                begin += table.num_rows
                if len(here):
                    part = table.take(pa.array(here))
                    writers = _texts(part.column("writer"))
                    found += [
                        KeyedRow(_key(row.seen.at, str(writer)), row)
                        for row, writer in zip(decision_rows(part), writers, strict=True)
                    ]
        return sorted(found, key=lambda one: one.row.seen.at)

    def _documents(self, ids: set[str], since: float, until: float) -> dict[str, bytes]:
        """Raises DataError for one that is not what it was."""
        found: dict[str, bytes] = {}
        for files in self._files:
            for path in files.paths(DOCUMENTS, since, until + 1e-6):
                for table in files.read(path, DOCUMENT_SCHEMA):
                    mask = pc.is_in(table.column("id"), pa.array(sorted(ids - found.keys())))
                    part = table.filter(mask)
                    found.update(
                        zip(
                            part.column("id").to_pylist(),
                            part.column("body").to_pylist(),
                            strict=True,
                        )
                    )
                if len(found) == len(ids):
                    break
        for key, body in found.items():
            if document_id(body) != key:
                raise DataError(f"the document {key} is not what it was")
        return found


class _Keys(NamedTuple):
    """(rows,) each, of one file."""

    at: NDArray[np.float64]
    tenant: NDArray[Any]
    decision_id: NDArray[Any]
    writer: NDArray[Any]


def _texts(column: Any) -> NDArray[Any]:
    texts: NDArray[Any] = column.cast(pa.string()).to_numpy(zero_copy_only=False)
    return texts


def _key(at: float, writer: str) -> str:
    return f"kept-{at.hex()}-{writer}"


def _parsed(key: str) -> tuple[float, str] | None:
    begin, _, rest = key.partition("-")
    text, _, writer = rest.partition("-")
    if begin != "kept" or not writer or len(key) > 256:
        return None
    try:
        at = float.fromhex(text)
    except (ValueError, OverflowError):
        return None
    return (at, writer) if 0.0 <= at < 7.3e9 else None
