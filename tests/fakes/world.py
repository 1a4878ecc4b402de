"""A synthetic grid on which every fake provider agrees: mixes, intensities, forecasts, a clock.

Everything is a pure function of (seed, zone, time), so that a test can compute what a provider must
have said, and a fake can be run in one process and questioned from another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

HOUR: Final = 3600.0
DAY: Final = 86_400.0

# gCO2e/kWh of this world. Life-cycle: IPCC AR5 medians. Direct: what is burnt, and nothing else.
FACTORS: Final[Mapping[str, Mapping[str, float]]] = {
    "lifecycle": {
        "coal": 820.0, "gas": 490.0, "nuclear": 12.0, "wind": 11.0, "solar": 41.0, "hydro": 24.0,
    },
    "direct": {
        "coal": 950.0, "gas": 390.0, "nuclear": 0.0, "wind": 0.0, "solar": 0.0, "hydro": 0.0,
    },
}  # fmt: skip
FUELS: Final = tuple(FACTORS["lifecycle"])


@dataclass
class GridZone:
    """One zone's shape. ``lag_s``: from a slot's end until it is published at all.

    ``settle_s``: from a slot's start until its estimate is replaced by what was measured;
    ``estimate_error``: how far an estimate may be off, relative.
    """

    name: str
    load_mw: float = 10_000.0
    # Share of load by fuel: coal and gas follow the load, the others the weather.
    coal: float = 0.2
    nuclear: float = 0.2
    wind: float = 0.2
    solar: float = 0.1
    hydro: float = 0.1
    phase_h: float = 0.0
    moer_lbs: float = 900.0
    lag_s: float = 0.0
    settle_s: float = 2 * HOUR
    estimate_error: float = 0.08
    storage_mw: float = 0.0


@dataclass
class World:
    """The grid and its clock; a ``Clock`` for whoever asks for one. Time moves by ``advance``."""

    start: float
    seed: int = 0
    zones: dict[str, GridZone] = field(default_factory=dict)
    _elapsed_s: float = 0.0

    def now(self) -> float:
        """Unix seconds UTC."""
        return self.start + self._elapsed_s

    def monotonic(self) -> float:
        """Seconds since the world began."""
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Let time pass; never backwards."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds}")
        self._elapsed_s += seconds

    def zone(self, name: str) -> GridZone:
        """The zone of that name; an unheard-of one comes into being, the same in every process."""
        if name not in self.zones:
            rng = random.Random(f"{self.seed}/{name}")
            self.zones[name] = GridZone(
                name,
                load_mw=rng.uniform(4_000.0, 60_000.0),
                coal=rng.uniform(0.0, 0.4),
                nuclear=rng.uniform(0.0, 0.3),
                wind=rng.uniform(0.05, 0.3),
                solar=rng.uniform(0.02, 0.2),
                hydro=rng.uniform(0.0, 0.2),
                phase_h=rng.uniform(0.0, 24.0),
                moer_lbs=rng.uniform(500.0, 1200.0),
            )
        return self.zones[name]

    def mix_mw(self, name: str, start: float, step_s: float = HOUR) -> dict[str, float]:
        """Mean MW by fuel over the slot that begins at ``start``: whole numbers, sum above 0."""
        zone = self.zone(name)
        hour = (start + step_s / 2) / HOUR + zone.phase_h
        load = zone.load_mw * (1 + 0.15 * _wave(hour, 24) + 0.05 * _wave(hour, 168))
        noise = self._noise(name, start)
        weather = max(0.05, 1 + 0.5 * _wave(hour, 61) + 0.3 * _wave(hour, 101) + 0.1 * noise)
        mix = {
            "nuclear": zone.nuclear * zone.load_mw,
            "hydro": zone.hydro * zone.load_mw * (1 + 0.2 * _wave(hour, 24)),
            "wind": zone.wind * zone.load_mw * weather,
            "solar": zone.solar * zone.load_mw * max(0.0, 2 * _wave(hour - 6, 24)),
        }
        thermal = max(0.05 * load, load - sum(mix.values()))
        coal = min(zone.coal * zone.load_mw, 0.7 * thermal)
        mix |= {"coal": coal, "gas": thermal - coal}
        return {fuel: float(round(mix[fuel])) for fuel in FUELS}

    def storage_mw(self, name: str, start: float, step_s: float = HOUR) -> float:
        """Pumped storage over a slot: above 0 discharging, below 0 charging; 0 without any."""
        zone = self.zone(name)
        return float(round(zone.storage_mw * _wave((start + step_s / 2) / HOUR + zone.phase_h, 24)))

    def g_per_kwh(
        self, name: str, start: float, step_s: float = HOUR, factors: str = "lifecycle"
    ) -> float:
        """True average intensity of the slot that begins at ``start``, a whole number above 0."""
        mix = self.mix_mw(name, start, step_s)
        grams = sum(FACTORS[factors][fuel] * mw for fuel, mw in mix.items())
        return float(max(1, round(grams / sum(mix.values()))))

    def moer_lbs_per_mwh(self, name: str, start: float) -> float:
        """True marginal rate of the five minutes that begin at ``start``, to a tenth."""
        zone = self.zone(name)
        hour = start / HOUR + zone.phase_h
        swing = 0.2 * _wave(hour, 24) + 0.1 * _wave(hour, 31) + 0.02 * self._noise(name, start)
        return round(zone.moer_lbs * (1 + swing), 1)

    def settled(self, name: str, start: float, now: float) -> bool:
        """Whether the slot's estimate has been replaced by what was measured."""
        return now >= start + self.zone(name).settle_s

    def published(
        self, name: str, start: float, now: float, step_s: float = HOUR, factors: str = "lifecycle"
    ) -> float:
        """What a publisher says at ``now`` of a slot: an estimate until it is settled."""
        true = self.g_per_kwh(name, start, step_s, factors)
        if self.settled(name, start, now):
            return true
        off = self.zone(name).estimate_error * self._noise(f"{name}/estimate", start)
        return float(max(1, round(true * (1 + off))))

    def forecast(
        self, name: str, start: float, issued_at: float, step_s: float = HOUR,
        factors: str = "lifecycle",
    ) -> float:  # fmt: skip
        """What was forecast at ``issued_at``: off by up to 1 % at once and 10 % in a day."""
        lead_h = max(0.0, start - issued_at) / HOUR
        off = (0.01 + 0.09 * min(1.0, lead_h / 24)) * _wave(
            lead_h + self._noise(f"{name}/forecast", issued_at) * 3, 17
        )
        return float(max(1, round(self.g_per_kwh(name, start, step_s, factors) * (1 + off))))

    def _noise(self, name: str, start: float) -> float:
        return _noise(self.seed, name, start)


def floor_to(when: float, step_s: float) -> float:
    """The start of the slot that contains ``when``."""
    return math.floor(when / step_s) * step_s


def slots(start: float, end: float, step_s: float) -> list[float]:
    """Starts of the slots that begin in ``[start, end)``, aligned to ``step_s``."""
    first = math.ceil(start / step_s)
    return [index * step_s for index in range(first, math.ceil(end / step_s))]


@lru_cache(1 << 17)
def _noise(seed: int, name: str, start: float) -> float:
    """Uniform in [-1, 1), the same for the same question."""
    return random.Random(f"{seed}/{name}/{start:.0f}").uniform(-1.0, 1.0)


def _wave(hour: float, period_h: float) -> float:
    return math.sin(2 * math.pi * hour / period_h)
