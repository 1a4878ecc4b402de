"""Open-loop load by k6, an independent gRPC client in Go."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
PROTO = HERE.parent.parent / "proto"
RATE = 50
DURATION_S = 4
SENT = RATE * DURATION_S


def test_every_request_of_an_open_loop_is_answered(real_python: Path, target: str) -> None:
    done = subprocess.run(
        [
            real_python.parent / "k6", "run", "--quiet", "--no-usage-report", "--no-color",
            "-e", f"ADDRESS={target}", "-e", f"PROTO={PROTO}",
            "-e", f"RATE={RATE}", "-e", f"DURATION={DURATION_S}", HERE / "k6" / "infer.js",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    metrics = json.loads(done.stdout)
    checks = metrics["checks"]["values"]
    assert checks["fails"] == 0, done.stderr[-4000:]
    answered = metrics["iterations"]["values"]["count"]
    assert checks["passes"] == 2 * answered
    # k6 itself drops an arrival when this machine leaves it no free virtual user.
    dropped = metrics.get("dropped_iterations", {"values": {"count": 0}})["values"]["count"]
    assert answered + dropped >= SENT
    assert answered >= SENT // 2
