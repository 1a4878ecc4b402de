"""When requests must be on some replica whatever anyone does, and how many must be awake for them.

A request is on a replica from when it can have arrived there until it can have been answered, had
it been alone. Those that must be there at one moment need whole replicas, each of which holds at
most its endpoint's ``max_in_flight``. ``docs/bound.md`` proves it, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.burden import context_tokens
from router.lab.sim.bound.demand import Codes, Floats, Grouping
from router.lab.sim.bound.slot import AtLeast
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Traffic

# Rounding of a minute's moments, a day after the start.
_ROUNDED_DOWN = 1.0 - 1e-9


class Stays(NamedTuple):
    """From when until when each request must be on a replica, and its group; arrays (n,).

    Where ``until_s`` is not after ``from_s`` there is no moment at which it must.
    """

    group: Codes
    from_s: Floats
    until_s: Floats

    def part(self, chosen: slice) -> Stays:
        """Of some of the requests."""
        return Stays(self.group[chosen], self.from_s[chosen], self.until_s[chosen])


class Presence:
    """Of the requests of one model."""

    def __init__(self, grouping: Grouping, simulation: Simulation) -> None:
        self._grouping = grouping
        scaling = simulation.autoscaling
        # On a released replica it waits, and the replica holds no request yet.
        self._wake_s = scaling.wait_s if scaling else 0.0
        fleet, names, pools = simulation.fleet, simulation.workload.names, grouping.pools
        way_s = [
            [
                (fleet.rtt_ms[origin][pool.region] + simulation.path_delay_ms.get(pool.region, 0.0))
                / 2e3
                + pool.physics.prefill_base_s
                for pool in pools
            ]
            for origin in names.origins
        ]
        self._way_s = np.array(way_s).reshape(len(names.origins), len(pools))

    def stays(
        self, traffic: Traffic, rows: Codes, groups: Codes, warm: Floats | None = None
    ) -> Stays:
        """Of ``rows`` of ``traffic``, which are in ``groups``, and of whose prompts ``warm`` tokens
        need not be read."""
        warm = np.zeros(len(rows)) if warm is None else warm
        reaches = np.array(self._grouping.batches) > 0.0
        n_in = traffic.input_tokens[rows].astype(np.float64)
        n_out = traffic.output_tokens[rows].astype(np.float64)
        origins = traffic.origin[rows]
        from_s, until_s = np.full(len(rows), np.inf), np.zeros(len(rows))
        distinct, which = np.unique(reaches, axis=0, return_inverse=True)
        mine = which.ravel()[groups]
        for at, reach in enumerate(distinct):
            here = np.flatnonzero(mine == at)
            if not reach.any() or not len(here):
                continue
            first_s, last_s = np.zeros(len(here)), np.full(len(here), np.inf)
            for place in np.flatnonzero(reach).tolist():
                way_s = self._way_s[origins[here], place]
                first_s = np.maximum(first_s, way_s)
                last_s = np.minimum(
                    last_s, way_s + self._alone_s(place, n_in[here], n_out[here], warm[here])
                )
            from_s[here] = traffic.arrival_s[rows[here]] + first_s + self._wake_s
            until_s[here] = traffic.arrival_s[rows[here]] + last_s
        return Stays(groups, from_s, until_s)

    def _alone_s(self, place: int, n_in: Floats, n_out: Floats, warm: Floats) -> Floats:
        """The least that requests can be on a replica of a pool."""
        physics = self._grouping.pools[place].physics
        if physics.one_unit:
            return np.full(len(n_in), physics.tpot_s(1))
        later = n_out - 1.0
        cached_s = physics.tpot_s_per_cached_token * (n_in + context_tokens(0.0, 1.0) * n_out)
        first_s = physics.tpot_base_s + physics.prompts_s(n_in, warm)
        return np.asarray(first_s + later * (physics.tpot_s(1) + cached_s), np.float64)

    def at_least(
        self, stays: Sequence[Stays], begin_s: float, end_s: float, busy_s: Floats
    ) -> list[AtLeast]:
        """How long replicas are awake for them in a span, by every set of pools that some must use.

        ``busy_s`` (groups,): replica seconds that each group needs anyway, wherever it goes: what
        those already make sure of is left out.
        """
        if end_s <= begin_s or not stays:
            return []
        group = np.concatenate([one.group for one in stays])
        from_s = np.clip(np.concatenate([one.from_s for one in stays]), begin_s, end_s)
        until_s = np.clip(np.concatenate([one.until_s for one in stays]), begin_s, end_s)
        reaches = np.array(self._grouping.batches)[: len(busy_s)] > 0.0
        found = []
        for pools in self._sets(reaches):
            within: NDArray[np.bool_] = np.any(reaches, axis=1)
            within &= ~np.any(reaches & ~pools, axis=1)
            here = within[group] & (until_s > from_s)
            most = max(
                pool.batch + pool.queue
                for pool, is_in in zip(self._grouping.pools, pools.tolist(), strict=True)
                if is_in
            )
            stay_s = float((until_s[here] - from_s[here]).sum())
            if busy_s[within].sum() < stay_s / most + min(stay_s, end_s - begin_s):
                awake_s = whole_replicas_s(from_s[here], until_s[here], most)
                found.append(AtLeast(pools, awake_s * _ROUNDED_DOWN))
        return found

    @staticmethod
    def _sets(reaches: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """Where some group may go, each once, and where any may."""
        rows = np.vstack((reaches, reaches.any(axis=0)))
        return [row for row in np.unique(rows, axis=0) if row.any()]


def whole_replicas_s(from_s: Floats, until_s: Floats, most: int) -> float:
    """Seconds, summed over replicas, that are awake for these stays when each holds ``most``."""
    if not len(from_s):
        return 0.0
    at_s = np.concatenate((from_s, until_s))
    step = np.repeat([1, -1], len(from_s))
    order = np.argsort(at_s, kind="stable")
    there = np.cumsum(step[order])[:-1]
    return float((np.diff(at_s[order]) * -(-there // most)).sum())
