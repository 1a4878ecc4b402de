"""What the HTTP benchmarks share: backends, contenders of our own, rounds of load, the tables.

Unary chats are answered by nginx where that is installed, streams by `http_backend`; both keep
connections, and neither takes much of the machine. Round after round the contenders take turns, so
that a slow minute of the machine hits all of them.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import http_load
from benchmarks.contender import Contender
from benchmarks.gateway_config import http_gateway_config
from benchmarks.http_messages import ANSWER, CHAT, EVENTS, MODEL, MODELS, UNARY
from benchmarks.loops import HAS_UVLOOP
from benchmarks.processes import answers, free_addresses, server
from router.app.envoy import run_folder

LOOPS = ("uvloop", "asyncio") if HAS_UVLOOP else ("asyncio",)
FLOOR = f"bare aiohttp forwarder, {LOOPS[0]}"
CALLS, CHUNKS = "unary chats", "streamed chunks"
_STREAM_CALLS = 96
_LATENCY_S = 2.0
# `serve` as it is where nobody has uvloop.
_WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None; from router.cli import main; sys.exit(main())"
)
is_answering = answers(CHAT, UNARY)


@contextmanager
def unary_backends(count: int) -> Iterator[tuple[str, list[str]]]:
    """What answers unary chats, and its ``count`` addresses."""
    if shutil.which("nginx") is None:
        with _python_backends(count) as found:
            yield "a Python server (no nginx: apt-get install nginx)", found
        return
    addresses = free_addresses(count)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_nginx_config(folder, addresses))
        # Without -e it would open its usual log before it reads what we say.
        command = ["nginx", "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"]
        with server("nginx", addresses[0], command, is_answering):
            yield "nginx", addresses


@contextmanager
def stream_backends(count: int) -> Iterator[tuple[str, list[str]]]:
    """What answers streamed chats, and its ``count`` addresses."""
    with _python_backends(count) as addresses:
        yield f"a Python server on {LOOPS[0]}", addresses


@contextmanager
def _python_backends(count: int) -> Iterator[list[str]]:
    addresses = free_addresses(count)
    ports = [address.rpartition(":")[2] for address in addresses]
    command = [sys.executable, "-m", "benchmarks.http_backend", "--listen", *ports]
    with server("HTTP backend", addresses[0], command, is_answering):
        yield addresses


def _nginx_config(folder: str, addresses: Sequence[str]) -> str:
    listening = "\n".join(f"listen {address} backlog=1024;" for address in addresses)
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
        daemon off; worker_processes 1; pid {folder}/pid;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
            default_type application/json;
            {temporary}
            server {{
                {listening}
                location = /v1/models {{ return 200 '{MODELS.decode()}'; }}
                location / {{ return 200 '{ANSWER.decode()}'; }}
            }}
        }}
    """


def forwarders(upstream: str, running: ExitStack) -> list[Contender]:
    """The floor, and the same on asyncio's own loop where that was another."""
    made = []
    for loop in LOOPS:
        (listen,) = free_addresses(1)
        port = listen.rpartition(":")[2]
        command = [
            *(sys.executable, "-m", "benchmarks.http_forwarder", "--listen", port),
            *("--upstream", upstream, "--loop", loop),
        ]
        name = FLOOR.replace(LOOPS[0], loop)
        made.append(running.enter_context(server(name, listen, command, is_answering)))
    return made


def gateway(backends: Sequence[str], running: ExitStack, plain: bool = False) -> Contender:
    """`carbon-router serve` over ``backends``. ``plain``: without uvloop where it is installed."""
    listen, admin, http = free_addresses(3)
    config = Path(running.enter_context(tempfile.TemporaryDirectory())) / "gateway.json"
    config.write_text(json.dumps(http_gateway_config(listen, admin, http, list(backends), MODEL)))
    called = ["-c", _WITHOUT_UVLOOP] if plain else ["-m", "router.cli"]
    name = f"carbon-router, {len(backends)} endpoint{'s' * (len(backends) > 1)}"
    command = [sys.executable, *called, "serve", str(config)]
    name += ", asyncio" if plain else ""
    return running.enter_context(server(name, http, command, is_answering))


def plane(backends: Sequence[str], running: ExitStack) -> list[Contender]:
    """`carbon-router envoy` over ``backends``, Envoy at one thread: Envoy alone, and with the
    process that keeps its table."""
    listen, admin, http = free_addresses(3)
    config = Path(running.enter_context(tempfile.TemporaryDirectory())) / "plane.json"
    config.write_text(json.dumps(http_gateway_config(listen, admin, http, list(backends), MODEL)))
    command = [sys.executable, "-m", "router.cli", "envoy", str(config)]
    name = f"carbon-router in Envoy, {len(backends)} endpoints"
    both = running.enter_context(server(f"{name}, both processes", http, command, is_answering))
    envoy = json.loads((run_folder(config) / "envoy.json").read_text())
    return [Contender(name, http, envoy["pid"]), both]


def measure_unary(contenders: Sequence[Contender], rounds: int, seconds: float) -> None:
    """Unary chats by wrk or its like."""
    _, load = http_load.generator()
    for one in contenders:
        load(one.address, 1.0)  # warms up, not counted
    for _ in range(rounds):
        for one in contenders:
            one.measure(CALLS, lambda address: load(address, seconds))


def measure_streams(contenders: Sequence[Contender], rounds: int) -> None:
    """Streamed chats, by the chunk."""
    calls = {}
    for one in contenders:
        # Warms up. Of who is slow less is asked: a round takes all of them some seconds.
        took_s = http_load.streams(one.address, http_load.CONNECTIONS).elapsed_s
        calls[one.name] = max(8, int(_STREAM_CALLS * min(1.0, 1.5 / took_s)))
    for _ in range(rounds):
        for one in contenders:
            load = partial(http_load.streams, calls=calls[one.name])
            one.measure(CHUNKS, load, EVENTS)


def added_latency(contenders: Sequence[Contender], backend: str, rounds: int) -> Table:
    """What each adds to the backend's own latency at half of its own saturation, in the best of the
    rounds, in each of which it is held against the backend alone at the same rate: neighbours on
    the machine only ever add."""
    title = f"latency of unary chats, open loop, least of {rounds} rounds"
    out = Table(title=title, title_justify="left")
    for heading in ("proxy", "half of saturation", "p50 ms", "p99 ms", "added p50", "added p99"):
        out.add_column(heading, justify="left" if heading == "proxy" else "right")
    for one in contenders:
        per_s = statistics.median(one.per_s[CALLS]) / 2.0
        there, added = [], []
        for _ in range(rounds):
            alone = http_load.latency(backend, per_s, _LATENCY_S)
            there.append(http_load.latency(one.address, per_s, _LATENCY_S))
            added.append([own - base for own, base in zip(there[-1], alone, strict=True)])
        figures = [*map(min, zip(*there, strict=True)), *map(min, zip(*added, strict=True))]
        out.add_row(one.name, f"{per_s:,.0f}/s", *(f"{ms:.2f}" for ms in figures))
    return out


def console() -> Console:
    """Wide enough for the tables wherever it is read; brackets are brackets."""
    return Console(width=120, markup=False)
