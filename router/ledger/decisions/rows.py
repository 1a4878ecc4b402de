"""Kept decisions as rows of Parquet, and back, bit for bit.

One row a decision. Of its candidates there is a list in each live column, in the order in which the
fleet's document has them; what they are else is in the documents that ``snapshot`` leads to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.answered import ANSWER_FIGURES, KeptAnswer, answer_of
from router.core.lengths import Expected
from router.core.seen import DecisionInput, DecisionKind, KeptDecision, Ruled
from router.errors import DataError
from router.ledger.decisions.documents import tenant_in_record
from router.model import Budget, Request

_JOINT: Final = ";"
# The year 2200.
_LATEST_S: Final = 7.3e9
_NAME: Final = pa.dictionary(pa.int32(), pa.string())
_LIST: Final = pa.list_(pa.float64())
_FIGURES: Final = tuple(f"predicted_{name}" for name in ANSWER_FIGURES)
_LIVE: Final = tuple(f"live_{name}" for name in k.LIVE_NAMES)
_NAMES: Final = (
    "writer", "kind", "snapshot", "policy", "code", "model", "version", "origin", "tenant",
    "residency", "ignored", "tried", "pinned", "refusal", "endpoint", "endpoint_version",
    "latency_first_endpoint", "relaxed", "flags",
)  # fmt: skip
_DOUBLES: Final = (
    "probability", "at", "monotonic", "ttft_budget_ms", "tpot_budget_ms", "e2e_budget_ms",
    "input_tokens", "output_tokens", "output_tokens_quantile", "network_j",
)  # fmt: skip
# Later than the others: ledgers that have no such columns had no aliases.
_FLOORS: Final = ("quality_floor", "agreed_floor")

SCHEMA: Final = pa.schema(
    [
        *((name, _NAME) for name in _NAMES),
        ("decision_id", pa.string()),
        ("attempt", pa.int32()),
        ("decided_at", pa.timestamp("us", tz="UTC")),
        ("explicit_budget", pa.bool_()),
        *((name, pa.float64()) for name in _DOUBLES),
        ("draws", _LIST),
        ("rulings", pa.string()),
        *((name, pa.float64()) for name in _FIGURES),
        *((name, _LIST) for name in _LIVE),
        ("cached", _LIST),
        *((name, pa.float64()) for name in _FLOORS),
    ]
)


# Of all columns but that of prompts of which nothing is known.
_NEEDED: Final = tuple(name for name in SCHEMA.names if name != "cached")


class RowContext(NamedTuple):
    """What rows of one process share. ``tenant_name``: how the ledger names a tenant, ""
    where it leaves them out."""

    writer: str
    code: str
    tenant_name: Callable[[str], str]


class NamedSnapshot(NamedTuple):
    """``id``: of its document; ``policy``: the name and hash of its policy, as rows have it."""

    id: str
    policy: str


class DecisionRow(NamedTuple):
    """One kept decision as it was read. ``policy``: its name and hash; ``code``: which decided."""

    decision_id: str
    kind: DecisionKind
    attempt: int
    probability: float
    snapshot: str
    policy: str
    code: str
    seen: DecisionInput
    answer: KeptAnswer


def decision_table(
    kept: Sequence[KeptDecision], snapshots: Sequence[NamedSnapshot], context: RowContext
) -> pa.Table:
    """``snapshots``: of each."""
    cells: dict[str, list[Any]] = {
        name: [] for name in (*_NAMES, *_DOUBLES, *_FLOORS, "decision_id", "attempt", "rulings")
    }
    answers = [answer_of(one.sight.answered) for one in kept]
    for one, answer, snapshot in zip(kept, answers, snapshots, strict=True):
        for name, cell in _cells(one, answer, snapshot, context).items():
            cells[name].append(cell)
    seen = [one.sight.seen for one in kept]
    nothing = (math.nan,) * len(ANSWER_FIGURES)
    figures = np.array([one.figures or nothing for one in answers]).reshape(-1, len(ANSWER_FIGURES))
    columns: dict[str, Any] = {
        **cells,
        "decided_at": [round(one.at * 1e6) for one in seen],
        "explicit_budget": [one.request.budget.explicit for one in seen],
        "draws": _lists([np.array(one.draws) for one in seen]),
        "cached": _lists([one.cached for one in seen]),
        **{name: figures[:, place] for place, name in enumerate(_FIGURES)},
        **_live_lists([one.live for one in seen]),
    }
    return pa.Table.from_arrays(
        [
            columns[field.name]
            if isinstance(columns[field.name], pa.Array)
            else pa.array(columns[field.name], field.type)
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )


def decision_rows(table: pa.Table) -> Iterator[DecisionRow]:
    """Of a table of this schema, with or without further columns. Raises DataError for one that is
    not, or whose cells are out of their range."""
    for name in _FLOORS:
        if name not in table.column_names:
            table = table.append_column(name, pa.array([0.0] * table.num_rows, pa.float64()))
    try:
        table = table.select(SCHEMA.names).cast(_plain(SCHEMA)).combine_chunks()
        missing = [name for name in _NEEDED if table.column(name).null_count]
        if missing:
            raise ValueError(f"null cells of {', '.join(missing)}")
        live = _live_of([table.column(name) for name in _LIVE])
        cached, draws = _split(table.column("cached")), _split(table.column("draws"))
        rows = table.drop_columns([*_LIVE, "cached", "draws"]).to_pydict()
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise DataError(f"not decisions of a ledger: {error}") from None
    figures = list(zip(*(rows[name] for name in _FIGURES), strict=True))
    for place in range(table.num_rows):
        row = {name: cells[place] for name, cells in rows.items()}
        given = draws[place]
        yield _row(
            row,
            DecisionInput(
                _request(row),
                Expected(row["input_tokens"], row["output_tokens"], row["output_tokens_quantile"]),
                live[place],
                cached[place],
                row["at"],
                row["monotonic"],
                row["network_j"],
                _parts(row["tried"]),
                row["pinned"],
                () if given is None else tuple(given.tolist()),
                _rulings(row["rulings"]),
            ),
            figures[place],
        )


def _cells(
    kept: KeptDecision, answer: KeptAnswer, snapshot: NamedSnapshot, context: RowContext
) -> dict[str, Any]:
    seen = kept.sight.seen
    request, budget = seen.request, seen.request.budget
    return {
        "writer": context.writer,
        "kind": kept.kind,
        "snapshot": snapshot.id,
        "policy": snapshot.policy,
        "code": context.code,
        "model": request.model,
        "version": request.version,
        "origin": request.origin,
        "tenant": tenant_in_record(
            request.tenant, kept.sight.snapshot.layout.fleet.residency, context.tenant_name
        ),
        "residency": _JOINT.join(sorted(request.residency)),
        "ignored": _JOINT.join(request.ignored),
        "tried": _JOINT.join(seen.tried),
        "pinned": seen.pinned,
        "refusal": answer.refusal,
        "endpoint": answer.endpoint,
        "endpoint_version": answer.version,
        "latency_first_endpoint": answer.latency_first_endpoint,
        "relaxed": _JOINT.join(answer.relaxed),
        "flags": _JOINT.join(answer.flags),
        "decision_id": kept.decision_id,
        "attempt": kept.attempt,
        "probability": kept.sight.probability,
        "at": seen.at,
        "monotonic": seen.monotonic,
        "ttft_budget_ms": budget.ttft_ms,
        "tpot_budget_ms": budget.tpot_ms,
        "e2e_budget_ms": budget.e2e_ms,
        "input_tokens": seen.expected.input_tokens,
        "output_tokens": seen.expected.output_tokens,
        "output_tokens_quantile": seen.expected.output_tokens_quantile,
        "network_j": seen.network_j,
        "quality_floor": request.quality_floor,
        "agreed_floor": request.agreed_floor,
        "rulings": msgspec.json.encode(seen.rulings).decode() if seen.rulings else "",
    }


def _row(row: dict[str, Any], seen: DecisionInput, figures: tuple[float, ...]) -> DecisionRow:
    refusal = row["refusal"]
    try:
        kind = DecisionKind(row["kind"])
    except ValueError as error:
        raise DataError(f"not decisions of a ledger: {error}") from None
    if not 0.0 < row["probability"] <= 1.0:
        raise DataError(f"a decision kept with probability {row['probability']}")
    if not 0.0 <= row["at"] <= _LATEST_S:
        raise DataError(f"a decision of {row['at']} s after 1970")
    return DecisionRow(
        row["decision_id"],
        kind,
        row["attempt"],
        row["probability"],
        row["snapshot"],
        row["policy"],
        row["code"],
        seen,
        KeptAnswer(
            refusal,
            row["endpoint"],
            row["endpoint_version"],
            row["latency_first_endpoint"],
            _parts(row["relaxed"]),
            _parts(row["flags"]),
            () if refusal else figures,
        ),
    )


def _request(row: dict[str, Any]) -> Request:
    limits = row["ttft_budget_ms"], row["tpot_budget_ms"], row["e2e_budget_ms"]
    return Request(
        model=row["model"],
        version=row["version"],
        origin=row["origin"],
        tenant=row["tenant"],
        residency=frozenset(_parts(row["residency"])),
        budget=Budget(*limits, row["explicit_budget"]),
        ignored=_parts(row["ignored"]),
        quality_floor=row["quality_floor"],
        agreed_floor=row["agreed_floor"],
    )


def _rulings(text: str) -> tuple[Ruled | None, ...]:
    if not text:
        return ()
    try:
        return msgspec.json.decode(text, type=tuple[Ruled | None, ...])
    except msgspec.MsgspecError as error:
        raise DataError(f"not what carbon budgets said: {error}") from None


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(_JOINT)) if text else ()


def _lists(columns: Sequence[NDArray[np.float64] | None]) -> pa.Array:
    """One list a row; null of None."""
    there = [column for column in columns if column is not None]
    values = np.concatenate(there) if there else np.empty(0)
    lengths = [0 if column is None else len(column) for column in columns]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    missing = np.array([column is None for column in columns] + [False])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32(), mask=missing), pa.array(values, pa.float64())
    )


def _live_lists(lives: Sequence[NDArray[np.float64]]) -> dict[str, pa.Array]:
    """By column; one list a row."""
    lengths = [live.shape[1] for live in lives]
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32), pa.int32())
    side_by_side = np.concatenate(lives, axis=1) if lives else np.empty((len(_LIVE), 0))
    return {
        name: pa.ListArray.from_arrays(offsets, pa.array(values, pa.float64()))
        for name, values in zip(_LIVE, side_by_side, strict=True)
    }


def _live_of(columns: Sequence[pa.ChunkedArray]) -> list[NDArray[np.float64]]:
    """The live columns (k.LIVE_ROWS, n) of each row. Raises ValueError."""
    parts = [_flat(column) for column in columns]
    offsets = parts[0].offsets
    for part in parts:
        if not part.is_there.all():
            raise ValueError("a decision without its live columns")
        if not np.array_equal(part.offsets, offsets):
            raise ValueError("live columns of different lengths")
    together = np.stack([part.values for part in parts])
    bounds = offsets.tolist()
    return [np.ascontiguousarray(together[:, first:end]) for first, end in pairwise(bounds)]


def _split(column: pa.ChunkedArray) -> list[NDArray[np.float64] | None]:
    """The list of each row. Raises ValueError."""
    part = _flat(column)
    bounds = part.offsets.tolist()
    return [
        part.values[bounds[place] : bounds[place + 1]] if is_there else None
        for place, is_there in enumerate(part.is_there.tolist())
    ]


class _Flat(NamedTuple):
    """Lists one after the other; ``offsets`` (rows + 1,)."""

    values: NDArray[np.float64]
    offsets: NDArray[np.int64]
    is_there: NDArray[np.bool_]


def _flat(column: pa.ChunkedArray) -> _Flat:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], _LIST)
    offsets = array.offsets.to_numpy().astype(np.int64)
    # Of a slice, values that are not its own may come before.
    values = array.values.slice(offsets[0], offsets[-1] - offsets[0])
    if values.null_count:
        raise ValueError("lists with cells that are null")
    # A copy: the kernel takes nothing that is read only.
    figures = np.array(values.to_numpy(zero_copy_only=False), np.float64)
    there = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    return _Flat(figures, offsets - offsets[0], there)


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [field.with_type(pa.string()) if field.type == _NAME else field for field in schema]
    )
