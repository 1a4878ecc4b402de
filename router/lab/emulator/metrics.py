"""An emulated endpoint's load and energy as Prometheus text, with vLLM's metric names."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from aiohttp import web

from router.lab.emulator.guard import OPEN, EmulatorGuard
from router.lab.emulator.lag import EDGES_MS, LoopLag
from router.lab.emulator.machine import Machine
from router.model import Endpoint

Machines = Callable[[], Mapping[str, Machine]]

_GAUGES = (
    ("vllm:num_requests_running", "gauge", "Requests that hold a slot (emulated)."),
    ("vllm:num_requests_waiting", "gauge", "Requests that wait for a slot (emulated)."),
    ("vllm:kv_cache_usage_perc", "gauge", "Slots in use, 0 to 1 (emulated)."),
    ("vllm:prompt_tokens_total", "counter", "Tokens of prompts that were read (emulated)."),
    ("vllm:generation_tokens_total", "counter", "Tokens of answers (emulated)."),
    ("vllm:iteration_tokens_total_count", "counter", "Iterations (emulated)."),
    ("emulated:energy_joules_total", "counter", "GPU and host energy, idle draw included."),
    ("emulated:idle_joules_total", "counter", "GPU and host energy drawn with no request."),
    ("emulated:busy_seconds_total", "counter", "Time with at least one request."),
)
LAG = "emulated:loop_lag_seconds"


def render(machines: Mapping[str, Machine], lag: LoopLag) -> str:
    """Prometheus text exposition of the endpoint's models; ``lag``: of the whole process."""
    rows: list[tuple[str, tuple[float, ...]]] = []
    for model, machine in machines.items():
        replica = machine.settle()
        values = (
            replica.running,
            replica.queued,
            replica.running / replica.physics.max_batch,
            replica.read_tokens,
            replica.tokens,
            replica.iterations,
            replica.energy_j,
            replica.idle_energy_j,
            replica.busy_s,
        )
        rows.append((model.replace("\\", "\\\\").replace('"', '\\"'), values))
    lines = []
    for i, (name, kind, text) in enumerate(_GAUGES):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f'{name}{{model_name="{model}"}} {values[i]:.17g}' for model, values in rows]
    lines += [f"# HELP {LAG} How late the process wakes up.", f"# TYPE {LAG} histogram"]
    seen = 0
    for edge_ms, count in zip((*EDGES_MS, math.inf), lag.counts, strict=True):
        seen += count
        edge = "+Inf" if edge_ms == math.inf else f"{edge_ms / 1e3:g}"
        lines.append(f'{LAG}_bucket{{le="{edge}"}} {seen}')
    lines += [f"{LAG}_sum {lag.total_s:.17g}", f"{LAG}_count {seen}"]
    return "\n".join(lines) + "\n"


def is_own(endpoint: Endpoint) -> bool:
    """Whether ``metrics_url`` lies on the endpoint's own address, as servers of HTTP have it."""
    url = urlsplit(endpoint.metrics_url)
    return endpoint.protocol == "openai" and url.netloc == endpoint.address


def own_path(endpoint: Endpoint) -> str:
    """Where an endpoint that speaks HTTP has its page on its own address."""
    path = urlsplit(endpoint.metrics_url).path if is_own(endpoint) else ""
    return path or "/metrics"


async def start(
    sites: Mapping[str, tuple[Endpoint, Machines]],
    lag: LoopLag,
    guard: EmulatorGuard = OPEN,
) -> list[web.AppRunner]:
    """Serve every endpoint's ``metrics_url``; several may share a host and port, not a path.

    ``guard``: of those that are https; a key is asked for on the endpoint's own address alone.

    One on an endpoint's own address is served there. Raises OSError where a port is taken. The
    caller cleans the runners up.
    """
    by_address: dict[tuple[str, int, str], web.Application] = {}
    for endpoint, machines in sites.values():
        if is_own(endpoint):
            continue
        url = urlsplit(endpoint.metrics_url)
        address = (url.hostname or "127.0.0.1", url.port or 80, url.scheme)
        app = by_address.setdefault(address, web.Application())
        app.router.add_get(url.path or "/", _handler(machines, lag))
    runners: list[web.AppRunner] = []
    try:
        for (host, port, scheme), app in by_address.items():
            runner = web.AppRunner(app, access_log=None)
            runners.append(runner)
            await runner.setup()
            tls = guard.tls if scheme == "https" else None
            context = tls.context() if tls is not None else None
            await web.TCPSite(runner, host, port, ssl_context=context).start()
    except BaseException:
        for runner in runners:
            await runner.cleanup()
        raise
    return runners


def _handler(
    machines: Machines, lag: LoopLag
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def metrics(request: web.Request) -> web.StreamResponse:
        return web.Response(text=render(machines(), lag))

    return metrics
