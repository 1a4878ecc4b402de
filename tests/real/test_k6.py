"""Open-loop load by k6, an independent client in Go of gRPC and of HTTP."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.real.http_servers import MODEL

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
PROTO = HERE.parent.parent / "proto"
DURATION_S = 4


def test_every_request_of_an_open_loop_is_answered(real_python: Path, target: str) -> None:
    hold(real_python, "infer.js", 50, ADDRESS=target, PROTO=str(PROTO))


def test_every_chat_of_an_open_loop_is_answered(real_python: Path, openai_gateway: str) -> None:
    # The model takes some 60 ms of a core for such an answer.
    hold(real_python, "chat.js", 4, URL=openai_gateway, MODEL=MODEL)


def hold(python: Path, script: str, rate: int, **environment: str) -> None:
    """Run a script; every request must be answered as it should, and most must have been sent."""
    named = {**environment, "RATE": str(rate), "DURATION": str(DURATION_S)}
    given = [part for name, value in named.items() for part in ("-e", f"{name}={value}")]
    done = subprocess.run(
        [
            python.parent / "k6", "run", "--quiet", "--no-usage-report", "--no-color", *given,
            HERE / "k6" / script,
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
    sent = rate * DURATION_S
    assert answered + dropped >= sent
    assert answered >= sent // 2
