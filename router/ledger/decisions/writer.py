"""Writes kept decisions down, in a thread of its own.

Who keeps one hands over what is immutable by then and goes on. The queue is bounded by rows and by
bytes: what finds it full is dropped and counted. So is what the store does not take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import pyarrow as pa

from router.contract import Clock
from router.core.columns import Snapshot
from router.core.layout import Layout
from router.core.seen import KeptDecision
from router.ledger.decisions.documents import (
    document_id,
    fleet_document,
    policy_hash,
    snapshot_document,
)
from router.ledger.decisions.files import (
    DECISIONS,
    DOCUMENT_SCHEMA,
    DOCUMENTS,
    DecisionFiles,
    hour_folder,
)
from router.ledger.decisions.rows import NamedSnapshot, RowContext, decision_table
from router.units import HOUR_S

# What a killed process loses at most of the record; small files would cost more than their rows.
FLUSH_S: Final = 60.0
MOST_WAITING: Final = 20_000
MOST_WAITING_BYTES: Final = 64 * 2**20
# So many rows are worth a file before their time.
_WRITE_AT: Final = 4096
# Between two looks at what waits, and the rows that are made in one go: a millisecond or two.
_LOOK_S: Final = 0.5
_MAKE_ROWS: Final = 16
_HASH_DIGITS: Final = 12

_log = logging.getLogger(__name__)


class RecordCounts(NamedTuple):
    """Decisions: ``written``; ``dropped``, because the queue was full; ``lost``, because the store
    did not take them."""

    written: int
    dropped: int
    lost: int


class _Known(NamedTuple):
    """A snapshot, kept so that its identity stays its own; its name, and its documents by id."""

    snapshot: Snapshot
    named: NamedSnapshot
    documents: tuple[tuple[str, bytes], ...]


class _Batch(NamedTuple):
    """Rows of one hour (unix s) that are to be written, and the documents that they name."""

    hour: float
    table: pa.Table
    documents: Mapping[str, bytes]


class DecisionWriter:
    """`keep` from any thread; `start` it, and `close` it for the last rows to be written."""

    def __init__(
        self,
        files: DecisionFiles,
        context: RowContext,
        clock: Clock,
        told: Callable[[str, int], None] = lambda outcome, rows: None,
        flush_s: float = FLUSH_S,
    ) -> None:
        """``clock``: names files, and says when one is due. ``told``: rows that were ``written`` or
        ``dropped``, from any thread."""
        self._files = files
        self._context = context
        self._clock = clock
        self._told = told
        self._flush_s = flush_s
        self._waiting: deque[KeptDecision] = deque()
        self._bytes = 0
        self._made: list[_Batch] = []
        self._written = self._dropped = self._lost = 0
        self._number = 0
        self._known: dict[int, _Known] = {}
        self._fleet: tuple[Layout, str, bytes] | None = None
        # Documents that the hour has.
        self._hour = -1.0
        self._there: set[str] = set()
        self._due = threading.Event()
        self._lock = threading.Lock()
        self._stops = False
        self._thread: threading.Thread | None = None

    @property
    def counts(self) -> RecordCounts:
        """Since it was made."""
        return RecordCounts(self._written, self._dropped, self._lost)

    def keep(self, kept: KeptDecision) -> None:
        """Take one; never blocks, never raises."""
        size = kept.sight.seen.live.nbytes
        if len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES:
            self._dropped += 1
            self._told("dropped", 1)
            return
        # Off by a few where the writer takes some away just now; set right whenever it has.
        self._bytes += size
        self._waiting.append(kept)

    def start(self) -> None:
        """Write every `flush_s` from now on."""
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Write what is waiting; False where that takes longer. What comes later is not written."""
        self._stops = True
        self._due.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def flush(self) -> None:
        """Write all that waits; the store's errors are logged and counted."""
        with self._lock:
            self._make()
            made, self._made = self._made, []
            for hour, batches in groupby(made, lambda batch: batch.hour):
                self._write(hour, list(batches))

    def _run(self) -> None:
        wrote_at = self._clock.monotonic()
        while not self._stops:
            self._due.wait(_LOOK_S)
            with self._lock:
                self._make()
                rows = sum(batch.table.num_rows for batch in self._made)
            if self._clock.monotonic() - wrote_at >= self._flush_s or rows >= _WRITE_AT:
                wrote_at = self._clock.monotonic()
                self.flush()
        self.flush()

    def _make(self) -> None:
        """Rows of what waits, a few at a time: the event loop has its turn in between."""
        while self._waiting:
            taken: list[KeptDecision] = []
            while self._waiting and len(taken) < _MAKE_ROWS:
                taken.append(self._waiting.popleft())
            for hour, kept in groupby(taken, lambda one: one.sight.seen.at // HOUR_S * HOUR_S):
                rows = list(kept)
                try:
                    known = [self._named(one.sight.snapshot) for one in rows]
                    table = decision_table(rows, [one.named for one in known], self._context)
                    documents = {key: body for one in known for key, body in one.documents}
                    self._made.append(_Batch(hour, table, documents))
                except Exception as error:
                    self._lose(len(rows), error)
            time.sleep(0)
        self._bytes = sum(one.sight.seen.live.nbytes for one in tuple(self._waiting))

    def _write(self, hour: float, batches: Sequence[_Batch]) -> None:
        count = sum(batch.table.num_rows for batch in batches)
        try:
            if hour != self._hour:
                self._hour, self._there = hour, set()
            self._write_documents(hour, batches)
            table = pa.concat_tables(batch.table for batch in batches).unify_dictionaries()
            self._files.write(hour_folder(DECISIONS, hour), self._next_name(), table)
        except Exception as error:
            self._lose(count, error)
        else:
            self._written += count
            self._told("written", count)

    def _lose(self, count: int, error: Exception) -> None:
        """Whatever it is: the record must not stop, and nobody else would say so."""
        self._lost += count
        self._told("dropped", count)
        _log.warning("%d kept decisions are lost: %r", count, error)

    def _write_documents(self, hour: float, batches: Iterable[_Batch]) -> None:
        new = {
            key: body
            for one in batches
            for key, body in one.documents.items()
            if key not in self._there
        }
        if new:
            table = pa.Table.from_pydict(
                {"id": list(new), "body": list(new.values())}, schema=DOCUMENT_SCHEMA
            )
            self._files.write(hour_folder(DOCUMENTS, hour), self._next_name(), table)
            self._there |= new.keys()

    def _named(self, snapshot: Snapshot) -> _Known:
        known = self._known.get(id(snapshot))
        if known is None:
            fleet, body = self._fleet_of(snapshot.layout)
            document = snapshot_document(snapshot, fleet)
            key = document_id(document)
            policy = f"{snapshot.policy.name} {policy_hash(snapshot.policy)[:_HASH_DIGITS]}"
            known = _Known(snapshot, NamedSnapshot(key, policy), ((fleet, body), (key, document)))
            # Decisions that wait may be of the last few of them.
            while len(self._known) >= 8:
                del self._known[next(iter(self._known))]
            self._known[id(snapshot)] = known
        return known

    def _fleet_of(self, layout: Layout) -> tuple[str, bytes]:
        if self._fleet is None or self._fleet[0] is not layout:
            body = fleet_document(layout, self._context.tenant_name)
            self._fleet = layout, document_id(body), body
        return self._fleet[1:]

    def _next_name(self) -> str:
        """Of a file: unlike any other's of this writer, whenever it ran."""
        self._number += 1
        return f"{self._context.writer}-{round(self._clock.now() * 1e3)}-{self._number}"
