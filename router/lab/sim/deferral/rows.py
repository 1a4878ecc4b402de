"""What became of every single request, for those who ask about some of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.result import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FLOATS: Final = (
    "start_s", "end_s", "energy_j_attributional", "gco2e_attributional", "gco2e_marginal",
)  # fmt: skip
_INTS: Final = ("model", "region", "endpoint", "budget_met", "shed_reason")


class RequestFigures:
    """A Sink that keeps of request i, in the order of the workload, the figures at [i].

    NaN and -1 where it has none: it was refused, lost, or came within the warm-up. ``seen``: it is
    counted.
    """

    def __init__(self, count: int) -> None:
        self.seen = np.zeros(count, np.bool_)
        self._floats = {name: np.full(count, np.nan) for name in _FLOATS}
        self._ints = {name: np.full(count, -1, np.int64) for name in _INTS}

    def requests(self, columns: Columns) -> None:
        """As `router.lab.sim.result.Sink`."""
        at = np.asarray(columns["request"], np.int64)
        self.seen[at] = True
        for name in _FLOATS:
            self._floats[name][at] = columns[name]
        for name in _INTS:
            self._ints[name][at] = columns[name]

    def replicas(self, columns: Columns) -> None:
        """Not kept."""

    def figure(self, name: str) -> Floats:
        """By request."""
        return self._floats[name]

    def code(self, name: str) -> Ints:
        """By request."""
        return self._ints[name]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """By request."""
        missing: NDArray[np.bool_] = np.isnan(self._floats["end_s"])
        return ~missing

    def taken(self, which: NDArray[np.intp]) -> RequestFigures:
        """Of the requests at ``which`` places, in that order."""
        some = RequestFigures(0)
        some.seen = self.seen[which]
        some._floats = {name: figures[which] for name, figures in self._floats.items()}
        some._ints = {name: codes[which] for name, codes in self._ints.items()}
        return some
