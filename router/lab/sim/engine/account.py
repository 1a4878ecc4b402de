"""What every replica drew up to a moment, read off the engine's integrals without changing them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.engine import state as s
from router.lab.sim.result import FleetAccount
from router.lab.sim.simulation import Simulation
from router.units import HOUR_S, J_PER_KWH

# Seconds busy, tokens, seconds idle, waking, down, the integral of the batch, of the seconds busy
# those that read prompts, and seconds released.
BUSY, TOKENS, IDLE, WAKE, OFF, BATCH, PROMPT, ASLEEP = range(8)
Integrals = NDArray[np.float64]


def integrals(plant: s.Plant, at_s: float, release_after_s: float) -> Integrals:
    """Shape (8, replicas), as of ``at_s``; every event until then must be done."""
    f, n = plant.replicas, plant.states
    elapsed = np.maximum(at_s - f[:, s.NOW], 0.0)
    running, state = n[:, s.RUNNING], n[:, s.STATE]
    busy = np.where(running > 0, elapsed, 0.0)
    waking = np.where((running == 0) & (state == s.WAKING), elapsed, 0.0)
    rest = elapsed - busy - waking
    left = np.maximum(0.0, f[:, s.IDLE_SINCE] + release_after_s - f[:, s.NOW])
    idle = np.where(state == s.UP, np.minimum(rest, left), 0.0)
    off = np.where(state == s.DOWN, rest, 0.0)
    ticks = busy / np.where(f[:, s.ITERATION_S] > 0.0, f[:, s.ITERATION_S], 1.0)
    return np.stack([
        f[:, s.BUSY_S] + busy, f[:, s.TOKENS] + ticks * n[:, s.DECODING], f[:, s.IDLE_S] + idle,
        f[:, s.WAKE_S] + waking, f[:, s.OFF_S] + off, f[:, s.BATCH_S] + busy * running,
        f[:, s.PROMPT_S] + ticks * (f[:, s.ITERATION_S] - f[:, s.DECODE_S]),
        f[:, s.ASLEEP_S] + rest - idle - off,
    ])  # fmt: skip


class FleetMeter:
    """Books the fleet's energy stretch by stretch, each at the intensity that really was."""

    def __init__(self, simulation: Simulation, plant: s.Plant) -> None:
        scaling = simulation.autoscaling
        self._simulation = simulation
        self._plant = plant
        self._wake_w = scaling.wake_w if scaling else 0.0
        self._asleep_w = scaling.asleep_w if scaling else 0.0
        self._release_after_s = scaling.idle_s if scaling else math.inf
        self._at_s = 0.0
        self._before = self.read(0.0)
        self._hours: dict[int, NDArray[np.float64]] = {}

    def read(self, at_s: float) -> Integrals:
        """The integrals as of ``at_s``."""
        return integrals(self._plant, at_s, self._release_after_s)

    def book(self, at_s: float) -> None:
        """Everything since the last time; counted when that lies past the warm-up.

        Past the end of the scenario only work counts, no idle draw.
        """
        simulation = self._simulation
        now = self.read(at_s)
        if at_s > self._at_s and self._at_s >= simulation.warm_up_s:
            joules = self._joules(now - self._before)
            if self._at_s >= simulation.duration_s:
                joules[[1, 3]] = 0.0
            g_per_kwh = self._means(self._at_s, at_s)[self._plant.states[:, s.ZONE]]
            grams = joules / J_PER_KWH * g_per_kwh
            last = math.ceil((simulation.start % HOUR_S + simulation.duration_s) / HOUR_S - 1e-9)
            hour = int((simulation.start % HOUR_S + self._at_s) // HOUR_S)
            total = self._hours.setdefault(min(hour, max(last - 1, 0)), np.zeros(8))
            total += np.concatenate((joules.sum(axis=1), grams.sum(axis=1)))
        self._at_s, self._before = at_s, now

    def accounts(self) -> tuple[FleetAccount, tuple[FleetAccount, ...]]:
        """The whole span, and hour by hour from the clock hour of the start."""
        hours = [
            self._hours.get(hour, np.zeros(8)) for hour in range(max(self._hours, default=0) + 1)
        ]
        whole = np.sum(hours, axis=0)
        return _account(whole), tuple(_account(hour) for hour in hours)

    def _joules(self, gone: Integrals) -> NDArray[np.float64]:
        """Facility joules (busy, idle, waking, spared) of every replica."""
        f = self._plant.replicas
        busy = f[:, s.BASE_W] * gone[BUSY] + f[:, s.J_PER_TOKEN] * gone[TOKENS]
        busy += (f[:, s.PREFILL_W] - f[:, s.BASE_W]) * gone[PROMPT]
        asleep = self._asleep_w * gone[ASLEEP]
        idle = f[:, s.IDLE_W] * gone[IDLE] + asleep
        spared = f[:, s.IDLE_W] * (gone[OFF] + gone[ASLEEP]) - asleep
        return np.stack([busy, idle, self._wake_w * gone[WAKE], spared]) * f[:, s.PUE]

    def power_w(self, gone: Integrals, seconds: float) -> NDArray[np.float64]:
        """Mean IT power of every replica over ``seconds``."""
        joules = self._joules(gone)[:3].sum(axis=0) / self._plant.replicas[:, s.PUE]
        return np.asarray(joules / seconds, np.float64)

    def _means(self, start_s: float, end_s: float) -> NDArray[np.float64]:
        """Intensity of every grid zone over a stretch, g/kWh; the table's last row holds."""
        table = self._simulation.actual
        begin = self._simulation.start - table.start
        first = math.floor((begin + start_s) / table.step_s)
        last = len(table.g_per_kwh) - 1
        total, at, slot = np.zeros(table.g_per_kwh.shape[1]), begin + start_s, first
        while at < begin + end_s:
            edge = max(at, min(begin + end_s, table.step_s * (slot + 1)))
            total += table.g_per_kwh[min(slot, last)] * (edge - at)
            at, slot = edge, slot + 1
        return np.asarray(total / (end_s - start_s), np.float64)


def _account(figures: NDArray[np.float64]) -> FleetAccount:
    return FleetAccount(*(float(figure) for figure in figures))
