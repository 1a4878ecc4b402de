"""A small valid scenario on disk, to be varied by tests."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.errors import ConfigError
from router.lab.sim.scenario.loading import load

_VALID: dict[str, Any] = {
    "start": "2022-05-12T00:00Z",
    "duration": "6h",
    "seed": 3,
    "carbon": {"file": "grid.csv"},
    "signal": {"kind": "persistence", "publication_lag": "1h"},
    "workload": {
        "generate": {
            "preset": "azure-chat",
            "mean_rps": 0.5,
            "origins": {"x": {"share": 3, "utc_offset_h": -8}, "y": {}},
            "classes": [{"model": "m", "budget": {"e2e_ms": 20000}}],
        }
    },
    "origins": {"x": {"rtt_ms": {"a": 5, "b": 60}}, "y": {"rtt_ms": {"a": 60, "b": 5}}},
    "regions": {"a": {"grid_zone": "A", "pue": 1.1}, "b": {"grid_zone": "B", "pue": 1.2}},
    "models": {"m": {"input_tokens": 1000, "output_tokens": 210, "output_tokens_p95": 480}},
    "endpoints": [
        {
            "name": "r",
            "region": "a",
            "replicas": 2,
            "max_in_flight": 128,
            "models": [{"name": "m", "profile": "llama-3.1-70b@4xh100", "context_tokens": 32768}],
        },
        {
            "name": "lone",
            "region": "b",
            "max_in_flight": 128,
            "models": [{"name": "m", "profile": "llama-3.1-70b@4xh100", "context_tokens": 32768}],
        },
    ],
}
DELETE = object()


def grid_csv(hours: int = 96, zones: str = "AB") -> str:
    """Ten days of May from the 10th on; a wave in each zone."""
    rows = ["datetime," + ",".join(zones)]
    for hour in range(hours):
        values = [
            f"{200 + 100 * math.sin(hour / 24 * math.tau + i):.1f}" for i in range(len(zones))
        ]
        stamp = f"2022-05-{10 + hour // 24:02d}T{hour % 24:02d}:00Z"
        rows.append(",".join([stamp, *values]))
    return "\n".join(rows) + "\n"


def scenario(folder: Path, changes: dict[str, Any] | None = None, grid: str | None = None) -> Path:
    """Write it; ``changes`` maps ``endpoints/0/name`` to its value."""
    data = copy.deepcopy(_VALID)
    for path, value in (changes or {}).items():
        *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        here: Any = data
        for step in parents:
            here = here.setdefault(step, {}) if isinstance(here, dict) else here[step]
        if value is DELETE:
            del here[last]
        elif isinstance(here, list) and last == len(here):
            here.append(value)
        else:
            here[last] = value
    (folder / "grid.csv").write_text(grid or grid_csv(), encoding="utf-8")
    file = folder / "scenario.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return file


def problems(file: Path, policies: Sequence[str] = ()) -> dict[str, str]:
    """What `load` refuses the file for, by key."""
    with pytest.raises(ConfigError) as caught:
        load(file, policies)
    assert str(file) in str(caught.value)
    return dict(caught.value.problems)
