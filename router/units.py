"""Units and the formulas between them: seconds, joules, grams, bytes on the wire."""

from __future__ import annotations

import math
from typing import Final

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 24.0 * HOUR_S
MS_PER_S: Final = 1000.0
J_PER_WH: Final = 3600.0
J_PER_KWH: Final = 3.6e6
BYTES_PER_GB: Final = 1e9
UG_PER_G: Final = 1_000_000


def grams(facility_j: float, g_per_kwh: float) -> float:
    """gCO2e of ``facility_j`` joules, PUE and network included (SCIENCE, section 2)."""
    return facility_j / J_PER_KWH * g_per_kwh


def network_j(payload_bytes: float, kwh_per_gb: float) -> float:
    """Joules to carry bytes over the network (SCIENCE, section 1)."""
    return payload_bytes / BYTES_PER_GB * (kwh_per_gb * J_PER_KWH)


def micrograms(mass_g: float) -> int:
    """The next whole number of micrograms. Raises ValueError and OverflowError for no number."""
    return math.ceil(mass_g * UG_PER_G)
