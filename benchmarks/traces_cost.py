"""What traces cost: CPU a request of gateways that send none, few and all, in one run.

As `benchmarks.gateway_cost`, with gateways that differ in `telemetry.otlp` alone, and a collector
that takes what comes. The figure to compare is CPU time of the gateway's process, its thread that
sends included. Linux only.

    python -m benchmarks.traces_cost             # about two minutes
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import grpc
from rich.console import Console

from benchmarks.closed_loop import UNARY, generator
from benchmarks.contender import Contender, table
from benchmarks.echo_backend import MODEL
from benchmarks.gateway_config import gateway_config
from benchmarks.gateway_cost import HERE, says_ready, sent
from benchmarks.machine import machine
from benchmarks.processes import free_addresses, server

OFF = "traces off"
RATIOS = (0.0, 0.1, 1.0)
_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class Sink:
    """A collector that takes all, unread; its CPU is the load's, which nobody counts."""

    def __init__(self, address: str) -> None:
        self.calls = 0
        handler = grpc.unary_unary_rpc_method_handler(self._take)
        self._server = grpc.server(ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),)
        )
        self._server.add_insecure_port(address)
        self._server.start()

    def _take(self, _: bytes, __: grpc.ServicerContext) -> bytes:
        self.calls += 1
        return b""

    def close(self) -> None:
        self._server.stop(0).wait()


@contextmanager
def gateways(collector: str) -> Iterator[list[Contender]]:
    """One a ratio, and one without traces, all in front of one echo backend."""
    (backend,) = free_addresses(1)
    python = sys.executable
    echo = [str(HERE / "echo_backend.py"), "--listen", backend.rpartition(":")[2]]
    with ExitStack() as running:
        running.enter_context(server("echo backend", backend, [python, *echo], says_ready))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        proxies = []
        for ratio in (None, *RATIOS):
            listen, admin = free_addresses(2)
            told = gateway_config(listen, admin, [backend], MODEL)
            if ratio is not None:
                otlp = {"endpoint": f"http://{collector}", "sample_ratio": ratio}
                told = {**told, "telemetry": {"otlp": otlp}}
            path = folder / f"{ratio}.json"  # JSON is YAML
            path.write_text(json.dumps(told))
            name = OFF if ratio is None else f"{ratio:.0%} of requests"
            command = [python, "-m", "router.cli", "serve", str(path)]
            proxies.append(running.enter_context(server(name, listen, command, says_ready)))
        yield proxies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000, help="calls a round and gateway")
    wanted = parser.parse_args()
    name, load = generator()
    console = Console()
    (collector,) = free_addresses(1)
    sink = Sink(collector)
    with gateways(collector) as proxies:
        for round_number in range(-1, wanted.rounds):
            console.print(f"round {round_number + 1} of {wanted.rounds}", style="dim")
            for proxy in proxies:
                if round_number < 0:
                    sent(load, UNARY, wanted.requests, proxy.address)  # warms up, not counted
                else:
                    proxy.measure(UNARY, partial(sent, load, UNARY, wanted.requests))
    sink.close()
    console.print(
        f"{machine('grpcio')}; load: {name}; {wanted.rounds} rounds; {sink.calls} exports"
    )
    console.print(table("ModelInfer, 183-byte messages", UNARY, proxies, OFF))


if __name__ == "__main__":
    main()
