"""Readings of a server that does not exist: seeded load on a known law, and a meter over it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from router.load.calibration.series import EnergyReading
from router.load.energy_meter import MeterReading
from router.load.work_counters import WorkCounters


class Law(NamedTuple):
    """Watts, joules a token, and seconds of an iteration."""

    idle_w: float = 90.0
    base_w: float = 477.0
    token_j: float = 0.024
    prefill_w: float = 665.0
    base_s: float = 6e-3
    sequence_s: float = 1e-4
    prompt_s: float = 5e-5

    @property
    def figures(self) -> dict[str, float]:
        """As keys of profiles have them."""
        return {
            "idle_w": self.idle_w,
            "base_w": self.base_w,
            "w_per_token_s": self.token_j,
            "prefill_w": self.prefill_w,
            "tpot_base_ms": self.base_s * 1e3,
            "tpot_ms_per_sequence": self.sequence_s * 1e3,
            "prefill_ms_per_token": self.prompt_s * 1e3,
        }


LAW = Law()


def readings(
    seed: int = 1,
    count: int = 400,
    law: Law = LAW,
    step_s: float = 2.0,
    noise: float = 0.0,
    moves_s: float = 0.0,
    awake: float = 0.7,
    batches: tuple[int, int] = (1, 64),
    prompts: float = 0.4,
) -> list[EnergyReading]:
    """``noise``: of each step's joules, as a part; ``moves_s``: between two moves of the meter;
    ``awake``: of stretches of load; ``prompts``: most of the time that prompts take."""
    rng = np.random.default_rng(seed)
    at = joules = moved_j = moved_at = 0.0
    made = read = iterations = 0.0
    batch, left = 0, 0
    found = []
    for number in range(count):
        if number:
            if left <= 0:
                batch = int(rng.integers(*batches)) if rng.random() < awake else 0
                left = int(rng.integers(3, 15))
            left -= 1
            drawn_j = law.idle_w * step_s
            if batch:
                prompt_s = rng.uniform(0.0, prompts) * step_s
                ran = (step_s - prompt_s) / (law.base_s + law.sequence_s * batch)
                iterations += ran
                made += ran * batch
                read += prompt_s / law.prompt_s
                drawn_j = law.base_w * step_s + law.token_j * ran * batch
                drawn_j += (law.prefill_w - law.base_w) * prompt_s
            joules += max(0.0, drawn_j * (1.0 + noise * rng.standard_normal()))
            at += step_s
        if at - moved_at >= moves_s:
            moved_j, moved_at = joules, at
        work = WorkCounters(made, read, iterations, math.nan, math.nan, float(batch))
        found.append(EnergyReading(at, MeterReading({"gpu": moved_j}), work))
    return found
