"""Time as a plan cuts it: quarters of an hour, the first from now to the next full quarter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.deferral.outlook import DeferralOutlook
from router.errors import DataError
from router.units import MINUTE_S

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

SLOT_S: Final = 15 * MINUTE_S
# A first slot that is shorter belongs to the next one.
_LEAST_S: Final = MINUTE_S


@dataclass(frozen=True, slots=True, eq=False)
class PlanSlots:
    """``starts``, ``ends``: (slots,) unix s. ``steps``: (slots,), those of the outlook."""

    starts: Floats
    ends: Floats
    steps: Places

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths_s(self) -> Floats:
        """Shape (slots,)."""
        return self.ends - self.starts

    def usable(self, latest_start: Floats) -> Places:
        """Of how many slots, from the first on, jobs may be released to the very end."""
        return np.searchsorted(self.ends, latest_start, side="right")


def plan_slots(outlook: DeferralOutlook, now: float) -> PlanSlots:
    """From ``now`` to the end of the outlook. Raises DataError where it does not cover now."""
    if not outlook.start <= now < outlook.end:
        raise DataError(
            f"deferral: the outlook reaches from {outlook.start:.0f} to {outlook.end:.0f}, "
            f"which {now:.0f} is not in"
        )
    first = math.floor((now + _LEAST_S) / SLOT_S + 1.0) * SLOT_S
    ends = np.arange(first, outlook.end + SLOT_S / 2.0, SLOT_S)
    ends = np.append(ends[ends < outlook.end], outlook.end)
    starts = np.concatenate(([now], ends[:-1]))
    steps = np.floor((starts - outlook.start) / outlook.step_s).astype(np.intp)
    return PlanSlots(starts, ends, np.minimum(steps, outlook.g_per_kwh.shape[-1] - 1))
