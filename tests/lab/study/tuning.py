"""Small scenarios on disk whose best policy is known, and a policy to be tuned on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.lab.sim.scenarios import scenario

POLICY = """\
# Ours.
description: >
  What we run today.
weights: {per_gco2e: 1.0}  # grams alone
annual_mean: true  # a rule of thumb
wake_share: 0.0
near_tie: 0.2
spread: spread

free:
  annual_mean: [true, false]
  spread: [pack, spread]
  near_tie: {low: 0, high: 0.4}
"""


def turning(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """Two grids that take turns at 100 and 300 g/kWh, and ``ours.yaml`` beside them.

    Least grams: price the hour, keep ties apart, pack.
    """
    rows = ["datetime,A,B"]
    for hour in range(96):
        a = 100 if hour % 2 else 300
        rows.append(f"2022-05-{10 + hour // 24:02d}T{hour % 24:02d}:00Z,{a},{400 - a}")
    (folder / "ours.yaml").write_text(POLICY, encoding="utf-8")
    given = {
        "signal": {"kind": "perfect"}, "warm_up": "5m", "workload/generate/mean_rps": 0.2,
        "endpoints/1/replicas": 2, **(changes or {}),
    }  # fmt: skip
    return scenario(folder, given, "\n".join(rows) + "\n")
