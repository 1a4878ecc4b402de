"""Small made-up input files for the backtest's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from tests.carbon.forecast.series import grid

START = datetime(2022, 3, 1, tzinfo=UTC)
DAYS = 20
ORIGIN = START + timedelta(days=14)


def columns(zones: int = 2) -> np.ndarray:
    """Shape (hours, zones)."""
    return np.stack([grid(24 * DAYS, seed=k, swing=0.2 + 0.1 * k) for k in range(zones)], axis=1)


def write(path: Path, values: np.ndarray, step_min: int = 60, names: str = "NORTH,SØR") -> Path:
    """A wide CSV from START; NaN becomes a blank."""
    lines = ["datetime," + names]
    for row, cells in enumerate(values.tolist()):
        stamp = START + timedelta(minutes=row * step_min)
        texts = ["" if cell != cell else f"{cell:.4f}" for cell in cells]
        lines.append(f"{stamp:%Y-%m-%dT%H:%MZ}," + ",".join(texts))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
