"""What routing costs: CPU a request of the gateway beside a bare forwarder, in one run.

Starts an echo backend, a bare forwarder and one gateway a fleet size, then measures them in turn,
round after round, so that a slow minute of the machine hits all of them. The figure to compare is
CPU time of the proxy's processes (user + system, from /proc): requests a second on few cores
mostly measure the load generator. Linux only.

    python -m benchmarks.gateway_cost            # about a minute
    python -m benchmarks.gateway_cost --only forwarder
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.closed_loop import MESSAGES, STREAM, UNARY, Load, generator
from benchmarks.echo_backend import MODEL, SERVICE, TRUE
from benchmarks.machine import machine

HERE = Path(__file__).parent
FLOOR = "bare forwarder"
START_S = 120.0  # a gateway's first start compiles the cost kernel
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Proxy:
    """One process under test, with its figures by method, one a round."""

    name: str
    address: str
    pid: int
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    per_s: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, load: Load, method: str, count: int) -> None:
        """Send ``count`` requests; note CPU microseconds a request and requests a second."""
        before_s = cpu_s(self.pid)
        elapsed_s = load(self.address, method, count)
        used_us = (cpu_s(self.pid) - before_s) * 1e6
        self.cpu_us.setdefault(method, []).append(used_us / count)
        self.per_s.setdefault(method, []).append(count / elapsed_s)


def cpu_s(pid: int) -> float:
    """User plus system seconds of a process and its descendants, in ticks of usually 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S  # utime, stime
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return own_s + sum(cpu_s(int(child)) for child in children)


def free_addresses(count: int) -> list[str]:
    """``count`` addresses on 127.0.0.1 that nobody listened on just now."""
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


@contextmanager
def server(name: str, address: str, *arguments: str) -> Iterator[Proxy]:
    """A Python server that is ready at ``address``. SystemExit with its output when it is not."""
    with tempfile.TemporaryFile("w+b") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
        try:
            if not becomes_ready(process, address):
                log.seek(0)
                sys.exit(f"{name} did not get ready:\n{log.read().decode()[-4000:]}")
            yield Proxy(name, address, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def becomes_ready(process: subprocess.Popen[bytes], address: str) -> bool:
    """Whether ServerReady says true before START_S is over or the process ends."""
    deadline = time.monotonic() + START_S
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
    with grpc.insecure_channel(address, options=options) as channel:
        ready = channel.unary_unary(f"/{SERVICE}/ServerReady")
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if ready(b"", timeout=1.0) == TRUE:
                    return True
            except grpc.RpcError:
                pass  # not listening yet
            time.sleep(0.1)
    return False


def gateway_config(listen: str, admin: str, backends: list[str]) -> dict[str, object]:
    """A configuration with one endpoint a backend, in four regions, under the default policy."""
    zones = ("US-CAL-CISO", "US-MIDA-PJM", "FR", "DE")
    profile = {
        "kind": "task",
        "energy_j": 1.0,
        "service_ms": 1.0,
        "max_batch": 64,
        "host_fraction": 0.0,
    }
    return {
        "version": 1,
        "server": {"listen": listen, "admin": admin},
        "origins": {"client": {"rtt_ms": {f"region-{zone}": 1.0 for zone in zones}}},
        "default_origin": "client",
        "regions": {f"region-{zone}": {"grid_zone": zone, "pue": 1.1} for zone in zones},
        "carbon": {"sources": [{"kind": "static", "g_per_kwh": dict.fromkeys(zones, 400.0)}]},
        "profiles": {"echo": profile},
        "endpoints": [
            {
                "name": f"echo-{number}",
                "region": f"region-{zones[number % len(zones)]}",
                "address": address,
                "models": [{"name": MODEL, "profile": "echo"}],
                "max_in_flight": 64,
            }
            for number, address in enumerate(backends)
        ],
    }


@contextmanager
def fleet(only: str | None, sizes: list[int]) -> Iterator[list[Proxy]]:
    """The proxies to compare, all in front of one echo backend that listens on many ports."""
    backends = free_addresses(max(sizes))
    ports = [address.rpartition(":")[2] for address in backends]
    echo = [str(HERE / "echo_backend.py"), "--messages", str(MESSAGES), "--listen", *ports]
    with ExitStack() as running:
        running.enter_context(server("echo backend", backends[0], *echo))
        proxies = []
        if only != "gateway":
            (listen,) = free_addresses(1)
            forwarder = [str(HERE / "forwarder.py"), "--listen", listen.rpartition(":")[2]]
            command = server(FLOOR, listen, *forwarder, "--upstream", backends[0])
            proxies.append(running.enter_context(command))
        if only != "forwarder":
            folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
            for size in sizes:
                listen, admin = free_addresses(2)
                config = folder / f"{size}.json"  # JSON is YAML
                config.write_text(json.dumps(gateway_config(listen, admin, backends[:size])))
                command = server(
                    f"gateway, {size} endpoint{'s' * (size > 1)}",
                    listen,
                    *("-m", "router.cli", "serve", str(config)),
                )
                proxies.append(running.enter_context(command))
        yield proxies


def table(title: str, method: str, proxies: list[Proxy]) -> Table:
    """Medians over the rounds; the ratio is the median of each round's own ratio to the floor."""
    out = Table(title=title, title_justify="left")
    for heading in ("proxy", "CPU us/call", "lowest-highest", "calls/s", "CPU to floor"):
        out.add_column(heading, justify="left" if heading == "proxy" else "right")
    floor = next((proxy.cpu_us[method] for proxy in proxies if proxy.name == FLOOR), None)
    for proxy in proxies:
        cpu_us = proxy.cpu_us[method]
        ratios = [own / base for own, base in zip(cpu_us, floor or [], strict=False)]
        out.add_row(
            proxy.name,
            f"{statistics.median(cpu_us):,.0f}",
            f"{min(cpu_us):,.0f}-{max(cpu_us):,.0f}",
            f"{statistics.median(proxy.per_s[method]):,.0f}",
            f"{statistics.median(ratios):.2f}x" if ratios else "-",
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["forwarder", "gateway"], help="leave the other out")
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1, 64], help="fleet sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000, help="unary calls a round and proxy")
    parser.add_argument("--streams", type=int, default=200, help="streamed calls a round and proxy")
    wanted = parser.parse_args()
    name, load = generator()
    counts = {UNARY: wanted.requests, STREAM: wanted.streams}
    console = Console()
    with fleet(wanted.only, wanted.endpoints) as proxies:
        for round_number in range(-1, wanted.rounds):
            console.print(f"round {round_number + 1} of {wanted.rounds}", style="dim")
            for method, count in counts.items():
                for proxy in proxies:
                    if round_number < 0:
                        load(proxy.address, method, max(1, count // 10))  # warms up, not counted
                    else:
                        proxy.measure(load, method, count)
    console.print(f"{machine('grpcio')}; load: {name}, 32 calls in flight; {wanted.rounds} rounds")
    console.print(table("ModelInfer, 183-byte messages", UNARY, proxies))
    console.print(table(f"ModelStreamInfer, {MESSAGES} answers a call", STREAM, proxies))


if __name__ == "__main__":
    main()
