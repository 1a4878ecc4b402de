"""The seasonal expert: the same hour on the days before, and the last departure fading.

Profile(t) is the mean of the same hour on the days before, newest days weighing most, a
climatology filling in for days not seen yet; the last observed departure from it decays with lead:

    f(t) = profile(t) + (x(last) - profile(last)) * DECAY ** (t - last)

DECAY and DAY_WEIGHT were chosen on ten grids of 2020-2022 (EIA-930 2022; DACF 2020-2021). It needs
hours of history where a regression needs weeks, and leads until they have been seen.
"""

from __future__ import annotations

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

    ``window``: (WINDOW_H,) g/kWh, NaN where nothing was observed, the last hour known. ``usual``:
    what the climatology says over the window and the hours ahead, NaN where nothing.
    """
    last = WINDOW_H - 1
    seen = window[~np.isnan(window)]
    profile = _profile(window, usual, last + np.append(lead_h, 0))
    profile = np.where(np.isnan(profile), seen.mean(), profile)
    departure = window[last] - profile[-1]
    values = profile[:-1] + departure * DECAY**lead_h
    plausible = np.concatenate([seen, usual[~np.isnan(usual)]])
    bounded: Array = np.clip(values, 0.5 * plausible.min(), 1.5 * plausible.max())
    return np.where(lead_h == 0, window[last], bounded)


def _profile(window: Array, usual: Array, at: NDArray[np.int64]) -> Array:
    """Weighted mean of the same hour on earlier days of ``window`` and of ``usual``.

    ``at``: indices into ``window``, past its end for hours ahead. NaN where nothing is known.
    """
    weights, weighted = _same_hour(window, at)
    return _blend(weights.sum(axis=0), weighted.sum(axis=0), usual[at])


def _same_hour(window: Array, at: NDArray[np.int64]) -> tuple[Array, Array]:
    """Weights, and weights times values, of 1, 2, ... days before each index; shape (days, at)."""
    earlier = at[None, :] - 24 * _DAYS_BACK
    inside = (earlier >= 0) & (earlier < WINDOW_H)
    values = window[np.where(inside, earlier, 0)]
    known = inside & ~np.isnan(values)
    weights = np.where(known, DAY_WEIGHT**_DAYS_BACK, 0.0)
    return weights, weights * np.where(known, values, 0.0)


def _blend(weight: Array, weighted: Array, usual: Array) -> Array:
    known = ~np.isnan(usual)
    total = weight + PRIOR_DAYS * known
    summed = weighted + PRIOR_DAYS * np.where(known, usual, 0.0)
    return np.where(total > 0.0, summed / np.where(total > 0.0, total, 1.0), np.nan)


def at_level(usual: Array, window: Array) -> Array:
    """``usual`` moved to the level of what ``window`` saw; a day seen weighs as its own level."""
    seen = ~np.isnan(window) & ~np.isnan(usual[:WINDOW_H])
    if not seen.any():
        return usual
    observed_days = int(seen.sum()) / 24.0
    level = float(window[seen].mean() / max(usual[:WINDOW_H][seen].mean(), 1e-9))
    scaled: Array = usual * (1.0 + observed_days * level) / (1.0 + observed_days)
    return scaled
