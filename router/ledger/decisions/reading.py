"""Kept decisions of a ledger, with the snapshots that they were taken on."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
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
        self._bodies: dict[str, bytes] | None = None
        self._layouts: dict[str, Layout] = {}
        self._snapshots: OrderedDict[str, KeptSnapshot | None] = OrderedDict()

    def __iter__(self) -> Iterator[DecisionRead]:
        """By hour. Raises DataError for files that cannot be read, and for documents that are no
        such."""
        for path in self._files.paths(DECISIONS, self._since, self._until):
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
        return self._layouts[key]

    def _document(self, key: str) -> bytes | None:
        body = self._documents().get(key)
        if body is not None and document_id(body) != key:
            raise DataError(f"the document {key} is not what it was")
        return body

    def _documents(self) -> dict[str, bytes]:
        if self._bodies is None:
            self._bodies = {}
            for path in self._files.paths(DOCUMENTS, self._since, self._until):
                for table in self._files.read(path, DOCUMENT_SCHEMA):
                    rows = zip(
                        table.column("id").to_pylist(),
                        table.column("body").to_pylist(),
                        strict=True,
                    )
                    self._bodies.update(rows)
        return self._bodies
