"""Whether memory stays flat: resident size of the gateway over many unary requests.

Starts an echo backend and one gateway of four endpoints, sends the requests in twenty parts and
reads the gateway's resident size after each. Printed at the end: every sample, and the slope of a
straight line through those after the warm-up, in MiB a million requests. Linux only.

    python -m benchmarks.soak                        # 100,000 requests, a minute or two
    python -m benchmarks.soak --requests 1000000
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.closed_loop import MESSAGES, UNARY, Load, generator
from benchmarks.gateway_cost import HERE, free_addresses, gateway_config, server
from benchmarks.machine import machine

PARTS = 20
ENDPOINTS = 4
# Caches fill, arenas grow and code is specialised before this share of the requests.
WARM_UP = 0.25
MILLION = 1e6


class Sample(NamedTuple):
    """What the gateway held after so many requests."""

    requests: int
    rss_mib: float
    open_files: int
    threads: int
    per_s: float


def status(pid: int, key: str) -> int:
    """A figure of /proc/PID/status: kB for sizes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise KeyError(key)


def soak(pid: int, address: str, load: Load, requests: int) -> list[Sample]:
    """Send ``requests`` in PARTS parts; one sample after each."""
    samples = []
    for part in range(PARTS):
        count = requests * (part + 1) // PARTS - requests * part // PARTS
        elapsed_s = load(address, UNARY, count, ())
        samples.append(
            Sample(
                requests * (part + 1) // PARTS,
                status(pid, "VmRSS") / 1024.0,
                len(list(Path(f"/proc/{pid}/fd").iterdir())),
                status(pid, "Threads"),
                count / elapsed_s,
            )
        )
    return samples


def slope(samples: list[Sample]) -> float:
    """MiB a million requests, by least squares over the samples after the warm-up."""
    settled = [sample for sample in samples if sample.requests > WARM_UP * samples[-1].requests]
    line = statistics.linear_regression(
        [sample.requests / MILLION for sample in settled], [sample.rss_mib for sample in settled]
    )
    return line.slope


def table(samples: list[Sample]) -> Table:
    out = Table(title="The gateway's memory", title_justify="left")
    for heading in ("requests", "resident MiB", "open files", "threads", "calls/s"):
        out.add_column(heading, justify="right")
    for sample in samples:
        out.add_row(
            f"{sample.requests:,}",
            f"{sample.rss_mib:.2f}",
            str(sample.open_files),
            str(sample.threads),
            f"{sample.per_s:,.0f}",
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000, help="up to 1,000,000 or so")
    wanted = parser.parse_args()
    name, load = generator()
    console = Console()
    backends = free_addresses(ENDPOINTS)
    listen, admin = free_addresses(2)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "gateway.json"  # JSON is YAML
        config.write_text(json.dumps(gateway_config(listen, admin, backends)))
        ports = [address.rpartition(":")[2] for address in backends]
        echo = [str(HERE / "echo_backend.py"), "--messages", str(MESSAGES), "--listen", *ports]
        running.enter_context(server("echo backend", backends[0], *echo))
        serve = ("-m", "router.cli", "serve", str(config))
        gateway = running.enter_context(server("gateway", listen, *serve))
        samples = soak(gateway.pid, gateway.address, load, wanted.requests)
    console.print(f"{machine('grpcio')}; load: {name}, 32 calls in flight")
    console.print(table(samples))
    first = next(sample for sample in samples if sample.requests > WARM_UP * wanted.requests)
    console.print(
        f"after the first {WARM_UP:.0%}: {slope(samples):+.2f} MiB a million requests "
        f"({first.rss_mib:.2f} to {samples[-1].rss_mib:.2f} MiB)"
    )


if __name__ == "__main__":
    main()
