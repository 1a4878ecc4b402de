"""The work of a scenario at moments, for plans of whole replicas: what is under way, and how fast.

A request is under way for as long as full replicas take that read no prompt but its own, and works
evenly. So the work of a moment is that of the requests that are there, not of those that come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.burden import context_tokens
from router.lab.sim.bound.demand import (
    AMOUNTS,
    Codes,
    Floats,
    Grouping,
    Pool,
    amounts_of,
    tolerated_pace_s,
)
from router.lab.sim.bound.warm import SharedPrompts
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Names, Traffic
from router.model import Budget, Fleet, Policy

# A pace is taken up to 1 % too short; beyond so many times that of a full replica it is no limit.
_PACE_STEP: Final = math.log(1.01)
_NO_LIMIT: Final = 64.0
# Requests of each chunk that stand for all, where chance is reckoned with.
_SAMPLED: Final = 200


class PaceGrouping(Grouping):
    """Requests sorted by the mean iteration that they tolerate in each pool, s: ``batches`` holds
    that, inf where it is no limit, 0 where they may not go.
    """

    def __init__(self, model: str, fleet: Fleet, names: Names, policy: Policy) -> None:
        super().__init__(model, fleet, names, policy, precision=0.01)

    def _limit(self, pool: Pool, budget: Budget, rtt_s: float, n_in: float, n_out: float) -> float:
        pace_s = tolerated_pace_s(pool, budget, rtt_s, n_in, n_out)
        if pace_s == 0.0:
            return 0.0
        if pace_s > _NO_LIMIT * pool.physics.tpot_s(pool.batch):
            return math.inf
        return math.exp(math.floor(math.log(pace_s) / _PACE_STEP + 1e-6) * _PACE_STEP)


class Sample(NamedTuple):
    """Some requests of a model, evenly: arrays (n,). ``warm_tokens``: of input not to be read."""

    group: Codes
    input_tokens: Floats
    output_tokens: Floats
    warm_tokens: Floats


class WorkRates(NamedTuple):
    """Of one model. ``rates`` (moments, groups, AMOUNTS): of what is under way, a second;
    ``arrived`` (slots, AMOUNTS): of all that counts and comes in a slot.
    """

    grouping: PaceGrouping
    rates: Floats
    arrived: Floats
    sample: Sample

    def evened(self, chosen: NDArray[np.bool_], slot: int, span_s: float) -> Floats:
        """``rates`` of the ``chosen`` moments of a slot, scaled so that their mean is what comes in
        it: that a few moments lie between bursts is no reason to plan for less.
        """
        rates = self.rates[chosen]
        mean = rates.mean(axis=0).sum(axis=0) * span_s
        scale = np.divide(self.arrived[slot], mean, out=np.ones_like(mean), where=mean > 0.0)
        return np.asarray(rates * scale, np.float64)


def moments_of(simulation: Simulation, edges: Floats, each: int) -> Floats:
    """The middles of ``each`` equal parts of every slot, from the warm-up on, s since the start."""
    parts = (np.arange(each) + 0.5) / each
    at_s = (edges[:-1, None] + np.diff(edges)[:, None] * parts).ravel()
    return np.asarray(at_s[at_s >= simulation.warm_up_s], np.float64)


def work_at(
    simulation: Simulation,
    policy: Policy,
    at_s: Floats,
    edges: Floats,
    progress: Callable[[float], None] = lambda _: None,
) -> list[WorkRates]:
    """What is under way at the moments ``at_s``, which rise, by model; ``edges``: of slots."""
    names = simulation.workload.names
    groupings = [PaceGrouping(model, simulation.fleet, names, policy) for model in names.models]
    found = [
        _Gathered(
            grouping,
            at_s,
            edges,
            simulation.warm_up_s,
            SharedPrompts(simulation, code, grouping.pools),
        )
        for code, grouping in enumerate(groupings)
    ]
    for traffic in simulation.workload.chunks():
        for code, mine in enumerate(found):
            rows = np.flatnonzero(traffic.model == code)
            if len(rows):
                mine.add(traffic, rows)
        progress(min(1.0, float(traffic.arrival_s[-1]) / simulation.duration_s))
    return [mine.work() for mine in found]


class _Gathered:
    def __init__(
        self,
        grouping: PaceGrouping,
        at_s: Floats,
        edges: Floats,
        warm_up_s: float,
        shared: SharedPrompts,
    ) -> None:
        self._grouping = grouping
        self._at_s = at_s
        self._edges = edges
        self._warm_up_s = warm_up_s
        self._arrived = np.zeros((len(edges) - 1, AMOUNTS))
        self._rates = np.zeros((0, len(at_s), AMOUNTS))
        self._samples: list[Sample] = []
        self._shared = shared

    def add(self, traffic: Traffic, rows: Codes) -> None:
        """Requests that come after those before."""
        warm = self._shared.cached(traffic, rows)
        groups = self._grouping.groups(traffic, rows, warm)
        n_in = traffic.input_tokens[rows].astype(np.float64)
        n_out = traffic.output_tokens[rows].astype(np.float64)
        few = slice(None, None, max(1, len(rows) // _SAMPLED))
        self._samples.append(Sample(groups[few], n_in[few], n_out[few], warm[few]))
        arrival_s, takes_s = traffic.arrival_s[rows], self._takes_s(n_in, n_out, warm)
        first = np.searchsorted(self._at_s, arrival_s, side="left")
        times = np.searchsorted(self._at_s, arrival_s + takes_s, side="left") - first
        missing = len(self._grouping.batches) - len(self._rates)
        if missing:
            self._rates = np.concatenate((self._rates, np.zeros((missing, *self._rates.shape[1:]))))
        counted = arrival_s >= self._warm_up_s
        slots = np.searchsorted(self._edges[1:-1], arrival_s, side="right")[counted]
        for column, unit in enumerate(amounts_of(n_in[counted], n_out[counted], warm[counted])):
            self._arrived[:, column] += np.bincount(slots, unit, len(self._arrived))
        there = np.repeat(np.arange(len(rows)), times)
        # Of those that are there at several moments one after the other.
        later = np.arange(len(there)) - np.repeat(np.cumsum(times) - times, times)
        where = groups[there], first[there] + later
        for column, unit in enumerate(amounts_of(n_in[there], n_out[there], warm[there])):
            np.add.at(self._rates[:, :, column], where, unit / takes_s[there])

    def _takes_s(self, n_in: Floats, n_out: Floats, warm: Floats) -> Floats:
        """On the slowest of the pools' replicas, full, with nobody else's prompts."""
        longest_s = np.full(len(n_in), 1e-3)
        for pool in self._grouping.pools:
            physics = pool.physics
            context = n_in + context_tokens(0.0, 1.0) * n_out
            pace_s = physics.tpot_s(pool.batch) + (
                physics.tpot_s_per_cached_token * pool.batch * context
            )
            run_s = pace_s
            if not physics.one_unit:
                run_s = physics.prompts_s(n_in, warm) + n_out * pace_s
            longest_s = np.maximum(longest_s, run_s)
        return longest_s

    def work(self) -> WorkRates:
        """All of it."""
        columns = zip(*self._samples, strict=True) if self._samples else ((),) * 4
        group, n_in, n_out, warm = (
            np.concatenate([np.zeros(0, kind), *column])
            for column, kind in zip(columns, (np.int64, *[np.float64] * 3), strict=True)
        )
        sample = Sample(group, n_in, n_out, warm)
        return WorkRates(self._grouping, self._rates.transpose(1, 0, 2), self._arrived, sample)
