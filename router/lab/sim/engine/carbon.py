"""Carbon views put in force in the engine's arrays, update by update.

The first is the product's own snapshot; of those after it, all that differs are the intensities of
the coming hours, which `router.lab.sim.grid.signal_columns` holds for the whole span, and what
follows from them.
"""

from __future__ import annotations

import math

import numpy as np

from router.core import kernel_rows as k
from router.core.columns import build_snapshot, max_premiums
from router.core.rungs import CI_HOURS
from router.lab.sim.engine import state as s
from router.lab.sim.engine.build import Site, show
from router.lab.sim.engine.state import Ints
from router.lab.sim.grid.signal_columns import signal_columns
from router.lab.sim.simulation import Simulation
from router.model import Policy
from router.units import HOUR_S


class CarbonViews:
    """``at_s``: when a view comes into force, seconds since the start, rising."""

    def __init__(self, simulation: Simulation, policy: Policy, site: Site) -> None:
        self._simulation, self._policy, self._site = simulation, policy, site
        start = simulation.start
        self._outlook = signal_columns(simulation.signal, start, start + simulation.duration_s)
        self.at_s: list[float] = (self._outlook.at - start).tolist()
        self._zones = [self._zones_of(m) for m in range(len(site.candidates))]

    def show(self, world: s.World, update: int) -> None:
        """Put view number ``update`` in force, in order from 0. Raises MixedBasisError."""
        now = float(self._outlook.at[update])
        if update == 0:
            snapshot = build_snapshot(
                self._site.layout, self._policy, self._outlook.first,
                self._simulation.annual_means, now, 1,
            )  # fmt: skip
            show(world, self._site, snapshot)
            return
        world.scalars[s.HOUR_ENDS_AT] = (math.floor(now / HOUR_S) + 1) * HOUR_S
        if self._policy.annual_mean:
            return
        nobody = np.full((1, CI_HOURS), k.UNKNOWN_CI)
        hours = np.concatenate([self._outlook.deciding(update, self._policy), nobody])
        for m, zones in enumerate(self._zones):
            rows = slice(k.CI_FROM, k.CI_FROM + CI_HOURS)
            table = world.columns.tables[m, :, : len(zones)]
            table[rows] = hours[zones].T
            table[k.MAX_PREMIUM] = max_premiums(table)

    def _zones_of(self, m: int) -> Ints:
        """Where the grid zone of each candidate lies in the outlook; past its end: nowhere."""
        one, regions = self._site.candidates[m], self._simulation.fleet.regions
        places = {zone: place for place, zone in enumerate(self._outlook.grid_zones)}
        zones = [regions[endpoint.region].grid_zone for endpoint in one.endpoints]
        return np.array([places.get(zone, len(places)) for zone in zones], np.int64)
