"""Load on one HTTP address: unary chats by wrk where it is installed, all else by `http_client`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.contender import Sent
from benchmarks.http_client import CONNECTIONS
from benchmarks.http_messages import CHAT, EVENTS, UNARY

_LIMIT_S = 120
# What wrk says that it takes, in its own units.
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

Unary = Callable[[str, float], Sent]
"""``load(address, seconds)``: chats for about so long; raises when one failed."""


def generator() -> tuple[str, Unary]:
    """The best load generator here for unary chats, with its name."""
    if shutil.which("wrk"):
        return "wrk", wrk
    return "a Python client (no wrk: apt-get install wrk)", python_client


def wrk(address: str, seconds: float) -> Sent:
    """Load by wrk, on CONNECTIONS connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            'wrk.method = "POST"\n'
            'wrk.headers["content-type"] = "application/json"\n'
            'wrk.headers["authorization"] = "Bearer none"\n'
            f"wrk.body = {json.dumps(UNARY.decode())}\n"
        )
        script.flush()
        command = [
            *("wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{max(1, round(seconds))}s"),
            *("--timeout", "20s", "-s", script.name, f"http://{address}{CHAT}"),
        ]
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, check=True
        ).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said or int(found[1]) == 0:
        raise RuntimeError(f"{address} failed some requests:\n{said}")
    return Sent(int(found[1]), float(found[2]) * _UNITS_S[found[3]])


def python_client(address: str, seconds: float) -> Sent:
    """Load by `http_client`, for as long as its first calls foretell."""
    first = _client(address, "--calls", "200")
    calls = max(200, int(200 / first["elapsed_s"] * seconds))
    done = _client(address, "--calls", str(calls))
    return Sent(calls + 200, first["elapsed_s"] + done["elapsed_s"])


def streams(address: str, calls: int, connections: int = CONNECTIONS) -> Sent:
    """``calls`` streamed answers; raises where one is not whole."""
    done = _client(address, "--stream", "--calls", str(calls), "--connections", str(connections))
    if done["events"] < calls * EVENTS:
        raise RuntimeError(f"{address}: {done['events']} events of {calls} answers")
    return Sent(calls, done["elapsed_s"])


def latency(address: str, per_s: float, seconds: float) -> tuple[float, float]:
    """p50 and p99, ms, in an open loop of unary chats."""
    told = _client(address, "--per-s", str(per_s), "--seconds", str(seconds))
    return told["p50_ms"], told["p99_ms"]


def _client(address: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.http_client", address, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{address} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
