"""Figures as people read them: three significant digits, and a dash for what is not known.

A figure and its unit stay on one line.
"""

from __future__ import annotations

import math
from typing import Final

from router.ledger.quantities import CarbonMass, EnergyAmount

_MASS: Final = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"))
_ENERGY: Final = ((1e6, "GWh"), (1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh"))
UNKNOWN: Final = "–"
_SPACE: Final = "\u00a0"


def mass_text(mass: CarbonMass | None) -> str:
    """Such as 1.23 kg."""
    return UNKNOWN if mass is None else _scaled(mass.g, _MASS, "g")


def grams_text(grams: float | None) -> str:
    """Such as 1.23 mg."""
    return UNKNOWN if grams is None else _scaled(grams, _MASS, "g")


def energy_text(energy: EnergyAmount | None) -> str:
    """Such as 1.23 kWh."""
    return UNKNOWN if energy is None else _scaled(energy.kwh, _ENERGY, "kWh")


def kwh_text(kwh: float | None) -> str:
    """Such as 0.24 Wh."""
    return UNKNOWN if kwh is None else _scaled(kwh, _ENERGY, "kWh")


def count_text(count: float | None) -> str:
    """Such as 12,345."""
    return UNKNOWN if count is None else f"{count:,.0f}"


def share_text(part: float, whole: float) -> str:
    """Such as 12.3 %."""
    if not whole:
        return UNKNOWN
    percent = 100.0 * part / whole
    digits = f"{percent:.2g}" if 0.0 < percent < 0.095 else f"{percent:.1f}"
    return f"{digits}{_SPACE}%"


def _scaled(value: float, units: tuple[tuple[float, str], ...], zero: str) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    if value == 0.0:
        return f"0{_SPACE}{zero}"
    factor, unit = next((one for one in units if abs(value) >= one[0]), units[-1])
    return f"{_digits(value / factor)}{_SPACE}{unit}"


def _digits(value: float) -> str:
    size = abs(value)
    if size < 1.0:
        return f"{value:.3g}"
    decimals = 2 if size < 10.0 else 1 if size < 100.0 else 0
    return f"{value:,.{decimals}f}"
