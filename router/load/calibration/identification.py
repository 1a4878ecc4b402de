"""Which coefficients rows can tell, and why not the others.

Refused are columns that are not counted or 0 throughout, that only come in one proportion with
others, and coefficients whose interval is too wide to be of use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from router.errors import DataError
from router.load.calibration.regression import (
    LEAST_TOLERANCE,
    FittedTerm,
    Floats,
    regress,
    tolerances,
)

# An interval may reach so far from its figure, as a part of that; or a figure, however uncertain,
# makes up so little of the whole target.
_WIDEST: Final = 0.5
_LITTLE: Final = 0.03
# Of the variation of what is told, explained by the rest.
_LEAST_R2: Final = 0.5
# Of its mean, what the target may vary by without there being anything to explain.
_STEADY: Final = 0.02


class Identified(NamedTuple):
    """Coefficients by name, and why others are not known. ``model``: of all columns that were used,
    which together tell the target also where one alone is not known."""

    found: Mapping[str, FittedTerm]
    why_not: Mapping[str, str]
    r2: float
    outliers: int
    model: Mapping[str, FittedTerm] = {}


def identify(
    columns: Mapping[str, Sequence[float]], target: Sequence[float], confidence: float, what: str
) -> Identified:
    """``target`` by ``columns``, but for those of which it cannot tell. Raises DataError where they
    do not explain ``what``, which is the target's name."""
    why_not: dict[str, str] = {}
    used: dict[str, Floats] = {}
    for name, values in columns.items():
        column = np.array(values, np.float64)
        if np.isnan(column).any():
            why_not[name] = f"the server does not count it ({name})"
        elif not column.any():
            why_not[name] = f"there was none ({name})"
        else:
            used[name] = column
    alike: dict[str, str] = {}
    while len(used) > 1:
        own = tolerances(np.stack(list(used.values()), axis=1))
        if own.min() >= LEAST_TOLERANCE:
            break
        together = [name for name, part in zip(used, own, strict=True) if part < LEAST_TOLERANCE]
        text = f"{', '.join(together)} only ever came in one proportion: vary load and lengths"
        alike.update(dict.fromkeys(together, text))
        del used[list(used)[int(own.argmin())]]
    why_not.update(alike)
    if not used:
        return Identified({}, why_not, math.nan, 0)
    told = np.array(target, np.float64)
    found = regress(np.stack(list(used.values()), axis=1), told, confidence)
    if found.r2 < _LEAST_R2 and told.std() > _STEADY * told.mean():
        raise DataError(
            f"the server's work explains {100.0 * max(found.r2, 0.0):.0f} % of {what}: something "
            "else is at work there, the meter is another's, or requests last longer than readings "
            "are apart (then: read less often)"
        )
    known: dict[str, FittedTerm] = {}
    model = dict(zip(used, found.coefficients, strict=True))
    for (name, column), one in zip(used.items(), found.coefficients, strict=True):
        if name in alike:
            continue
        why = too_wide(one, column, told)
        if why:
            why_not[name] = why
        else:
            known[name] = one
    return Identified(known, why_not, found.r2, len(found.outliers), model)


def too_wide(one: FittedTerm, column: Floats, target: Floats) -> str:
    """Why ``one`` is of no use; "" where it is."""
    reach = max(one.high - one.value, one.value - one.low)
    if reach <= _WIDEST * one.value or reach * column.sum() <= _LITTLE * target.sum():
        return ""
    return (
        f"{one.low:.4g} to {one.high:.4g} is all that can be told: it hardly varies apart from the "
        f"rest ({100.0 * one.tolerance:.2g} % of it is its own)"
    )


def half_width(one: FittedTerm) -> float:
    """Of its interval, on the wider side."""
    return max(one.high - one.value, one.value - one.low)


def wider(one: FittedTerm, *more: float) -> FittedTerm:
    """By independent errors."""
    down, up = math.hypot(one.value - one.low, *more), math.hypot(one.high - one.value, *more)
    return one._replace(low=max(0.0, one.value - down), high=one.value + up)


def nothing(names: Sequence[str], why: str) -> Identified:
    """None of ``names`` is known."""
    return Identified({}, dict.fromkeys(names, why), math.nan, 0)
