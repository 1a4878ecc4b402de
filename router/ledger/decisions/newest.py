"""Of the kept decisions, the newest before some time, read for whoever looks back.

An hour has many small files: of each only times and owners are read, and of the rows that are
wanted the rest. Snapshots are built of those decisions alone that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

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

_Made = TypeVar("_Made")


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
        # Of files and documents that could not be read, or were not any more for want of time.
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
        """Those of ``rows``, by their ids, as far as they are there and can be read. Raises
        DataError where a place cannot be."""
        wanted = {row.snapshot: row.seen.at for row in rows}
        if not wanted:
            return {}
        first, last = min(wanted.values()), max(wanted.values())
        bodies = self._documents(set(wanted), first, last)
        fleets = self._whole(bodies, lambda _, body: snapshot_fleet(body))
        layouts = self._whole(
            self._documents(set(fleets.values()), first, last), lambda _, body: fleet_of(body)
        )
        built = {key: body for key, body in bodies.items() if fleets.get(key) in layouts}
        return self._whole(built, lambda key, body: snapshot_of(body, layouts[fleets[key]]))

    def _paths(self, since: float, until: float) -> list[tuple[DecisionFiles, str]]:
        """The newest hour first. A file that is sent is in two places for a while, by one name."""
        found: dict[tuple[float, str], tuple[DecisionFiles, str]] = {}
        for files in self._files:
            for hour, paths in files.hours(DECISIONS, since, until).items():
                for path in paths:
                    found.setdefault((hour, path.rpartition("/")[2]), (files, path))
        return [found[one] for one in sorted(found, key=lambda one: -one[0])]

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
        """In order; a file is read once, and one that cannot be is left out."""
        by_path: dict[str, list[_Place]] = {}
        for one in places:
            by_path.setdefault(one.path, []).append(one)
        found: list[KeyedRow] = []
        for wanted in by_path.values():
            try:
                found += _rows_at(wanted)
            except DataError:
                self.unread += 1
        return sorted(found, key=lambda one: one.row.seen.at)

    def _documents(self, ids: set[str], since: float, until: float) -> dict[str, bytes]:
        """Those that are what they were. Raises DataError where a place cannot be read."""
        found: dict[str, bytes] = {}
        for files in self._files:
            for path in files.paths(DOCUMENTS, since, until + 1e-6):
                if len(found) == len(ids):
                    return found
                try:
                    found |= _documents_in(files, path, ids - found.keys())
                except DataError:
                    self.unread += 1
        return found

    def _whole(
        self, bodies: Mapping[str, bytes], made: Callable[[str, bytes], _Made]
    ) -> dict[str, _Made]:
        """What each is, without those that are no such documents."""
        found: dict[str, _Made] = {}
        for key, body in bodies.items():
            try:
                found[key] = made(key, body)
            except DataError:
                self.unread += 1
        return found


class _Keys(NamedTuple):
    """(rows,) each, of one file."""

    at: NDArray[np.float64]
    tenant: NDArray[Any]
    decision_id: NDArray[Any]
    writer: NDArray[Any]


def _rows_at(places: Sequence[_Place]) -> list[KeyedRow]:
    """Of one file. Raises DataError."""
    chosen = np.array(sorted(one.place for one in places))
    found: list[KeyedRow] = []
    begin = 0
    for table in places[0].files.read(places[0].path, SCHEMA):
        here = chosen[(chosen >= begin) & (chosen < begin + table.num_rows)] - begin
        begin += table.num_rows
        if len(here):
            part = table.take(pa.array(here))
            writers = _texts(part.column("writer"))
            found += [
                KeyedRow(_key(row.seen.at, str(writer)), row)
                for row, writer in zip(decision_rows(part), writers, strict=True)
            ]
    return found


def _documents_in(files: DecisionFiles, path: str, ids: set[str]) -> dict[str, bytes]:
    """Raises DataError for a file that cannot be read, or one that is not what it was."""
    found: dict[str, bytes] = {}
    for table in files.read(path, DOCUMENT_SCHEMA):
        part = table.filter(pc.is_in(table.column("id"), pa.array(sorted(ids), pa.string())))
        bodies = part.column("body").to_pylist()
        found.update(zip(part.column("id").to_pylist(), bodies, strict=True))
    for key, body in found.items():
        if body is None or document_id(body) != key:
            raise DataError(f"{path}: the document {key} is not what it was")
    return found


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
