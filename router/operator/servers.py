"""What ``check --servers`` tells: what each server of the fleet says of itself, and what of that is
not as configured. Each is asked once, as a gateway would ask it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from router.app.compose import build_upstreams
from router.app.loading import load
from router.config.settings import ServerSettings
from router.contract import Probe, StatedModel, Upstream
from router.errors import UpstreamError
from router.model import Endpoint, ServedModel

_TIMEOUT_S = 5.0
_MOST_AT_ONCE = 32
_STATES = {
    Probe.READY: "ready",
    Probe.NOT_READY: "not ready",
    Probe.UNKNOWN: "answers, but not whether it is ready",
    Probe.REFUSED: "cannot be reached",
    Probe.SILENT: f"no answer within {_TIMEOUT_S:g} s",
}
_USABLE = (Probe.READY, Probe.UNKNOWN)
_OFFERED = {
    Probe.READY: "ready",
    Probe.NOT_READY: "NOT SERVED, would not be sent any",
    Probe.UNKNOWN: "not told whether it is served",
    Probe.REFUSED: "no answer",
    Probe.SILENT: "no answer",
}


class ServerFindings(NamedTuple):
    """``notes``: a line for each endpoint, and one for each model there. ``unusable``: what of them
    a gateway would send nothing to now, in few words each."""

    notes: list[str]
    unusable: list[str]


def server_findings(config_path: Path) -> ServerFindings:
    """What the servers of a configuration say. Raises ConfigError and TraceError."""
    config = load(config_path)
    found = asyncio.run(_ask_all(config.fleet.endpoints, config.settings.server))
    return ServerFindings(
        [line for one in found for line in one.notes],
        [what for one in found for what in one.unusable],
    )


async def _ask_all(endpoints: Sequence[Endpoint], settings: ServerSettings) -> list[ServerFindings]:
    upstreams = build_upstreams(settings, lambda: None)
    turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def ask(endpoint: Endpoint) -> ServerFindings:
        async with turns:
            return await _ask(endpoint, upstreams[endpoint.protocol])

    try:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(endpoint)) for endpoint in endpoints]
    finally:
        for upstream in upstreams.values():
            await upstream.backend.close()
    return [task.result() for task in asked]


async def _ask(endpoint: Endpoint, upstream: Upstream) -> ServerFindings:
    state = await upstream.backend.probe(endpoint, _TIMEOUT_S)
    lines = [f"{endpoint.name} ({endpoint.address}): {_STATES[state]}"]
    unusable = [] if state in _USABLE else [f"{endpoint.name} {_STATES[state]}"]
    if state in (Probe.REFUSED, Probe.SILENT):
        return ServerFindings(lines, unusable)
    stated = await _stated(endpoint, upstream)
    for served in endpoint.models:
        offered = await upstream.backend.probe_model(
            endpoint, served.name, served.version, _TIMEOUT_S
        )
        context = _context(served, stated.get(served.name))
        lines.append(f"{endpoint.name}: {served.name}: {_OFFERED[offered]}{context}")
        if offered is Probe.NOT_READY:
            unusable.append(f"{endpoint.name} does not serve {served.name}")
    return ServerFindings(lines, unusable)


async def _stated(endpoint: Endpoint, upstream: Upstream) -> Mapping[str, StatedModel]:
    if upstream.catalogue is None:
        return {}
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await upstream.catalogue.models(endpoint, _TIMEOUT_S)
    except (UpstreamError, TimeoutError):
        return {}


def _context(served: ServedModel, stated: StatedModel | None) -> str:
    """What holds of its context, and by whose word."""
    configured = served.context_tokens
    tokens = math.nan if stated is None else stated.context_tokens
    if tokens < configured:
        before = "" if math.isinf(configured) else f", shorter than the {configured:g} configured"
        return f"; context {tokens:g} tokens by the server{before}"
    if math.isinf(configured):
        return "; context not told, no limit is held"
    more = f" (the server says {tokens:g})" if tokens > configured else ""
    return f"; context {configured:g} tokens as configured{more}"
