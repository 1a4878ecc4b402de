"""Memory over many requests through the real gateway: resident set size, sampled as it serves.

    python benchmarks/soak.py                      # 100,000 requests, about a minute
    python benchmarks/soak.py --requests 1000000   # about ten minutes

The first fifth warms caches and pools up; the slope is of what follows. Linux only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from closed_loop import UNARY, generator
from gateway_cost import Proxy, fleet, machine
from rich.console import Console
from rich.table import Table

SAMPLES = 20
WARM_UP = SAMPLES // 5


def rss_mib(pid: int) -> float:
    """Resident set size of one process, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024.0
    raise SystemExit(f"process {pid} is gone")


def soak(proxy: Proxy, requests: int) -> list[float]:
    """RSS before the first and after each of SAMPLES batches."""
    _, load = generator()
    sizes = [rss_mib(proxy.pid)]
    for _ in range(SAMPLES):
        proxy.measure(load, UNARY, requests // SAMPLES)
        sizes.append(rss_mib(proxy.pid))
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    requests = parser.parse_args().requests
    with fleet(None, [1]) as proxies:
        gateway = proxies[-1]
        sizes = soak(gateway, requests)
    done = np.arange(len(sizes)) * (requests // SAMPLES)
    slope = np.polyfit(done[WARM_UP:], sizes[WARM_UP:], 1)[0] * 1e6
    table = Table(title="Gateway, unary ModelInfer", title_justify="left")
    for name in ("requests", "RSS, MiB"):
        table.add_column(name, justify="right")
    for count, size in list(zip(done, sizes, strict=True))[:: SAMPLES // 5]:
        table.add_row(f"{count:,}", f"{size:.1f}")
    console = Console()
    console.print(machine(), highlight=False)
    console.print(table)
    console.print(f"after the first fifth: {slope:+.1f} MiB per 10^6 requests")


if __name__ == "__main__":
    main()
