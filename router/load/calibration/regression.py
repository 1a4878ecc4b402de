"""Least squares through the origin, coefficients that cannot be negative, and how sure they are.

Intervals are of ordinary least squares with errors of any sizes (HC3: MacKinnon and White, 1985),
cut off at 0. Readings of a meter that is read at the ends of spans err in opposite directions in
neighbouring ones; taken as independent, as here, that makes intervals too wide, not too narrow.
"""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Below it a column is, but for rounding, a sum of others: its part that is its own.
LEAST_TOLERANCE: Final = 1e-6
# Residuals beyond so many of their usual size are of something else; and of how many at most.
_OUTLIER: Final = 8.0
_MOST_OUTLIERS: Final = 0.05
# Rounding, of counters and here.
_ROUNDING: Final = 1e-6


class FittedTerm(NamedTuple):
    """``low``, ``high``: of the interval; ``tolerance``: the part of its column's squares that no
    sum of the others has, 0 to 1."""

    value: float
    low: float
    high: float
    tolerance: float


class Regression(NamedTuple):
    """``r2``: of the variation about the mean; ``outliers``: rows that were left out."""

    coefficients: tuple[FittedTerm, ...]
    r2: float
    outliers: tuple[int, ...]


def regress(columns: Floats, target: Floats, confidence: float = 0.95) -> Regression:
    """``columns``: rows by columns, ``target``: one a row; more rows than columns.

    Raises ValueError where columns are sums of others, or there are too few rows.
    """
    rows, width = columns.shape
    if rows <= width:
        raise ValueError(f"{rows} rows for {width} columns")
    scale = np.sqrt((columns**2).sum(axis=0))
    if not (scale > 0.0).all():
        raise ValueError("a column is 0 throughout")
    scaled = columns / scale
    tolerances = _tolerances(scaled)
    if tolerances.min() < LEAST_TOLERANCE:
        raise ValueError(f"column {int(tolerances.argmin())} is a sum of others")
    outliers = _outliers(target - scaled @ _non_negative(scaled, target))
    kept = np.setdiff1d(np.arange(rows), outliers)
    if len(kept) <= width or _tolerances(scaled[kept]).min() < LEAST_TOLERANCE:
        kept, outliers = np.arange(rows), outliers[:0]
    scaled, target = scaled[kept], target[kept]
    best = _non_negative(scaled, target)
    free, errors = _with_errors(scaled, target)
    half = errors * _t_quantile(confidence, len(kept) - width)
    low, high = np.maximum(0.0, free - half), np.maximum(0.0, free + half)
    slack = _ROUNDING * np.abs(best)
    low = np.maximum(0.0, np.minimum(low, best) - slack)
    high = np.maximum(high, best) + slack
    left = target - scaled @ best
    spread = float(((target - target.mean()) ** 2).sum())
    return Regression(
        tuple(
            FittedTerm(
                float(best[k] / scale[k]), float(low[k] / scale[k]), float(high[k] / scale[k]), own
            )
            for k, own in enumerate(tolerances.tolist())
        ),
        1.0 - float((left**2).sum()) / spread if spread > 0.0 else 1.0,
        tuple(outliers.tolist()),
    )


def tolerances(columns: Floats) -> Floats:
    """Of each column, which are not 0: the part of its squares that no sum of the others has."""
    return _tolerances(columns / np.sqrt((columns**2).sum(axis=0)))


def _tolerances(scaled: Floats) -> Floats:
    """Of columns of length one, by the inverse of their products."""
    lengths = np.sqrt((scaled**2).sum(axis=0))
    if not (lengths > 0.0).all():
        return np.zeros(scaled.shape[1])
    unit = scaled / lengths
    try:
        inverse = np.linalg.inv(unit.T @ unit)
    except np.linalg.LinAlgError:
        return np.zeros(scaled.shape[1])
    diagonal = np.diag(inverse)
    return np.where(diagonal >= 1.0 - 1e-9, 1.0 / np.maximum(diagonal, 1.0), 0.0)


def _non_negative(scaled: Floats, target: Floats) -> Floats:
    """The best of all choices of columns that come out positive: few columns, so all are tried."""
    width = scaled.shape[1]
    best, least = np.zeros(width), float((target**2).sum())
    for size in range(width, 0, -1):
        for chosen in combinations(range(width), size):
            part = scaled[:, chosen]
            found = np.linalg.lstsq(part, target, rcond=None)[0]
            if found.min() < 0.0:
                continue
            squares = float(((target - part @ found) ** 2).sum())
            if squares < least:
                best, least = np.zeros(width), squares
                best[list(chosen)] = found
    return best


def _with_errors(scaled: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Coefficients of any sign and their standard errors, HC3."""
    inverse = np.linalg.inv(scaled.T @ scaled)
    found = inverse @ scaled.T @ target
    hat = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
    left = (target - scaled @ found) / np.maximum(1.0 - hat, 1e-3)
    meat = (scaled * left[:, None]).T @ (scaled * left[:, None])
    return found, np.sqrt(np.maximum(np.diag(inverse @ meat @ inverse), 0.0))


def _outliers(left: Floats) -> NDArray[np.intp]:
    usual = 1.4826 * float(np.median(np.abs(left - np.median(left))))
    found = np.flatnonzero(np.abs(left) > _OUTLIER * usual)
    # So many are no exceptions.
    return found if usual > 0.0 and len(found) <= _MOST_OUTLIERS * len(left) else found[:0]


def _t_quantile(confidence: float, freedom: int) -> float:
    """Of Student's distribution, two-sided (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    g1 = (z**3 + z) / 4.0
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96.0
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3
