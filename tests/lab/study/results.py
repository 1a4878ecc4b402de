"""What a policy came to, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from router.lab.sim.histogram import BINS, Histogram
from router.lab.sim.result import FleetAccount, PolicyResult, RegionSums

NOBODY = Histogram(np.zeros(BINS, np.int64))


def result(grams: float = 80.0, fleet_g: float = 100.0, **changes: Any) -> PolicyResult:
    one = np.array([grams])
    account = FleetAccount(1.0, 1.0, 0.0, 0.0, fleet_g - 10.0, 10.0, 0.0, 0.0)
    given = PolicyResult(
        policy="p", regions=("west",), offered=1000, completed=1000, refused={}, failed=0,
        met=1.0, ttft_ms=NOBODY, e2e_ms=NOBODY, tpot_ms=NOBODY,
        by_region=RegionSums(np.array([1000.0]), one, one, one, one / 2.0, one / 4.0),
        hourly_requests=np.array([[1000]]), fleet=account, fleet_hours=(account,),
        moved=(), peak_over_cap=0.0, relaxed={},
    )  # fmt: skip
    return replace(given, **changes)
