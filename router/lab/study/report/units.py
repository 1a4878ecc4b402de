"""Figures as people read them."""

from __future__ import annotations

import math
from typing import Final

_GRAMS: Final = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"))
_JOULES: Final = ((1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ"), (1.0, "J"))


def grams(value: float) -> str:
    """Three significant figures, such as 363 kg."""
    return _scaled(value, _GRAMS)


def joules(value: float) -> str:
    """Three significant figures, such as 3.98 GJ."""
    return _scaled(value, _JOULES)


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    if not math.isfinite(value):
        return "-"
    if value == 0.0:
        return f"0 {next(unit for factor, unit in units if factor == 1.0)}"
    factor, unit = next((one for one in units if abs(value) >= one[0]), units[-1])
    return f"{figure(value / factor)} {unit}"


def figure(value: float) -> str:
    """Three significant figures, with separators where large."""
    if not math.isfinite(value):
        return "-"
    if value and abs(value) < 100.0:
        return f"{value:.3g}"
    return f"{value:,.0f}"


def percent(value: float, digits: int = 1) -> str:
    """A share as per cent; "-" where unknown."""
    return "-" if math.isnan(value) else f"{value * 100.0:.{digits}f} %"


def signed_percent(value: float) -> str:
    """With its sign."""
    return "-" if math.isnan(value) else f"{value * 100.0:+.1f} %"


def milliseconds(value: float) -> str:
    """Such as 640 ms or 12.1 s."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f} ms" if value < 10_000.0 else f"{value / 1e3:,.1f} s"
