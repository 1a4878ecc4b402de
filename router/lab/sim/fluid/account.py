"""What a fluid run came to: energy and grams of every slot, added up to a `PolicyResult`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.engine import state as s
from router.lab.sim.engine.build import Site
from router.lab.sim.fluid.fill import N_NETWORK_J, N_PROMPT_S, N_REQUESTS, N_TOKENS, Filled
from router.lab.sim.histogram import BINS, Histogram
from router.lab.sim.result import REASONS, FleetAccount, PolicyResult, RegionSums, by_rung
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic_shift import TrafficShifts
from router.model import Policy
from router.units import HOUR_S, J_PER_KWH

Floats = NDArray[np.float64]
# Rows of the sums by region.
_COMPLETED, _J, _MARGINAL_J, _G, _MARGINAL_G, _PROMPT_J = range(6)


class FluidAccount:
    """Takes slots in order of time; those before the end of the warm-up are not counted."""

    def __init__(self, simulation: Simulation, policy: Policy, site: Site, plant: s.Plant) -> None:
        names = simulation.workload.names
        self._simulation = simulation
        self._policy = policy
        self._site = site
        self._plant = plant
        regions = len(site.regions)
        hours = max(1, math.ceil(self._clock_s(simulation.duration_s) / HOUR_S - 1e-9))
        self._hourly = np.zeros((hours, regions))
        self._fleet = np.zeros((hours, 8))
        self._regions = np.zeros((6, regions))
        self._offered = 0.0
        self._reasons = np.zeros(len(REASONS))
        self._relaxed = np.zeros(len(policy.ladder))
        self._placed = np.zeros((len(names.origins), len(names.models), regions))
        self._moved = TrafficShifts()
        scaling = simulation.autoscaling
        self._release_s = scaling.release_after_s if scaling else math.inf
        self._asleep_w = scaling.asleep_w if scaling else 0.0
        self._wake_j = scaling.wake_s * scaling.wake_w if scaling else 0.0
        self._idle_left_s = np.full(len(plant.replicas), self._release_s)

    def book(
        self,
        begin_s: float,
        end_s: float,
        offered: float,
        filled: Filled,
        busy: Floats,
        added: Floats,
        rate: Floats,
    ) -> None:
        """One slot. ``busy``, ``added`` and ``rate`` (replicas,) as of `fluid_fill.occupancies`."""
        self._placed += filled.placed
        f, length_s = self._plant.replicas, end_s - begin_s
        idle_s, wakes = self._idle(length_s, busy, rate)
        if begin_s < self._simulation.warm_up_s:
            return
        busy_s, tokens = busy * length_s, filled.counted[:, N_TOKENS]
        pue, prompt_s = f[:, s.PUE], filled.counted[:, N_PROMPT_S]
        dynamic_j = f[:, s.J_PER_TOKEN] * tokens + (f[:, s.PREFILL_W] - f[:, s.BASE_W]) * prompt_s
        work_j = f[:, s.BASE_W] * busy_s + dynamic_j
        awake_w = f[:, s.BASE_W] - f[:, s.IDLE_W]
        marginal_j = awake_w * added * length_s + dynamic_j
        g_per_j = self._g_per_kwh(begin_s)[self._plant.states[:, s.ZONE]] / J_PER_KWH
        network_j = filled.counted[:, N_NETWORK_J]
        by_replica = np.stack([
            filled.counted[:, N_REQUESTS], work_j, marginal_j,
            (work_j * pue + network_j) * g_per_j, (marginal_j * pue + network_j) * g_per_j,
            f[:, s.PREFILL_W] * prompt_s,
        ])  # fmt: skip
        for row, values in enumerate(by_replica):
            self._regions[row] += np.bincount(
                self._plant.states[:, s.REGION], values, len(self._site.regions)
            )
        idle_w = f[:, s.IDLE_W] * pue
        off_s = np.maximum(0.0, length_s - busy_s - idle_s)
        is_down = self._plant.states[:, s.STATE] == s.DOWN
        asleep_j = np.where(is_down, 0.0, self._asleep_w * off_s) * pue
        joules = np.stack([
            work_j * pue, idle_w * idle_s + asleep_j, self._wake_j * wakes * pue,
            idle_w * off_s - asleep_j,
        ])  # fmt: skip
        hour = min(int(self._clock_s(begin_s) // HOUR_S), len(self._fleet) - 1)
        self._fleet[hour] += np.concatenate((joules.sum(axis=1), (joules * g_per_j).sum(axis=1)))
        self._hourly[hour] += filled.placed.sum(axis=(0, 1))
        self._offered += offered
        self._reasons += filled.reasons
        self._relaxed += filled.relaxed

    def _idle(self, length_s: float, busy: Floats, rate: Floats) -> tuple[Floats, Floats]:
        """Seconds awake without work, and wake-ups, of every replica in a slot.

        An idle spell lasts until the next request, exponentially distributed; past the release
        delay it is spent switched off, and its end is a wake-up.
        """
        down = self._plant.states[:, s.STATE] == s.DOWN
        used = rate > 0.0
        never = math.isinf(self._release_s)
        rest_s = (1.0 - busy) * length_s
        off = np.zeros_like(rate) if never else np.exp(-rate * self._release_s)
        idle_s = np.where(used, rest_s * (1.0 - off), np.minimum(length_s, self._idle_left_s))
        wakes = np.where(used, rate * rest_s * off + (self._idle_left_s <= 0.0), 0.0)
        self._idle_left_s = np.where(used, self._release_s, self._idle_left_s - idle_s)
        if not never:
            self._idle_left_s[down] = 0.0
        return np.where(down, 0.0, idle_s), np.where(down, 0.0, wakes)

    def moved(self, at_s: float) -> None:
        """The carbon signal changes at ``at_s``."""
        self._moved.close(self._placed.copy(), at_s)
        self._placed[:] = 0.0

    def outcome(self) -> PolicyResult:
        """Everything so far."""
        self.moved(self._simulation.duration_s)
        sums = self._regions
        reasons = dict(zip(REASONS, self._reasons.tolist(), strict=True))
        failed = reasons.pop(REASONS[s.FAULT])
        none = np.zeros(BINS, np.int64)
        return PolicyResult(
            policy=self._policy.name,
            regions=self._site.regions,
            offered=round(self._offered),
            completed=round(float(sums[_COMPLETED].sum())),
            refused={reason: round(count) for reason, count in reasons.items() if count >= 0.5},
            failed=round(failed),
            met=math.nan,
            ttft_ms=Histogram(none),
            e2e_ms=Histogram(none),
            tpot_ms=Histogram(none),
            by_region=RegionSums(*(row.copy() for row in sums)),
            hourly_requests=np.rint(self._hourly).astype(np.int64),
            fleet=_account(self._fleet.sum(axis=0)),
            fleet_hours=tuple(_account(hour) for hour in self._fleet),
            moved=self._moved.found,
            peak_over_cap=math.nan,
            relaxed=by_rung(self._policy.ladder, self._relaxed.tolist()),
        )

    def _clock_s(self, at_s: float) -> float:
        """Seconds since the clock hour in which the scenario starts."""
        return self._simulation.start % HOUR_S + at_s

    def _g_per_kwh(self, at_s: float) -> Floats:
        """Of every grid zone; slots lie within one row of the table."""
        table = self._simulation.actual
        row = math.floor((self._simulation.start + at_s - table.start) / table.step_s + 1e-9)
        return np.asarray(table.g_per_kwh[min(row, len(table.g_per_kwh) - 1)], np.float64)


def _account(figures: Floats) -> FleetAccount:
    return FleetAccount(*(float(figure) for figure in figures))
