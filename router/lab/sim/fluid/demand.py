"""Demand as flows: the requests of a workload, counted by slot and by what decides about them.

One pass over the requests in bounded memory; what is kept grows with slots times flows, not with
requests. A *flow* is one origin, model, tenant, residency, set of budgets and octave of prompt
length; within a slot it has a count and its sums of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.latency import z_of
from router.core.lengths import REACH_SDS, length_prior, length_quantile, observe_length
from router.lab.sim.bound.run import slot_edges
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Traffic
from router.model import LengthPrior

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

WINDOW_S: Final = 60.0
# Answers of each model and tenant from which the expected length and its quantile are learned.
_SAMPLE: Final = 4000
# Of mean intervals between requests: longer silence at an end of a slot is no chance (e**-10).
_SILENCE: Final = 10.0
# Budgets closer than this, in log, share a flow, which has the first one's.
_BUDGET_STEP: Final = 0.02
_MIX: Final = (
    0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93,
)  # fmt: skip


class Flow(NamedTuple):
    """What requests of one flow have in common; codes into `Names`, budgets in ms."""

    origin: int
    model: int
    tenant: int
    residency: int
    ttft_ms: float
    tpot_ms: float
    e2e_ms: float


class SlotDemand(NamedTuple):
    """The flows of one slot; arrays of shape (flows of the slot,).

    ``burst``: variance over squared mean of the rate within the slot, by minutes, Poisson noise
    taken off. ``active``: the share of the slot in which there is demand: less than 1 where it
    begins late or ends early, as in a trace that is shorter than the scenario.
    """

    flow: Codes
    requests: Floats
    input_tokens: Floats
    output_tokens: Floats
    burst: float
    active: float


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """All of a scenario's requests. ``edges`` (slots + 1,): seconds since the start.

    ``answers``: output tokens of the first requests of each (model, tenant).
    """

    edges: Floats
    flows: tuple[Flow, ...]
    slots: tuple[SlotDemand, ...]
    answers: dict[tuple[int, int], Codes]

    def expected(self, prior: LengthPrior, at: Flow, quantile: float) -> Lengths:
        """What a gateway has learned of the answers' lengths, once it has seen some."""
        state, z, seen = length_prior(prior), z_of(quantile), []
        answers = self.answers[at.model, at.tenant]
        for tokens in answers.tolist():
            observe_length(state, math.nan, float(tokens), REACH_SDS)
            seen.append(length_quantile(state, z))
        return Lengths(float(answers.mean()), float(np.mean(seen[len(seen) // 4 :])))


class Lengths(NamedTuple):
    """Output tokens to expect, and at the policy's quantile."""

    mean: float
    quantile: float


def gather(
    simulation: Simulation, slot_s: float, progress: Callable[[float], None] = lambda _: None
) -> Demand:
    """One pass over the requests. ``slot_s``: longest slot, at most an hour.

    Slots end at every full hour, with the warm-up, and wherever an outage begins, ends or is
    noticed. Raises what the workload raises.
    """
    gathering = _Gathering(simulation, slot_s)
    for traffic in simulation.workload.chunks():
        gathering.add(traffic)
        progress(min(1.0, float(traffic.arrival_s[-1]) / simulation.duration_s))
    return gathering.result()


def edges_of(simulation: Simulation, slot_s: float) -> Floats:
    """Where slots begin and end, s since the start."""
    rare = [simulation.warm_up_s]
    for outage in simulation.outages:
        rare += [outage.start_s, outage.start_s + outage.noticed_after_s]
        rare += [outage.end_s, outage.end_s + outage.noticed_after_s]
    start, duration_s = simulation.start, simulation.duration_s
    rare += [at - start for at in simulation.signal.updates(start, start + duration_s)]
    step_s = simulation.actual.step_s
    first = math.ceil((start - simulation.actual.start) / step_s)
    offset_s = simulation.actual.start + first * step_s - start
    rare += np.arange(offset_s, duration_s, step_s).tolist()
    inside = [at for at in rare if 0.0 < at < duration_s]
    return np.unique(np.concatenate((slot_edges(start, duration_s, slot_s), inside)))


class _Gathering:
    def __init__(self, simulation: Simulation, slot_s: float) -> None:
        self._names = simulation.workload.names
        self._edges = edges_of(simulation, slot_s)
        self._ids: dict[int, int] = {}
        self._flows: list[Flow] = []
        self._sums: list[dict[int, Floats]] = [{} for _ in range(len(self._edges) - 1)]
        self._windows = np.zeros(math.ceil(simulation.duration_s / WINDOW_S) + 1, np.int64)
        self._first_s = np.full(len(self._edges) - 1, math.inf)
        self._last_s = np.full(len(self._edges) - 1, -math.inf)
        self._answers: dict[tuple[int, int], Codes] = {}

    def add(self, traffic: Traffic) -> None:
        slots = np.searchsorted(self._edges[1:-1], traffic.arrival_s, side="right")
        minutes = (traffic.arrival_s / WINDOW_S).astype(np.int64)
        self._windows += np.bincount(minutes, minlength=len(self._windows))
        first = int(slots[0])
        met, begins = np.unique(slots, return_index=True)
        ends = np.append(begins[1:], len(slots)) - 1
        self._first_s[met] = np.minimum(self._first_s[met], traffic.arrival_s[begins])
        self._last_s[met] = np.maximum(self._last_s[met], traffic.arrival_s[ends])
        flow = _keys(traffic)
        keys, inverse = np.unique(
            flow * np.uint64(_MIX[3]) + (slots - first).astype(np.uint64), return_inverse=True
        )
        where = np.empty(len(keys), np.int64)
        # Where each is met first: backwards, as what is written last stays.
        where[inverse[::-1]] = np.arange(len(flow))[::-1]
        sums = np.column_stack([
            np.bincount(inverse, weights, len(keys))
            for weights in (None, traffic.input_tokens, traffic.output_tokens)
        ])  # fmt: skip
        for at, row in zip(where.tolist(), sums, strict=True):
            mine = self._sums[int(slots[at])]
            place = self._flow(int(flow[at]), traffic, at)
            mine[place] = mine[place] + row if place in mine else row
        self._learn(traffic)

    def _flow(self, key: int, traffic: Traffic, at: int) -> int:
        place = self._ids.setdefault(key, len(self._flows))
        if place == len(self._flows):
            self._flows.append(
                Flow(
                    int(traffic.origin[at]),
                    int(traffic.model[at]),
                    int(traffic.tenant[at]),
                    int(traffic.residency[at]),
                    float(traffic.ttft_budget_ms[at]),
                    float(traffic.tpot_budget_ms[at]),
                    float(traffic.e2e_budget_ms[at]),
                )
            )
        return place

    def _learn(self, traffic: Traffic) -> None:
        for flow in {(flow.model, flow.tenant) for flow in self._flows}:
            known = self._answers.get(flow, np.empty(0, np.int64))
            if len(known) < _SAMPLE:
                mine = (traffic.model == flow[0]) & (traffic.tenant == flow[1])
                more = traffic.output_tokens[mine][: _SAMPLE - len(known)]
                self._answers[flow] = np.concatenate((known, more))

    def result(self) -> Demand:
        slots = []
        for at, sums in enumerate(self._sums):
            flow = np.array(sorted(sums), np.int64)
            amounts = np.array([sums[place] for place in flow.tolist()]).reshape(-1, 3).T.copy()
            requests, n_in, n_out = amounts
            span = self._span(at, float(requests.sum()))
            burst = self._burst(*span)
            active = (span[1] - span[0]) / (self._edges[at + 1] - self._edges[at])
            slots.append(SlotDemand(flow, requests, n_in, n_out, burst, float(active)))
        return Demand(self._edges, tuple(self._flows), tuple(slots), self._answers)

    def _span(self, slot: int, requests: float) -> tuple[float, float]:
        """When demand begins and ends: with the slot, unless silence there cannot be chance."""
        begin_s, end_s = float(self._edges[slot]), float(self._edges[slot + 1])
        first_s, last_s = float(self._first_s[slot]), float(self._last_s[slot])
        chance_s = _SILENCE * (last_s - first_s) / max(requests - 1.0, 1.0)
        if requests > 2.0 * _SILENCE:
            begin_s = first_s if first_s - begin_s > chance_s else begin_s
            end_s = last_s if end_s - last_s > chance_s else end_s
        return begin_s, end_s

    def _burst(self, begin_s: float, end_s: float) -> float:
        """From the whole minutes of the span; 0 where there are less than four."""
        first = math.ceil(begin_s / WINDOW_S)
        counts = self._windows[first : math.floor(end_s / WINDOW_S)]
        mean = float(counts.mean()) if len(counts) else 0.0
        if len(counts) < 4 or mean == 0.0:
            return 0.0
        return max(0.0, float(counts.var(ddof=1)) - mean) / mean**2


def _keys(traffic: Traffic) -> NDArray[np.uint64]:
    """One hash a request, the same for all requests of a flow; 64 bits collide hardly ever."""
    octave = np.frexp(traffic.input_tokens.astype(np.float64))[1]
    codes = traffic.origin.astype(np.uint64)
    for column, factor in (
        (traffic.model, 1 << 8), (traffic.tenant, 1 << 14), (traffic.residency, 1 << 10),
        (octave, 1 << 6),
    ):  # fmt: skip
        codes = codes * np.uint64(factor) + column.astype(np.uint64)
    budgets = (traffic.ttft_budget_ms, traffic.tpot_budget_ms, traffic.e2e_budget_ms)
    for each, mix in zip(budgets, _MIX, strict=False):
        limits = each[:1] if (each == each[0]).all() else each
        bounded = np.isfinite(limits)
        steps = np.log(np.where(bounded, np.maximum(limits, 1e-3), 1.0)) / _BUDGET_STEP
        step = np.where(bounded, np.floor(steps + 1e-9) + 4096.0, 0.0)
        codes = (codes ^ (codes >> np.uint64(29))) * np.uint64(mix) + step.astype(np.uint64)
    return (codes ^ (codes >> np.uint64(31))) * np.uint64(_MIX[1])
