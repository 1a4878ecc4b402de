"""Ridge regression that forgets, for every lead at once, from sums that are updated day by day.

The sums X'WX and X'WY are all that is kept, so a day costs O(rows p^2) whatever came before, and
adding a day to the sums gives the regression that a fit from scratch on all weighted rows gives.
`regressions` holds them per three hours of the day and weighs the hours near the origin's most:
what the sun and the demand do next depends on the hour more than a few products can say.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from router.carbon.forecast.design import DAY_H, Array

HOURLY_HALF_LIFE_D: Final = 730.0
PLAIN_HALF_LIFE_D: Final = 365.0
BINS: Final = 8
BANDWIDTH_H: Final = 2.0
# The penalty, in rows of typical day-to-day change.
PENALTY_ROWS: Final = 3.0
# The sines of the year mean nothing before much of one was seen.
YEAR_PENALTY: Final = 20.0
# Below this many rows a regression of a hundred columns says nothing.
LEAST_ROWS: Final = 48


def _nearness() -> Array:
    """Shape (24, BINS): what rows of a bin weigh for an origin at an hour of the day."""
    centre = (np.arange(BINS) + 0.5) * DAY_H / BINS - 0.5
    away = np.abs(np.arange(DAY_H)[:, None] - centre)
    away = np.minimum(away, DAY_H - away)
    near: Array = np.exp(-0.5 * (away / BANDWIDTH_H) ** 2)
    return near


NEARNESS: Final = _nearness()


class Sums:
    """Weighted sums of rows, fading by the day. ``gram``: (groups, p, p), ``cross``: (groups, p,
    leads).
    """

    __slots__ = ("_fade", "cross", "gram", "rows")

    def __init__(self, groups: int, columns: int, leads: int, half_life_d: float) -> None:
        self.gram = np.zeros((groups, columns, columns))
        self.cross = np.zeros((groups, columns, leads))
        self.rows = 0.0
        self._fade = 0.5 ** (1.0 / half_life_d)

    def add_day(self, features: Array, targets: Array, weight: Array) -> None:
        """``features`` (24, p), ``targets`` (24, leads), in order of the hours; weight 0: left out.

        Hours are dealt out to groups in order.
        """
        groups = len(self.gram)
        root = np.sqrt(weight)[:, None]
        x = (features * root).reshape(groups, DAY_H // groups, -1)
        y = (targets * root).reshape(groups, DAY_H // groups, -1)
        turned = x.transpose(0, 2, 1)
        self.gram *= self._fade
        self.gram += turned @ x
        self.cross *= self._fade
        self.cross += turned @ y
        self.rows = self.rows * self._fade + float((weight > 0.0).sum())

    def solve(self, near: Array, penalty: Array) -> Array:
        """Coefficients (p, leads) of the groups weighed by ``near``; ``penalty``: (p,)."""
        columns = self.gram.shape[1]
        gram = (near @ self.gram.reshape(len(near), -1)).reshape(columns, columns)
        cross = (near @ self.cross.reshape(len(near), -1)).reshape(columns, -1)
        gram[np.diag_indices(columns)] += penalty
        coefficients: Array = np.linalg.solve(gram, cross).astype(np.float64, copy=False)
        return coefficients

    def predict(self, features: Array, near: Array, penalty: Array) -> Array:
        """Shape (n, leads): what the regression of each row of ``features`` (n, p) says of it.

        ``near``: (n, groups), what weighs in its regression. As ``features @ solve(near,
        penalty)``, but of each solution only what a row needs.
        """
        columns, groups = features.shape[1], len(self.gram)
        gram = (near @ self.gram.reshape(groups, -1)).reshape(-1, columns, columns)
        gram[:, np.arange(columns), np.arange(columns)] += penalty
        turned = np.linalg.solve(gram, features[:, :, None])[:, None, :, 0]
        weighed = (near[:, :, None] * turned).reshape(len(features), -1)
        said: Array = weighed @ self.cross.reshape(groups * columns, -1)
        return said
