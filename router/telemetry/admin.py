"""The admin port: /metrics, /healthz, /readyz and /snapshot, for operators and orchestrators;
other pages are handed to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from router.telemetry.exposition import endpoint_page, exposition
from router.telemetry.metrics import Metrics
from router.telemetry.own_names import is_own_name
from router.telemetry.view import FleetView, Json, as_json
from router.trust.contexts import ServerTls
from router.trust.listener import TlsListener
from router.trust.secrets import Secret
from router.trust.watched import Watched

# Scrapers, probes and people need a handful; the oldest go first, so that a new one is answered.
MAX_CONNECTIONS = 64

_HEALTHZ = "/healthz"
_READYZ = "/readyz"
_NO_NAME = (
    "this port is not called so: ask by its IP address, or list the name in server.admin_hosts\n"
)
# A configuration of many endpoints may have many defects.
_MAX_DETAIL = 2000


class Reason(NamedTuple):
    """Why the gateway is not quite ready. Only a ``blocking`` one asks for no new traffic."""

    reason: str
    detail: str
    blocking: bool


class Liveness(NamedTuple):
    """Whether the gateway lives: not when only its restart would mend it. ``notes``: what is wrong
    with its other processes, which mend themselves."""

    alive: bool
    notes: tuple[Reason, ...]


class Readiness(NamedTuple):
    """Ready unless a blocking reason stands; degraded when only others do."""

    reasons: tuple[Reason, ...]

    @property
    def ready(self) -> bool:
        """Whether this process should get new requests."""
        return not any(reason.blocking for reason in self.reasons)

    @property
    def status(self) -> str:
        """``ready``, ``degraded`` or ``not_ready``."""
        if not self.reasons:
            return "ready"
        return "degraded" if self.ready else "not_ready"


def assess(
    *,
    draining: bool,
    has_snapshot: bool,
    dead_tasks: Sequence[str],
    models: Sequence[str],
    models_without_endpoint: Sequence[str],
    reload_refused: str = "",
    notes: Sequence[Reason] = (),
) -> Readiness:
    """Readiness from what the gateway knows of itself.

    A dead background task does not block: the gateway keeps serving on its last snapshot. A model
    without a healthy endpoint blocks only when no model has one: the others must stay reachable.
    ``reload_refused``: why the file on disk is not in force; ``notes``: what else is to be told.
    """
    reasons: list[Reason] = []
    if draining:
        reasons.append(Reason("draining", "shutting down, takes no new requests", True))
    if not has_snapshot:
        reasons.append(Reason("no_snapshot", "carbon and load were not read yet", True))
    for task in dead_tasks:
        detail = f"{task} died and is being restarted; its last figures are in use"
        reasons.append(Reason("background_task_dead", detail, False))
    nothing_served = set(models) <= set(models_without_endpoint)
    for model in models_without_endpoint:
        detail = f"no healthy endpoint serves {model}"
        reasons.append(Reason("no_healthy_endpoint", detail, nothing_served))
    if reload_refused:
        detail = f"the file on disk was refused, the configuration before stays: {reload_refused}"
        reasons.append(Reason("reload_refused", detail[:_MAX_DETAIL], False))
    return Readiness((*reasons, *notes))


class AdminSource(Protocol):
    """What the admin port asks the gateway; every answer must be quick and never raise."""

    def readiness(self) -> Readiness:
        """Whether the gateway takes requests now, and why not."""
        ...

    def liveness(self) -> Liveness:
        """Whether the gateway lives, and what is wrong with its processes."""
        ...

    def fleet(self) -> FleetView | None:
        """The fleet as this process sees it; None before the first snapshot."""
        ...


class AdminPages(Protocol):
    """What else the port shows."""

    def add_to(self, app: web.Application) -> None:
        """Add its routes."""
        ...

    def guards(self, path: str) -> bool:
        """Whether it looks itself at who may see ``path``, instead of the port."""
        ...


class AdminServer:
    """The admin port of one process.

    With several workers, every worker binds the same port (``reuse_port``) and whichever the
    kernel picks answers: /metrics for all of them, /healthz and /readyz for itself with what is
    wrong with the others, /snapshot for itself.
    """

    def __init__(
        self,
        source: AdminSource,
        metrics: Metrics,
        registry: CollectorRegistry,
        tls: ServerTls | None = None,
        token: Watched[Secret] | None = None,
        pages: AdminPages | None = None,
        names: Collection[str] = (),
    ) -> None:
        """``tls``: None for plaintext. ``token``: None where everybody is answered; else whoever
        does not send it is told whether the process lives and is ready, and nothing of why.
        ``names``: by which it is called beside its addresses, where neither keeps strangers out.
        """
        self._source = source
        self._metrics = metrics
        self._registry = registry
        self._tls = tls
        self._token = token
        self._pages = pages
        self._names = frozenset(name.lower() for name in names)
        self._runner: web.AppRunner | None = None
        self._listener: TlsListener | None = None

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen; returns the port (a free one for 0). Raises OSError when it is taken."""
        self._names |= {host.lower()}
        app = web.Application(client_max_size=1024, middlewares=[self._keep_out])
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get(_HEALTHZ, self._healthz)
        app.router.add_get(_READYZ, self._readyz)
        app.router.add_get("/snapshot", self._snapshot)
        app.router.add_get("/endpoints/{address}/metrics", self._endpoint_page)
        if self._pages is not None:
            self._pages.add_to(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            bound = await self._listen(runner, host, port, reuse_port)
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        return bound

    async def _listen(self, runner: web.AppRunner, host: str, port: int, reuse_port: bool) -> int:
        if self._tls is None:
            await web.TCPSite(runner, host, port, reuse_port=reuse_port or None).start()
            bound: int = runner.addresses[0][1]
            return bound
        server = runner.server
        assert server is not None
        self._listener = TlsListener(
            server,
            self._tls.context,
            # The oldest are closed to make room.
            lambda: MAX_CONNECTIONS,
            on_failed=self._tls.failed,
        )
        return await self._listener.start(host, port, reuse_port=reuse_port)

    async def stop(self) -> None:
        """Close the port. Safe to call twice, and before `start`."""
        if self._listener is not None:
            self._listener.stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def refresh(self, interval_s: float = 2.0) -> None:
        """One round of setting this process's gauges, then a rest; repeat it in every worker.

        A scrape reaches one worker, which sets its own gauges and reads the others' from their
        files; without these rounds those would be as old as the last scrape that they answered.
        Connections beyond MAX_CONNECTIONS are closed, too: idle ones must not use up descriptors.
        """
        self._show()
        self._close_the_oldest()
        await asyncio.sleep(interval_s)

    def _close_the_oldest(self) -> None:
        server = self._runner.server if self._runner is not None else None
        if server is not None:
            for connection in server.connections[:-MAX_CONNECTIONS]:
                connection.force_close()

    def _show(self) -> None:
        self._metrics.show_tasks(len(asyncio.all_tasks()))
        self._metrics.show_readiness(self._source.readiness().status)
        view = self._source.fleet()
        if view is not None:
            self._metrics.show(view)

    @web.middleware
    async def _keep_out(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_called_so = self._is_called_so(request)
        is_guarded = self._pages is not None and self._pages.guards(request.path)
        if is_called_so and (is_guarded or self._is_known(request)):
            return await handler(request)
        if request.path == _HEALTHZ:
            return web.Response(status=200 if self._source.liveness().alive else 503)
        if request.path == _READYZ:
            return web.Response(status=200 if self._source.readiness().ready else 503)
        if not is_called_so:
            return web.Response(text=_NO_NAME, status=421)
        text = "send the token of this port as `authorization: Bearer ...`\n"
        return web.Response(text=text, status=401, headers={"WWW-Authenticate": "Bearer"})

    def _is_called_so(self, request: web.Request) -> bool:
        """Browsers always say by what name they call; with TLS its certificate has to have it."""
        if self._token is not None or self._tls is not None:
            return True
        return all(is_own_name(one, self._names) for one in request.headers.getall("Host", ()))

    def _is_known(self, request: web.Request) -> bool:
        if self._token is None:
            return True
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._token.value.equals(sent.strip())

    async def _metrics_page(self, request: web.Request) -> web.Response:
        self._show()
        # Rendering takes milliseconds for a large fleet; requests need not wait behind it.
        page, content_type = await asyncio.to_thread(
            exposition, self._registry, request.headers.get("Accept", "")
        )
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _endpoint_page(self, request: web.Request) -> web.Response:
        """Of one endpoint, by ``host:port``: for whoever reads a page for each server."""
        view, address = self._source.fleet(), request.match_info["address"]
        endpoints = () if view is None else view.endpoints
        found = next((one for one in endpoints if one.address == address), None)
        if found is None:
            return web.Response(text="no endpoint has this address\n", status=404)
        kind = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(body=endpoint_page(found), headers=kind)

    async def _healthz(self, _: web.Request) -> web.Response:
        liveness = self._source.liveness()
        said = [f"{note.reason}: {note.detail}" for note in liveness.notes]
        words = ["ok" if liveness.alive else "dead", *said]
        return web.Response(text="\n".join(words) + "\n", status=200 if liveness.alive else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        readiness = self._source.readiness()
        reasons: list[Json] = [dict(reason._asdict()) for reason in readiness.reasons]
        return _json(
            {"ready": readiness.ready, "status": readiness.status, "reasons": reasons},
            status=200 if readiness.ready else 503,
        )

    async def _snapshot(self, _: web.Request) -> web.Response:
        view = self._source.fleet()
        if view is None:
            return _json({"error": "no snapshot yet"}, status=503)
        return _json(as_json(view), status=200)


def _json(value: dict[str, Json], status: int) -> web.Response:
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    return web.Response(
        text=text,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
