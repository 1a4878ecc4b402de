"""What a start costs: CPU of ``carbon-router serve`` until it is ready, and of ``--help``.

Processor time rather than seconds, since what runs beside it on the machine changes those most. The
first start, which compiles the kernels unless they are on disk, is not counted. Linux only.

    python -m benchmarks.start
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contender import cpu_s
from benchmarks.echo_backend import MODEL
from benchmarks.gateway_config import gateway_config
from benchmarks.gateway_cost import says_ready
from benchmarks.machine import machine
from benchmarks.processes import answers, free_addresses, server

COMMAND = [sys.executable, "-m", "router.cli"]


def serve_s(backends: list[str]) -> float:
    """CPU s of one gateway, all its threads, from its process's begin until it says ready."""
    listen, admin = free_addresses(2)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")  # JSON is YAML
        config.write_text(json.dumps(gateway_config(listen, admin, backends, MODEL)))
        command = [*COMMAND, "serve", str(config)]
        with server("gateway", admin, command, answers("/readyz")) as gateway:
            return cpu_s(gateway.pid)


def help_s() -> float:
    """CPU s of ``carbon-router --help``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*COMMAND, "--help"], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--endpoints", type=int, default=8)
    wanted = parser.parse_args()
    backends = free_addresses(wanted.endpoints)
    ports = [address.rpartition(":")[2] for address in backends]
    echo = [sys.executable, "-m", "benchmarks.echo_backend", "--listen", *ports]
    with server("echo backend", backends[0], echo, says_ready):
        serve_s(backends)
        rounds = [(serve_s(backends), help_s()) for _ in range(wanted.rounds)]
    print(f"{machine('numba')}; {wanted.rounds} rounds, CPU s: median (lowest-highest)")
    for name, taken in zip(
        ("serve, until ready", "--help"), zip(*rounds, strict=True), strict=True
    ):
        print(f"{name:20} {statistics.median(taken):.2f} ({min(taken):.2f}-{max(taken):.2f})")


if __name__ == "__main__":
    main()
