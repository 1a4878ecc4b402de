"""Rows of a simulated policy on disk: ``requests.parquet`` and ``replicas.parquet``.

Written part by part, so memory does not grow with the run. Row groups have a fixed size and the
files hold no time stamp: the same run gives the same bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from router.extras import need
from router.lab.sim.result import Columns, RowNames

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUESTS: Final = "requests.parquet"
REPLICAS: Final = "replicas.parquet"
_GROUP_ROWS: Final = 1 << 18

# Order and types of the columns; "code" is a number into `RowNames`, -1 for none.
_REQUEST_COLUMNS: Final = (
    ("request", "whole"), ("arrival_s", "number"), ("origin", "origins"), ("model", "models"),
    ("region", "regions"), ("endpoint", "endpoints"), ("start_s", "number"), ("ttft_s", "number"),
    ("end_s", "number"), ("input_tokens", "tokens"), ("output_tokens", "tokens"),
    ("energy_j_attributional", "number"), ("energy_j_marginal", "number"),
    ("prompt_energy_j_attributional", "number"), ("cached_tokens", "number"),
    ("gco2e_attributional", "number"), ("gco2e_marginal", "number"), ("g_per_kwh", "number"),
    ("budget_met", "truth"), ("shed_reason", "shed_reasons"),
)  # fmt: skip
_REPLICA_COLUMNS: Final = (
    ("minute_s", "number"), ("endpoint", "endpoints"), ("model", "models"),
    ("batch", "number"), ("power_w", "number"), ("active", "number"),
)  # fmt: skip


def folder_of(policy: str) -> str:
    """A policy's folder: its name, with what has a meaning in paths escaped."""
    return quote(policy, safe="@+:") if policy.strip(".") else policy.replace(".", "%2E")


def require_pyarrow() -> None:
    """Raises ConfigError naming the extra when Parquet cannot be written."""
    with need("parquet", "writing rows", file="--out", otherwise="pass --no-rows"):
        import pyarrow.parquet  # noqa: F401


class ParquetSink:
    """A `router.lab.sim.result.Sink` that writes both files into ``folder``; a context manager."""

    def __init__(self, folder: Path, names: RowNames) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._requests = _Table(folder / REQUESTS, _REQUEST_COLUMNS, names)
        self._replicas = _Table(folder / REPLICAS, _REPLICA_COLUMNS, names)

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._requests.close(keep=error is None)
        self._replicas.close(keep=error is None)

    def requests(self, columns: Columns) -> None:
        self._requests.take(columns)

    def replicas(self, columns: Columns) -> None:
        self._replicas.take(columns)


class _Table:
    """One file. It has its name only once it is whole; until then ``.part`` follows it."""

    def __init__(self, path: Path, columns: Sequence[tuple[str, str]], names: RowNames) -> None:
        import pyarrow
        import pyarrow.parquet

        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._columns = columns
        self._texts = {
            kind: pyarrow.array(getattr(names, kind), pyarrow.string())
            for _, kind in columns
            if hasattr(names, kind)
        }
        self._schema = pyarrow.schema([(name, self._type(kind)) for name, kind in columns])
        numbers = [name for name, kind in columns if kind == "number"]
        self._writer = pyarrow.parquet.ParquetWriter(
            self._part, self._schema, compression="zstd", compression_level=1,
            use_dictionary=[name for name, kind in columns if kind in self._texts],
            use_byte_stream_split=numbers, write_statistics=True, store_schema=False,
        )  # fmt: skip
        self._waiting: list[Columns] = []
        self._count = 0

    def take(self, columns: Columns) -> None:
        """Some more rows."""
        self._waiting.append(columns)
        self._count += len(columns[self._columns[0][0]])
        if self._count >= _GROUP_ROWS:
            self._write(self._count // _GROUP_ROWS * _GROUP_ROWS)

    def close(self, *, keep: bool) -> None:
        """Write what waits and give the file its name; or remove it."""
        try:
            if keep:
                self._write(self._count)
        finally:
            self._writer.close()
            if not keep:
                self._part.unlink(missing_ok=True)
        if keep:
            self._part.replace(self._path)

    def _write(self, count: int) -> None:
        import pyarrow

        arrays, rest = [], {}
        for name, kind in self._columns:
            values = np.concatenate([part[name] for part in self._waiting]) if count else None
            if values is None:
                return
            arrays.append(self._array(values[:count], kind))
            rest[name] = values[count:]
        table = pyarrow.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._waiting = [rest]
        self._count -= count

    def _type(self, kind: str) -> Any:
        import pyarrow

        if kind in self._texts:
            return pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        return {
            "whole": pyarrow.int64(), "tokens": pyarrow.int32(), "truth": pyarrow.bool_(),
            "number": pyarrow.float64(),
        }[kind]  # fmt: skip

    def _array(self, values: NDArray[Any], kind: str) -> Any:
        import pyarrow

        if kind in self._texts:
            codes = pyarrow.array(values.astype(np.int32), mask=values < 0)
            return pyarrow.DictionaryArray.from_arrays(codes, self._texts[kind])
        if kind == "number":
            return pyarrow.array(values, mask=np.isnan(values))
        return pyarrow.array(values.astype(bool) if kind == "truth" else values, self._type(kind))


class Occupancy:
    """Takes a replica's rows and keeps their mean batch in few, equal spans of time.

    ``span_s``: of one span, whole minutes. A sink of its own, or in front of another one.
    """

    _MOST_SPANS: Final = 240

    def __init__(self, duration_s: float, behind: ParquetSink | None = None) -> None:
        self.span_s = 60.0 * max(1, math.ceil(duration_s / 60.0 / self._MOST_SPANS))
        self.endpoints: NDArray[np.int64] = np.empty(0, np.int64)
        self._spans = max(1, math.ceil(duration_s / self.span_s))
        self._behind = behind
        self._batch: NDArray[np.float64] = np.empty((0, 0))
        self._minutes = np.zeros(self._spans)

    def requests(self, columns: Columns) -> None:
        if self._behind is not None:
            self._behind.requests(columns)

    def replicas(self, columns: Columns) -> None:
        if not len(self.endpoints):
            self.endpoints = np.asarray(columns["endpoint"], np.int64).copy()
            self._batch = np.zeros((self._spans, len(self.endpoints)))
        span = min(int(columns["minute_s"][0] // self.span_s), self._spans - 1)
        self._batch[span] += columns["batch"]
        self._minutes[span] += 1
        if self._behind is not None:
            self._behind.replicas(columns)

    def alone(self) -> Occupancy:
        """Itself, with nothing behind it any more, to be kept or sent to another process."""
        self._behind = None
        return self

    def batch(self) -> NDArray[np.float64]:
        """Mean batch, shape (spans, replicas); NaN where a span holds no whole minute."""
        known = np.where(self._minutes > 0, self._minutes, np.nan)
        return np.asarray(self._batch / known[:, None], np.float64)
