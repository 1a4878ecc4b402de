"""Kept decisions of a ledger, with the snapshots that they were taken on."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from router.core.layout import Layout
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
    decision_files,
)
from router.ledger.decisions.rows import SCHEMA, DecisionRow, decision_rows

# Snapshots held at once: decisions come in order of time, of some writers in turn.
_MOST_SNAPSHOTS: Final = 64
_MOST_LAYOUTS: Final = 16


class DecisionRead(NamedTuple):
    """One kept decision. ``kept``: its snapshot, None where its documents are missing."""

    row: DecisionRow
    kept: KeptSnapshot | None


class DecisionLedger:
    """Kept decisions of ``where``, a ledger's folder or URL, from ``since`` until ``until`` (unix
    s, not included). Raises DataError for a place that is none."""

    def __init__(
        self, where: str | Path, since: float = -math.inf, until: float = math.inf
    ) -> None:
        self._files: DecisionFiles = decision_files(where)
        self._since, self._until = since, until
        # Documents of the hour that is read: those of a month are more than memory holds.
        self._bodies: dict[str, bytes] = {}
        self._layouts: OrderedDict[str, Layout] = OrderedDict()
        self._snapshots: OrderedDict[str, KeptSnapshot | None] = OrderedDict()

    def __iter__(self) -> Iterator[DecisionRead]:
        """By hour. Raises DataError for files that cannot be read, and for documents that are no
        such."""
        documents = self._files.hours(DOCUMENTS, self._since, self._until)
        for hour, paths in self._files.hours(DECISIONS, self._since, self._until).items():
            self._bodies = self._read(documents.get(hour, ()))
            self._snapshots.clear()
            for path in paths:
                yield from self._decisions(path)

    def _decisions(self, path: str) -> Iterator[DecisionRead]:
        for table in self._files.read(path, SCHEMA):
            try:
                for row in decision_rows(table):
                    if self._since <= row.seen.at < self._until:
                        yield DecisionRead(row, self._snapshot(row.snapshot))
            except DataError as error:
                raise DataError(f"{path}: {error}") from None

    def _snapshot(self, key: str) -> KeptSnapshot | None:
        if key in self._snapshots:
            self._snapshots.move_to_end(key)
            return self._snapshots[key]
        body = self._document(key)
        kept = None
        if body is not None:
            fleet = snapshot_fleet(body)
            layout = self._layout(fleet)
            kept = None if layout is None else snapshot_of(body, layout)
        self._snapshots[key] = kept
        while len(self._snapshots) > _MOST_SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return kept

    def _layout(self, key: str) -> Layout | None:
        if key not in self._layouts:
            body = self._document(key)
            if body is None:
                return None
            self._layouts[key] = fleet_of(body)
            while len(self._layouts) > _MOST_LAYOUTS:
                self._layouts.popitem(last=False)
        return self._layouts[key]

    def _document(self, key: str) -> bytes | None:
        body = self._bodies.get(key)
        if body is not None and document_id(body) != key:
            raise DataError(f"the document {key} is not what it was")
        return body

    def _read(self, paths: Iterable[str]) -> dict[str, bytes]:
        bodies: dict[str, bytes] = {}
        for path in paths:
            for table in self._files.read(path, DOCUMENT_SCHEMA):
                ids, found = table.column("id").to_pylist(), table.column("body").to_pylist()
                bodies.update(zip(ids, found, strict=True))
        return bodies
