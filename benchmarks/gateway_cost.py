"""What routing costs: CPU a request of the gateway beside a bare forwarder, in one run.

Starts an echo backend, a bare forwarder and one gateway a fleet size, then measures them in turn,
round after round, so that a slow minute of the machine hits all of them. The figure to compare is
CPU time of the proxy's processes (user + system, from /proc): requests a second on few cores
mostly measure the load generator. Linux only.

    python -m benchmarks.gateway_cost            # about a minute
    python -m benchmarks.gateway_cost --only forwarder
    python -m benchmarks.gateway_cost --only gateway --endpoints 64 --keys
    python -m benchmarks.gateway_cost --native --clients grpc --beside ../before
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from benchmarks.closed_loop import MESSAGES, STREAM, UNARY, Load, generator, grpc_aio
from benchmarks.contender import Contender, Sent, table
from benchmarks.echo_backend import MODEL, SERVICE, TRUE
from benchmarks.gateway_config import gateway_config
from benchmarks.machine import machine
from benchmarks.native_backend import native_backends
from benchmarks.processes import free_addresses, server

HERE = Path(__file__).parent
FLOOR = "bare forwarder"
OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))


def says_ready(address: str) -> bool:
    """Whether ServerReady says true."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        ready = channel.unary_unary(f"/{SERVICE}/ServerReady")
        try:
            return bool(ready(b"", timeout=1.0) == TRUE)
        except grpc.RpcError:
            return False  # not listening yet


KEY = "crk_benchmarkaaa_" + "k" * 43
LIMITS = {"requests_per_s": 1e6, "tokens_per_min": 1e12, "max_concurrent": 100_000}


def with_keys(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``config`` of a gateway that asks who calls, and holds each to limits that nobody reaches."""
    key = {"id": KEY[4:16], "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    principal = {"name": "load", "tenant": "load", "limits": LIMITS, "keys": [key]}
    (folder / "keys.json").write_text(json.dumps({"version": 1, "principals": [principal]}))
    return {**config, "identity": {"keys_file": "keys.json"}}


@contextmanager
def fleet(
    only: str | None, sizes: list[int], keys: bool, native: bool, beside: str | None
) -> Iterator[list[Contender]]:
    """The proxies to compare, all in front of one echo backend that listens on many ports, or of
    ``native`` ones. ``beside``: a folder whose gateway is measured, too."""
    backends = free_addresses(max(sizes))
    ports = [address.rpartition(":")[2] for address in backends]
    echo = [str(HERE / "echo_backend.py"), "--messages", str(MESSAGES), "--listen", *ports]
    with ExitStack() as running:
        python = sys.executable
        if native:
            program = shutil.which("nghttpd")
            running.enter_context(native_backends(program, backends, says_ready))
        else:
            running.enter_context(server("echo backend", backends[0], [python, *echo], says_ready))
        proxies = []
        if only != "gateway":
            (listen,) = free_addresses(1)
            forwarder = [str(HERE / "forwarder.py"), "--listen", listen.rpartition(":")[2]]
            command = [python, *forwarder, "--upstream", backends[0]]
            proxies.append(running.enter_context(server(FLOOR, listen, command, says_ready)))
        if only != "forwarder":
            folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
            for size, keyed in [(size, one) for size in sizes for one in (False, True)[: 1 + keys]]:
                listen, admin = free_addresses(2)
                config = folder / f"{size}-{keyed}.json"  # JSON is YAML
                told = gateway_config(listen, admin, backends[:size], MODEL)
                config.write_text(json.dumps(with_keys(told, folder) if keyed else told))
                name = f"gateway, {size} endpoint{'s' * (size > 1)}{', keys' * keyed}"
                command = [python, "-m", "router.cli", "serve", str(config)]
                proxies.append(running.enter_context(server(name, listen, command, says_ready)))
                if beside is not None:
                    listen, admin = free_addresses(2)
                    told["server"] |= {"listen": listen, "admin": admin}
                    other = folder / f"{size}-{keyed}-beside.json"
                    other.write_text(json.dumps(with_keys(told, folder) if keyed else told))
                    command = [python, "-P", "-m", "router.cli", "serve", str(other)]
                    path = {"PYTHONPATH": beside}
                    one = server(
                        f"{name}, of {Path(beside).name}", listen, command, says_ready, path
                    )
                    proxies.append(running.enter_context(one))
        yield proxies


def sent(load: Load, method: str, count: int, address: str) -> Sent:
    """``count`` calls of a method; all bring a key, whether anybody asks for it or not."""
    return Sent(count, load(address, method, count, (("authorization", f"Bearer {KEY}"),)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["forwarder", "gateway"], help="leave the other out")
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1, 64], help="fleet sizes")
    parser.add_argument("--keys", action="store_true", help="beside each one that asks who calls")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000, help="unary calls a round and proxy")
    parser.add_argument("--streams", type=int, default=200, help="streamed calls a round and proxy")
    parser.add_argument("--native", action="store_true", help="nghttpd behind all; no streams")
    parser.add_argument("--clients", choices=["grpc"], help="gRPC's C core, not h2load")
    parser.add_argument("--beside", help="a checkout whose gateway is measured, too")
    wanted = parser.parse_args()
    name, load = ("grpc.aio client", grpc_aio) if wanted.clients else generator()
    counts = {UNARY: wanted.requests, STREAM: 0 if wanted.native else wanted.streams}
    console = Console()
    with fleet(wanted.only, wanted.endpoints, wanted.keys, wanted.native, wanted.beside) as proxies:
        for round_number in range(-1, wanted.rounds):
            console.print(f"round {round_number + 1} of {wanted.rounds}", style="dim")
            for method, count in counts.items():
                if not count:
                    continue
                for proxy in proxies:
                    if round_number < 0:
                        # Warms up, not counted.
                        sent(load, method, max(1, count // 10), proxy.address)
                    else:
                        proxy.measure(method, partial(sent, load, method, count))
    console.print(f"{machine('grpcio')}; load: {name}, 32 calls in flight; {wanted.rounds} rounds")
    floor = FLOOR if wanted.only != "gateway" else proxies[0].name
    console.print(table("ModelInfer, 183-byte messages", UNARY, proxies, floor))
    if counts[STREAM]:
        console.print(table(f"ModelStreamInfer, {MESSAGES} answers a call", STREAM, proxies, floor))


if __name__ == "__main__":
    main()
