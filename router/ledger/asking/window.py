"""The receipts that ended in a short while, as one table: of an owner, or of all.

Bounded in time and in rows; what that leaves out is said.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from router.errors import DataError
from router.ledger.asking.row_places import Deadline, RowPlaces, is_equal
from router.ledger.month import US_PER_HOUR, US_PER_S
from router.ledger.tables import RECEIPTS

MOST_ROWS: Final = 200_000
_TIME: Final = RECEIPTS.time
_KEYS: Final = ("writer", "seq")
COLUMNS: Final = (
    *_KEYS, _TIME, "decision_id", "outcome", "tenant", "model", "region", "gco2e", "energy_j",
    "energy_kind", "intensity_kind", "g_per_kwh", "predicted_gco2e", "latency_first_gco2e",
    "ttft_ms", "e2e_ms", "ttft_budget_ms", "e2e_budget_ms", "output_tokens", "attempt",
)  # fmt: skip


class WindowRows(NamedTuple):
    """``table``: COLUMNS, names as plain texts, in no order. ``is_whole``: whether all that ended
    then is in it: no file could not be read, and time and room were enough."""

    table: pa.Table
    is_whole: bool


def read_window(
    places: RowPlaces, since: float, until: float, owner: str | None, deadline: Deadline
) -> WindowRows:
    """Rows with ``since`` < ``finished_at`` <= ``until``, unix s, the newest hour first; ``owner``:
    as it is kept, None for all. Raises DataError where a place cannot be read."""
    first_us, last_us = round(since * US_PER_S) + 1, round(until * US_PER_S)
    wanted = places.hours(first_us // US_PER_HOUR, last_us // US_PER_HOUR + 1)
    parts: list[pa.Table] = []
    rows, is_whole = 0, True
    for hour in reversed(wanted):
        for file in reversed(places.files(hour)):
            if deadline.is_over or rows >= MOST_ROWS:
                return WindowRows(_each_once(parts), False)
            try:
                for _, batch in file.batches(COLUMNS, _reaches(first_us, last_us)):
                    part = _asked(batch, first_us, last_us, owner)
                    parts.append(part)
                    rows += part.num_rows
            except DataError:
                # Sealed meanwhile, mostly: then it is in a file that was read before, or is not.
                is_whole = False
    return WindowRows(_each_once(parts), is_whole)


def _asked(batch: Any, first_us: int, last_us: int, owner: str | None) -> pa.Table:
    at = batch.column(_TIME).cast(pa.int64())
    mask = pc.and_(pc.greater_equal(at, first_us), pc.less_equal(at, last_us))
    if owner is not None and not owner:
        mask = pc.and_(mask, pc.is_null(batch.column("tenant")))
    elif owner is not None:
        mask = pc.and_(mask, is_equal(batch, "tenant", owner))
    return _plain(pa.Table.from_batches([batch.filter(mask)]))


def _plain(table: pa.Table) -> pa.Table:
    """COLUMNS alone, without dictionaries; those that an older file lacks are null."""
    names = set(table.schema.names)
    columns = []
    for name in COLUMNS:
        field = RECEIPTS.schema.field(name)
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        columns.append(
            table.column(name).cast(kind) if name in names else pa.nulls(table.num_rows, kind)
        )
    return pa.Table.from_arrays(columns, names=list(COLUMNS))


def _reaches(first_us: int, last_us: int) -> Any:
    """Whether a row group may have rows of that time."""
    first = datetime.fromtimestamp(first_us / US_PER_S, UTC)
    last = datetime.fromtimestamp(last_us / US_PER_S, UTC)

    def told(group: Any) -> bool:
        for place in range(group.num_columns):
            one = group.column(place)
            if one.path_in_schema == _TIME:
                known = one.statistics
                if known is None or not known.has_min_max:
                    return True
                # Whatever unit they were written in; a second more on either side is no matter.
                return bool(known.max >= first and known.min <= last)
        return True

    return told


def _each_once(parts: list[pa.Table]) -> pa.Table:
    """A row that was moved from one file to another while both were read is there twice."""
    if not parts:
        return _plain(pa.table({}))
    table = pa.concat_tables(parts)
    writers = table.column("writer").combine_chunks().dictionary_encode()
    if isinstance(writers, pa.ChunkedArray):
        writers = writers.combine_chunks()
    codes = writers.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    seqs = table.column("seq").to_numpy().astype(np.int64)
    order = np.lexsort((seqs, codes))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(codes[order]) != 0) | (np.diff(seqs[order]) != 0)
    return table.take(pa.array(order[new])) if not new.all() else table
