"""What the callers of a scenario ask for, counted while its requests flow by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np

from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Names, Traffic

_BUDGETS: Final = ("ttft_ms", "tpot_ms", "e2e_ms")
_MOST_BUDGETS: Final = 6
_MOST_KNOWN: Final = 10_000


class WorkloadTotals(NamedTuple):
    """What the callers ask for. ``budgets``: by limit (ttft_ms, tpot_ms, e2e_ms) to how many
    requests carry which, the most frequent ones. ``may_wait``: requests with a deadline.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    budgets: dict[str, dict[float, int]]
    may_wait: int = 0


class CountedWorkload:
    """A workload that counts what flows through it."""

    def __init__(self, simulation: Simulation) -> None:
        self.names: Names = simulation.workload.names
        self._simulation = simulation
        self._requests = self._input = self._output = self._may_wait = 0
        self._budgets: dict[str, dict[float, int]] = {}

    def chunks(self) -> Iterable[Traffic]:
        self._requests = self._input = self._output = self._may_wait = 0
        self._budgets = {limit: {} for limit in _BUDGETS}
        for traffic in self._simulation.workload.chunks():
            counted = traffic.arrival_s >= self._simulation.warm_up_s
            self._requests += int(counted.sum())
            self._may_wait += int((counted & np.isfinite(traffic.deadline_s)).sum())
            self._input += int(traffic.input_tokens[counted].sum(dtype=np.int64))
            self._output += int(traffic.output_tokens[counted].sum(dtype=np.int64))
            for limit, known in self._budgets.items():
                _count(getattr(traffic, f"{limit.removesuffix('_ms')}_budget_ms")[counted], known)
            yield traffic

    def totals(self) -> WorkloadTotals:
        """As of the last whole pass."""
        budgets = {
            limit: dict(sorted(sorted(known.items(), key=lambda one: -one[1])[:_MOST_BUDGETS]))
            for limit, known in self._budgets.items()
        }
        return WorkloadTotals(self._requests, self._input, self._output, budgets, self._may_wait)


def _count(values: Any, known: dict[float, int]) -> None:
    """Add to ``known`` how often each finite value occurs. Most often there is one, or a few."""
    rest = values[values < math.inf]
    for value in [*known, *(rest[:1].tolist())]:
        same = int((rest == value).sum())
        if same:
            known[value] = known.get(value, 0) + same
            rest = rest[rest != value]
    if len(rest) and len(known) < _MOST_KNOWN:
        for value, count in zip(*np.unique(rest, return_counts=True), strict=True):
            known[float(value)] = known.get(float(value), 0) + int(count)
