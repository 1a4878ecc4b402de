"""Carbon intensity of a grid zone: what it says, how it is known, and over which slots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from router.errors import DataError, MixedBasisError


class Basis(StrEnum):
    """Which question an intensity answers: attribution (average) or consequence (marginal)."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class Factors(StrEnum):
    """Which emissions the factors count; NONE where the signal defines its own (MOER)."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"
    NONE = "none"


class Kind(StrEnum):
    """How a carbon intensity came to be, from the best known to the least."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    FORECAST = "forecast"
    CLIMATOLOGY = "climatology"
    ANNUAL_MEAN = "annual_mean"


class Signal(NamedTuple):
    """What makes two intensities comparable: same basis and same factors."""

    basis: Basis
    factors: Factors


@dataclass(frozen=True, slots=True)
class Intensity:
    """Carbon intensity of one grid zone over one slot, gCO2e/kWh, with where it came from.

    ``low``/``high`` bound a 90 % interval. ``observed_at``: when the value was known (end of the
    slot it was measured in, or issue time of a forecast). ``expires_at``: after this it is stale.
    Raises DataError when the value is not a finite number >= 0 inside its interval.
    """

    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    signal: Signal
    kind: Kind
    source: str
    observed_at: float
    expires_at: float

    def __post_init__(self) -> None:
        ordered = 0.0 <= self.low_g_per_kwh <= self.g_per_kwh <= self.high_g_per_kwh
        if not (ordered and math.isfinite(self.high_g_per_kwh)):
            raise DataError(
                f"intensity from {self.source} must satisfy 0 <= low <= value <= high < inf, got "
                f"{self.low_g_per_kwh} <= {self.g_per_kwh} <= {self.high_g_per_kwh} g/kWh"
            )

    def age_s(self, now: float) -> float:
        """Seconds since the value was known; 0 for a value issued ahead of ``now``."""
        return max(0.0, now - self.observed_at)


def require_same_signal(*values: Intensity) -> Signal:
    """The one signal that all ``values`` share; raises MixedBasisError when they differ."""
    signals = {value.signal for value in values}
    if len(signals) != 1:
        seen = ", ".join(
            sorted(f"{v.signal.basis}/{v.signal.factors} from {v.source}" for v in values)
        )
        raise MixedBasisError(f"intensities of different bases cannot be compared: {seen}")
    return signals.pop()


@dataclass(frozen=True, slots=True)
class Forecast:
    """Intensity of one grid zone over consecutive equal slots, oldest first, never empty."""

    grid_zone: str
    start: float
    step_s: float
    slots: tuple[Intensity, ...]

    def __post_init__(self) -> None:
        if not self.slots or self.step_s <= 0:
            raise DataError(f"forecast for {self.grid_zone} needs at least one slot of length > 0")
        require_same_signal(*self.slots)

    def at(self, when: float) -> Intensity:
        """The slot that covers ``when``; the first or last one outside the covered span."""
        index = int((when - self.start) // self.step_s)
        return self.slots[min(max(index, 0), len(self.slots) - 1)]
