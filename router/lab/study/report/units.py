"""Figures as people read them."""

from __future__ import annotations

import math
from typing import Final

from router.unknown_figures import or_dash

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
    return or_dash(value, "{:.3g}" if value and abs(value) < 100.0 else "{:,.0f}")


def percent(value: float, digits: int = 1) -> str:
    """A share as per cent; "-" where unknown."""
    return or_dash(value * 100.0, f"{{:.{digits}f}} %")


def signed_percent(value: float) -> str:
    """With its sign."""
    return or_dash(value * 100.0, "{:+.1f} %")


def milliseconds(value: float) -> str:
    """Such as 640 ms or 12.1 s."""
    return or_dash(value, "{:,.0f} ms") if value < 10_000.0 else or_dash(value / 1e3, "{:,.1f} s")
