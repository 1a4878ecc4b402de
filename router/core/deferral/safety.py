"""How much waiting work has to be done by when, so that the rest can still be done at the worst.

At the worst interactive traffic leaves no more than ``least`` of each region and slot, and from
some moment on one region is lost: for good where the others have as much room as it has, which then
take its work over; else for `ALONE_S`. So at the end of any slot k, of the work due by the end of D

    left(k, D) <= worst(k, D) = sum of least over slots k+1 .. D - what the lost region had of it

for every D > k. What this asks to be done by k is the work due by D less worst(k, D), at its
largest.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.deferral.slots import SLOT_S

Floats = NDArray[np.float64]

# An outage that jobs survive for which there is no room elsewhere: a restart.
ALONE_S: Final = SLOT_S


def must_be_done(due: Floats, least: Floats) -> Floats:
    """By the end of how many slots how much: (slots + 1,), never falling; 0 at [0].

    ``due``: (slots + 1,) work that is due by the end of so many slots, cumulative.
    ``least``: (regions, slots) work that can be done at worst, without an outage.
    """
    slots = least.shape[1]
    before = np.concatenate((np.zeros((len(least), 1)), np.cumsum(least, axis=1)), axis=1)
    must = np.empty(slots + 1)
    whole = before[:, -1]
    alone = (whole > 0.5 * whole.sum())[:, None]
    for done in range(slots + 1):
        ahead = before[:, done:] - before[:, done : done + 1]
        lost = np.where(alone, _longest_run(ahead), ahead)
        worst = ahead.sum(axis=0) - lost.max(axis=0, initial=0.0)
        must[done] = (due[done:] - worst).max()
    must[0] = 0.0
    return np.maximum.accumulate(np.maximum(must, 0.0))


def _longest_run(ahead: Floats) -> Floats:
    """Of cumulative work the most that slots in a row of `ALONE_S` hold, up to each end."""
    reach = min(math.ceil(ALONE_S / SLOT_S), ahead.shape[1] - 1)
    lost = ahead.copy()
    lost[:, reach:] -= ahead[:, : ahead.shape[1] - reach]
    run: Floats = np.maximum.accumulate(lost, axis=1)
    return run
