"""Columns of the ledger's rows of a while, as a moment of the past is summed up from them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class CodedTexts(NamedTuple):
    """``codes`` (rows,): the place of each row's text in ``names``. As an array of texts each row
    would take as much room as the longest of all."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]


class ReceiptColumns:
    """Columns of a window's rows, each made once."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._made: dict[str, NDArray[Any]] = {}
        self._coded: dict[str, CodedTexts] = {}
        self.at: Floats = table.column("finished_at").cast("int64").to_numpy() / 1e6
        self.answered = self.having("outcome", ("answered",))

    def figures(self, name: str) -> Floats:
        """NaN of what is not known."""
        if name not in self._made:
            column = self._table.column(name).cast("float64")
            self._made[name] = column.fill_null(math.nan).to_numpy()
        return self._made[name]

    def coded(self, name: str) -> CodedTexts:
        """ "" of what is not known."""
        if name not in self._coded:
            column = self._table.column(name).cast("string").fill_null("")
            found = column.combine_chunks().dictionary_encode()
            if isinstance(found, pa.ChunkedArray):
                found = found.combine_chunks()
            names = tuple(str(one) for one in found.dictionary.to_pylist())
            codes = found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            self._coded[name] = CodedTexts(names, codes)
        return self._coded[name]

    def having(self, name: str, texts: Collection[str]) -> NDArray[np.bool_]:
        """Which of them have one of these there."""
        wanted = pa.array(sorted(texts), pa.string())
        column = pc.is_in(self._table.column(name).cast("string"), wanted)
        found: NDArray[np.bool_] = column.to_numpy(zero_copy_only=False).astype(bool)
        return found

    def since(self, at: float) -> NDArray[np.bool_]:
        """Which of them ended later."""
        later: NDArray[np.bool_] = self.at > at
        return later
