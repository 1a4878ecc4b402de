"""The seasonal expert: the same hour on the days before, and the last departure fading.

Profile(t) is the mean of the same hour on the days before, newest days weighing most, a
climatology filling in for days not seen yet; the last observed departure from it decays with lead:

    f(t) = profile(t) + (x(last) - profile(last)) * DECAY ** (t - last)

DECAY and DAY_WEIGHT were chosen on ten grids of 2020-2022 (EIA-930 2022; DACF 2020-2021). It needs
hours of history where a regression needs weeks, and leads until they have been seen.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.carbon.forecast.design import Array

DAYS: Final = 9
WINDOW_H: Final = 24 * DAYS
DECAY: Final = 0.97
DAY_WEIGHT: Final = 0.85
# What the climatology weighs in a profile, in days like yesterday.
PRIOR_DAYS: Final = 0.5

# A horizon of 96 h after 48 h of silence reaches six days past the window.
_DAYS_BACK: Final = np.arange(1, DAYS + 7)[:, None]


def predict(window: Array, usual: Array, lead_h: NDArray[np.int64]) -> Array:
    """f(t) of the module's docstring for leads >= 0 after the last hour of ``window``.

    ``window``: (..., WINDOW_H) g/kWh, NaN where nothing was observed, the last hour known.
    ``usual``: (..., WINDOW_H + leads) what the climatology says over the window and the hours
    ahead, NaN where nothing. Shape (..., leads).
    """
    last = WINDOW_H - 1
    known = ~np.isnan(window)
    seen = np.where(known, window, 0.0)
    mean = (seen.sum(axis=-1) / known.sum(axis=-1))[..., None]
    profile = _profile(known, seen, usual, last + np.append(lead_h, 0))
    profile = np.where(np.isnan(profile), mean, profile)
    departure = window[..., last:] - profile[..., -1:]
    values = profile[..., :-1] + departure * DECAY**lead_h
    plausible = np.concatenate([window, usual], axis=-1)
    least, most = (np.where(np.isnan(plausible), fill, plausible) for fill in (np.inf, -np.inf))
    bounded: Array = np.clip(
        values,
        0.5 * least.min(axis=-1, keepdims=True),
        1.5 * most.max(axis=-1, keepdims=True),
    )
    return np.where(lead_h == 0, window[..., last:], bounded)


def _profile(known: NDArray[np.bool_], seen: Array, usual: Array, at: NDArray[np.int64]) -> Array:
    """Weighted mean of the same hour on earlier days of a window and of ``usual``.

    ``at``: indices into the window, past its end for hours ahead. NaN where nothing is known.
    """
    weights = _same_hour(tuple(at.tolist()))
    return _blend(known.astype(np.float64) @ weights, seen @ weights, usual[..., at])


@lru_cache(maxsize=16)
def _same_hour(at: tuple[int, ...]) -> Array:
    """Shape (WINDOW_H, at): what each hour of a window weighs 1, 2, ... days before an index."""
    columns = np.arange(len(at))
    earlier = np.array(at) - 24 * _DAYS_BACK
    weights = np.zeros((WINDOW_H, len(at)))
    for days_back, rows in zip(_DAYS_BACK[:, 0].tolist(), earlier, strict=True):
        inside = (rows >= 0) & (rows < WINDOW_H)
        weights[rows[inside], columns[inside]] = DAY_WEIGHT**days_back
    return weights


def _blend(weight: Array, weighted: Array, usual: Array) -> Array:
    known = ~np.isnan(usual)
    total = weight + PRIOR_DAYS * known
    summed = weighted + PRIOR_DAYS * np.where(known, usual, 0.0)
    return np.where(total > 0.0, summed / np.where(total > 0.0, total, 1.0), np.nan)


def at_level(usual: Array, window: Array) -> Array:
    """``usual`` moved to the level of what ``window`` saw; a day seen weighs as its own level.

    Shapes as for ``predict``.
    """
    seen = ~np.isnan(window) & ~np.isnan(usual[..., :WINDOW_H])
    count = seen.sum(axis=-1, keepdims=True)
    observed = np.where(seen, window, 0.0).sum(axis=-1, keepdims=True)
    expected = np.where(seen, usual[..., :WINDOW_H], 0.0).sum(axis=-1, keepdims=True)
    days = count / 24.0
    level = observed / np.maximum(expected, 1e-9 * np.maximum(count, 1))
    scaled: Array = usual * (1.0 + days * level) / (1.0 + days)
    return scaled
