"""The gateway process: sockets, signals, drain; and the parent of several workers."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from router.app.background import Rounds, supervise
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.compose import build_clock, build_limits, build_rng, build_upstreams
from router.app.control import ControlApi
from router.app.descriptors import affordable, raise_limit
from router.app.failures import FailureReporter
from router.app.listening import held
from router.app.loading import load
from router.app.membership import Membership
from router.app.observers import LoggedRequests
from router.app.probing import Prober
from router.app.reloading import Reloader
from router.app.retirement import Retirement
from router.app.runtime import Runtime
from router.app.watchdog import beat_for_ever, frozen_after_s
from router.app.workers import Plan, WorkerOrder, run_workers
from router.backends.names import NameWatch, SystemResolver
from router.config.settings import Config, ServerSettings
from router.contract import Upstream
from router.core.lengths import LengthModel
from router.core.retry import RetryBudget
from router.director import Director, Dispatcher, Parts
from router.errors import ConfigError
from router.gateway.oip import status
from router.gateway.oip.server import Gateway, ServerOptions
from router.load.scraper import PrometheusLoad, open_session
from router.peers.rows import Phase, Reload
from router.telemetry import logs
from router.telemetry.admin import AdminServer
from router.telemetry.exposition import new_registry
from router.telemetry.metrics import Metrics
from router.telemetry.request_file import RequestFile

_DIGEST_EVERY = 64

_log = logging.getLogger(__name__)


def serve(config_path: Path, workers: int | None = None) -> int:
    """Run the gateway until SIGTERM or SIGINT; SIGHUP reads the file again. Returns an exit code.

    Raises ConfigError or TraceError before anything listens.
    """
    config = load(config_path)
    clock = build_clock(config.settings.clock)
    server = config.settings.server
    count = workers or server.workers
    if count == 1:
        return _serve_one(config, config_path)
    # The carbon tables are read by each worker; what is wrong with them is told once, here.
    Runtime(config, clock, ProviderDeps(clock, build_rng(), os.environ, Sessions(), count))
    plan = Plan(config, config_path, count, frozen_after_s(server, count))
    output = logs.install(now=clock.monotonic)
    try:
        with held(str(config_path), _addresses(server)):
            return run_workers(plan, _serve_worker, clock)
    finally:
        output.close()


def _addresses(server: ServerSettings) -> list[tuple[str, str]]:
    """What no other gateway may listen on, by configuration key."""
    if server.share_port:
        return []
    return [("server.listen", server.listen), ("server.admin", server.admin)]


def _serve_worker(order: WorkerOrder) -> int:
    return _serve_one(order.config, order.config_path, order)


def _serve_one(config: Config, config_path: Path, order: WorkerOrder | None = None) -> int:
    # A reload that is asked for before the handler stands waits until it does.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    raise_limit(config.settings.server.max_connections)
    output = logs.install(now=build_clock(config.settings.clock).monotonic)
    try:
        return asyncio.run(_Process(config, config_path, order).run())
    except BaseExceptionGroup as group:
        raise _cause(group) from None
    finally:
        output.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Process:
    """One gateway process, from the first carbon reading to the last drained request."""

    def __init__(self, config: Config, config_path: Path, order: WorkerOrder | None) -> None:
        """``order``: what the parent says where there are several; None for a process alone."""
        workers = order.workers if order else 1
        self._config_path = config_path
        self._registry = new_registry()
        self._metrics = Metrics(self._registry, workers, status.NAMES)
        self._know(config)
        self._rng = build_rng()
        self._request_log = logs.RequestLog()
        self._request_file = RequestFile(
            config.settings.request_file, build_rng(), self._metrics.logged
        )
        self._clock = build_clock(config.settings.clock)
        self._membership = Membership(order, self._clock) if order else None
        self._sessions = Sessions()
        self._resolver = SystemResolver()
        self._runtime = Runtime(
            config,
            self._clock,
            ProviderDeps(
                clock=self._clock,
                rng=self._rng,
                environ=os.environ,
                sessions=self._sessions,
                processes=workers,
                on_call=self._metrics.carbon.called,
                on_dropped=self._metrics.carbon.dropped,
            ),
        )
        self._server_settings = config.settings.server
        self._frozen_after_s = frozen_after_s(self._server_settings, workers)
        self._reuse_port = order is not None or self._server_settings.share_port
        self._stop = asyncio.Event()
        self._reloader = Reloader(self._runtime, config_path, self._metrics, self._reloaded)

    def _know(self, config: Config) -> None:
        carbon = config.settings.carbon
        self._metrics.know(config.fleet)
        self._metrics.carbon.know(spec.name for spec in (*carbon.sources, *carbon.marginal))

    async def run(self) -> int:
        """Serve until told to stop; the exit code."""
        async with asyncio.TaskGroup() as group:
            beats = beat_for_ever(self._frozen_after_s, self._beat)
            beating = group.create_task(beats, name="beats")
            try:
                return await self._serve()
            finally:
                await self._runtime.close()
                await self._sessions.close()
                beating.cancel()

    async def _serve(self) -> int:
        settings = self._runtime.config.settings
        upstreams = build_upstreams(settings.server, self._metrics.orca_malformed)
        dispatcher = await self._dispatch(upstreams)
        gateway = self._gateway(Director(dispatcher))
        admin = AdminServer(self._runtime, self._metrics, self._registry)
        self._catch_signals()
        async with open_session() as session, asyncio.TaskGroup() as group:
            scrape = PrometheusLoad(
                session, settings.load.timeout_ms / 1e3, on_dropped=self._metrics.samples_dropped
            )
            work = {**self._work(upstreams, scrape), "gauges": admin.refresh}
            tasks = [
                group.create_task(
                    supervise(name, job, self._runtime, self._metrics, self._rng), name=name
                )
                for name, job in work.items()
            ]
            retirement = Retirement(upstreams, self._runtime)
            tasks.append(group.create_task(self._reloader.run(retirement), name="reload"))
            try:
                port, admin_port = await self._open(gateway, admin)
                # What was imported and built so far stays: full collections need not walk it.
                gc.collect()
                gc.freeze()
                self._enter(Phase.SERVING)
                _log.info("serving", extra={"port": port, "admin_port": admin_port})
                await self._stop.wait()
                dispatcher.draining = True
                self._enter(Phase.DRAINING)
                drain_s = self._drain_s
                _log.info("draining", extra={"at_most_s": drain_s})
                await gateway.drain(drain_s)
            finally:
                await admin.stop()
                for task in tasks:
                    task.cancel()
        self._resolver.close()
        for upstream in upstreams.values():
            await upstream.backend.close()
        dispatcher.digest()
        self._request_file.close()
        self._request_log.close()
        return 0

    def _work(
        self, upstreams: Mapping[str, Upstream], scrape: PrometheusLoad
    ) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background jobs that keep the view true, by name."""
        runtime = self._runtime
        backends = [upstream.backend for upstream in upstreams.values()]
        names = NameWatch(self._resolver, backends, self._clock)
        rounds = Rounds(runtime, self._metrics, self._clock, self._rng)
        prober = Prober(runtime, upstreams, self._metrics, self._clock, self._rng)
        return {
            "names": lambda: names.run(lambda: [e.address for e in runtime.config.fleet.endpoints]),
            "carbon": rounds.carbon,
            "tick": rounds.tick,
            "probe": prober.run,
            "load": rounds.loads(scrape),
        }

    async def _dispatch(self, upstreams: Mapping[str, Upstream]) -> Dispatcher:
        runtime, config = self._runtime, self._runtime.config
        retry = config.settings.retry
        dispatcher = Dispatcher(
            await runtime.start(),
            Parts(
                upstreams,
                LoggedRequests(self._metrics, self._request_file),
                LengthModel(config.fleet.priors, config.policy.quantile),
                RetryBudget(retry.budget_ratio, retry.budget_reserve),
                self._clock,
                self._rng,
            ),
            build_limits(config.settings),
            identity=f"{os.getpid():x}{secrets.token_hex(3)}",
        )
        dispatcher.digest_every = _DIGEST_EVERY
        runtime.dispatcher = dispatcher
        if self._membership is not None:
            self._membership.join(runtime, dispatcher)
        return dispatcher

    def _gateway(self, director: Director) -> Gateway:
        server = self._server_settings
        return Gateway(
            ServerOptions(
                listen=server.listen,
                max_message_bytes=server.max_message_mib * 2**20,
                deadline_margin_ms=server.deadline_margin_ms,
                reuse_port=self._reuse_port,
                max_buffered_bytes=server.max_buffered_mib * 2**20,
                max_calls=server.max_requests,
                max_streams=server.max_streams,
                max_connections=affordable(server.max_connections),
                max_metadata_bytes=server.max_metadata_kib * 2**10,
                max_idle_ms=int(server.idle_s * 1e3),
                max_age_ms=int(server.max_age_s * 1e3),
                show_addresses=server.show_addresses,
            ),
            director,
            ControlApi(director, self._runtime),
            lambda: self._runtime.readiness().ready,
            self._runtime.models_ready,
            FailureReporter(self._metrics, self._request_log, self._clock),
        )

    @property
    def _drain_s(self) -> float:
        return self._runtime.config.settings.server.drain_s

    async def _open(self, gateway: Gateway, admin: AdminServer) -> tuple[int, int]:
        """Listen; the ports. Raises ConfigError for an address that cannot be had."""
        try:
            port = await gateway.start()
        except ConfigError as error:
            raise ConfigError(str(self._config_path), error.problems) from error
        try:
            return port, await self._open_admin(admin)
        except ConfigError:
            await gateway.drain(0.0)
            raise

    async def _open_admin(self, admin: AdminServer) -> int:
        address = self._server_settings.admin
        host, _, port = address.rpartition(":")
        try:
            return await admin.start(host.strip("[]"), int(port), reuse_port=self._reuse_port)
        except OSError as error:
            problem = f"cannot listen on {address}: {error.strerror or error}"
            raise ConfigError(str(self._config_path), [("server.admin", problem)]) from error

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        parent = multiprocessing.parent_process()
        if self._membership is not None and parent is not None:
            # A pipe that ends with the parent, where the kernel sends no signal.
            loop.add_reader(parent.sentinel, self._orphaned, parent.sentinel)

    def _orphaned(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        if not self._stop.is_set():
            _log.error("the parent process has ended: this worker ends as well")
            self._stop.set()

    def _beat(self) -> None:
        if self._membership is not None:
            self._membership.beat()

    def _enter(self, phase: Phase) -> None:
        if self._membership is not None:
            self._membership.enter(phase)

    def _reloaded(self, how: Reload) -> None:
        config = self._runtime.config
        self._know(config)
        self._request_file.configure(config.settings.request_file)
        if self._membership is not None:
            self._membership.reloaded(how, self._runtime)


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error in a group; the group itself when it holds several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
