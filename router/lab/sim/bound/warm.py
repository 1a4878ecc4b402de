"""How much of prompts has to be read, whatever comes before what: what no other begins with.

As though the whole fleet had one cache without end, and whatever two prompts begin with had been
there before both: which of them reads it is a matter of order, and of order nothing is known. So
nothing that is read is bounded but what is read of one prompt alone.
"""

from __future__ import annotations

import numpy as np

from router.lab.sim.bound.demand import Codes, Floats, Pool
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Traffic


class SharedPrompts:
    """The prompts of model ``code`` in a simulation; ``pools``: of those who serve it."""

    def __init__(self, simulation: Simulation, code: int, pools: list[Pool]) -> None:
        self._block_tokens = simulation.workload.names.block_tokens
        self._shared: set[int] = set()
        self._keeps = any(pool.physics.prefix_cache_tokens > 0 for pool in pools)
        if not self._keeps:
            return
        seen: set[int] = set()
        for traffic in simulation.workload.chunks():
            chains = traffic.chains
            if chains is None:
                continue
            for row in np.flatnonzero(traffic.model == code).tolist():
                keys = chains.keys[chains.starts[row] : chains.starts[row + 1]].tolist()
                self._shared.update(key for key in keys if key in seen)
                seen.update(keys)

    def cached(self, traffic: Traffic, rows: Codes) -> Floats:
        """Of the prompts in ``rows``, the tokens that may not have to be read."""
        found = np.zeros(len(rows))
        chains = traffic.chains
        if not self._keeps or chains is None:
            return found
        shared = self._shared
        for place, row in enumerate(rows.tolist()):
            keys = chains.keys[chains.starts[row] : chains.starts[row + 1]].tolist()
            blocks = next((at for at, key in enumerate(keys) if key not in shared), len(keys))
            found[place] = blocks * self._block_tokens
        most = np.maximum(traffic.input_tokens[rows] - 1.0, 0.0)
        return np.asarray(np.minimum(found, most), np.float64)
