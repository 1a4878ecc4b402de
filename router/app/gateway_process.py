"""One gateway process: everything that it is built of, from start to drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from router.app import event_loop
from router.app.background import Rounds, supervise
from router.app.compose import build_limits, build_upstreams
from router.app.console.answers import ProcessAnswers
from router.app.console.past import PastScenes
from router.app.deferral.process import ProcessDeferral
from router.app.failures import FailureReporter
from router.app.fronts import BuildCarrier, Carrier, CarrierParts, Fronts, on_loopback
from router.app.listeners import Listeners
from router.app.model_reading import ModelReader
from router.app.probing import Prober
from router.app.process_parts import ProcessParts
from router.app.retirement import Retirement
from router.app.scaling.process import ProcessScaling, has_scaling
from router.app.watchdog import beat_for_ever, frozen_after_s
from router.app.workers import WorkerOrder
from router.backends.names import NameWatch
from router.clock import WallClock
from router.config.settings import Config
from router.console.page import page
from router.console.pages import ConsolePages
from router.contract import Upstream
from router.core.deferral.needs import WaitingNeeds
from router.core.lengths import LengthModel
from router.core.retry import RetryBudget
from router.director import Director, Dispatcher, Parts
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.receipts_api import ReceiptSources
from router.judges.judge import Judge
from router.load.scraper import PrometheusLoad, open_session
from router.peers.rows import Phase
from router.telemetry.admin import AdminServer
from router.trust.receipt_keys import ReceiptKeys

_DIGEST_EVERY = 64
# Receipts, which are kept for a while, are walked at each collection of all: by Python's own
# thresholds that takes 8 % of the time of a request, by these a quarter of that. Young objects as
# often as by Python's: what gRPC keeps of a call in a cycle holds its message, of 64 MiB at most.
_GC_THRESHOLDS = (700, 10, 40)

# So long discovery is waited for before anything listens.
_FIRST_FINDINGS_S = 5.0

_log = logging.getLogger(__name__)


class GatewayProcess:
    """One gateway process, from the first carbon reading to the last drained request."""

    def __init__(
        self,
        config: Config,
        config_path: Path,
        order: WorkerOrder | None,
        carrier: BuildCarrier | None = None,
    ) -> None:
        """``order``: what the parent says where there are several; None for a process alone.
        ``carrier``: who takes requests where this process does not itself."""
        self._parts = ProcessParts(config, config_path, order)
        if carrier is not None:
            self._parts.runtime.require = carrier.require
        self._carrier = carrier
        self._config_path = config_path
        self._server_settings = config.settings.server
        self._frozen_after_s = frozen_after_s(self._server_settings, self._parts.workers)
        self._reuse_port = order is not None or self._server_settings.share_port
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to stop; the exit code."""
        parts = self._parts
        async with asyncio.TaskGroup() as group:
            beats = beat_for_ever(self._frozen_after_s, self._beat)
            beating = group.create_task(beats, name="beats")
            try:
                return await self._serve()
            finally:
                await parts.runtime.close()
                await parts.sessions.close()
                if parts.store is not None:
                    await parts.store.close()
                beating.cancel()

    async def _serve(self) -> int:
        parts = self._parts
        server = parts.runtime.config.settings.server
        access = parts.trust.access
        upstreams = build_upstreams(server, parts.metrics.orca_malformed, access)
        try:
            return await self._serve_over(upstreams)
        finally:
            for upstream in upstreams.values():
                await upstream.backend.close()

    async def _serve_over(self, upstreams: Mapping[str, Upstream]) -> int:
        parts = self._parts
        settings = parts.runtime.config.settings
        dispatcher = await self._dispatch(upstreams)
        fronts = self._build_carrier(dispatcher)
        admin = AdminServer(
            parts.runtime,
            parts.metrics,
            parts.telemetry.registry,
            parts.trust.admin,
            parts.trust.admin_token,
            self._console_pages(),
            settings.server.admin_hosts,
        )
        listeners = Listeners(
            fronts, admin, self._server_settings, self._reuse_port, self._config_path
        )
        self._catch_signals()
        parts.ledger.start()
        async with open_session() as session, asyncio.TaskGroup() as group:
            scrape = PrometheusLoad(
                session,
                settings.load.timeout_ms / 1e3,
                on_dropped=parts.metrics.samples_dropped,
                access=parts.trust.access,
            )
            retirement = Retirement(upstreams, parts.runtime)
            work = {
                **self._work(upstreams, scrape),
                **fronts.work(),
                "gauges": admin.refresh,
                "discovery": lambda: parts.discovery.run(retirement),
            }
            tasks = [
                group.create_task(
                    supervise(name, job, parts.runtime, parts.metrics, parts.rng),
                    name=name,
                )
                for name, job in work.items()
            ]
            tasks.append(group.create_task(parts.reloader.run(retirement), name="reload"))
            try:
                await self._until_drained(dispatcher, listeners)
            finally:
                await listeners.close()
                for task in tasks:
                    task.cancel()
                await parts.ledger_rounds.close(scrape)
                await parts.calibrating.close()
        await self._close(dispatcher)
        return 0

    async def _until_drained(self, dispatcher: Dispatcher, listeners: Listeners) -> None:
        """Listen, until told to stop; then take nothing new, until what was taken has ended."""
        parts = self._parts
        settings = parts.runtime.config.settings
        await parts.sharing.stand()
        await parts.discovery.stand(_FIRST_FINDINGS_S)
        ports = await listeners.open()
        # What was imported and built so far stays: full collections need not walk it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self._enter(Phase.SERVING)
        _log.info("serving", extra={**ports, "event_loop": event_loop.NAME})
        for exposed in settings.exposed:
            _log.warning("insecure: %s", exposed)
        await self._stop.wait()
        dispatcher.draining = True
        parts.sharing.drain()
        self._enter(Phase.DRAINING)
        drain_s = parts.runtime.config.settings.server.drain_s
        _log.info("draining", extra={"at_most_s": drain_s})
        await listeners.drain(drain_s)

    async def _close(self, dispatcher: Dispatcher) -> None:
        """No request is left: tell others, and keep what is to be kept."""
        parts = self._parts
        await parts.sharing.leave()
        await parts.limits.leave()
        parts.resolver.close()
        dispatcher.digest()
        await parts.budgets.close()
        await parts.keeper.close()
        await parts.sharing.close()
        await asyncio.to_thread(parts.ledger.close)
        await parts.telemetry.close()

    def _console_pages(self) -> ConsolePages:
        parts = self._parts
        moments = parts.ledger.moments()
        past = PastScenes(parts.runtime, parts.audiences, moments, parts.workers)
        return ConsolePages(
            parts.console,
            ProcessAnswers(parts.runtime, parts.sampling, past),
            parts.identities.access,
            parts.trust.admin_token,
            page(),
        )

    def _build_carrier(self, dispatcher: Dispatcher) -> Carrier:
        parts = self._parts
        telemetry = parts.telemetry
        failures = FailureReporter(
            parts.metrics,
            telemetry.request_log,
            parts.clock,
            telemetry.security,
            telemetry.tracer,
        )
        receipts = KeptReceipts(
            parts.membership.receipts if parts.membership else None,
            parts.sharing.receipts,
        )
        server = self._server_settings
        is_behind = self._carrier is not None
        deferral = self._deferral()
        fronts = Fronts(
            on_loopback(server) if is_behind else server,
            Director(dispatcher),
            parts.runtime,
            failures,
            parts.identities.access,
            self._reuse_port,
            receipts,
            ReceiptSources(parts.ledger.asked(), self._signer, parts.clock.now),
            parts.trust.server,
            deferral,
            is_behind,
            self._scaling(dispatcher, deferral),
        )
        if self._carrier is None:
            return fronts
        return self._carrier(
            CarrierParts(
                dispatcher, failures, parts.identity, parts.trust, parts.identities.access,
                receipts, fronts, lambda: parts.runtime.config,
            )
        )  # fmt: skip

    def _deferral(self) -> ProcessDeferral | None:
        parts = self._parts
        config = parts.runtime.config
        if config.settings.deferral is None:
            return None
        deferral = ProcessDeferral(
            config,
            parts.identity,
            parts.clock,
            parts.rng,
            parts.metrics.deferral,
            os.environ,
        )
        parts.console.know_deferred(deferral.outlook)
        return deferral

    def _scaling(
        self, dispatcher: Dispatcher, deferral: ProcessDeferral | None
    ) -> ProcessScaling | None:
        parts = self._parts
        config = parts.runtime.config
        if not has_scaling(config):
            return None
        scaling = ProcessScaling(
            config,
            lambda: dispatcher.view,
            WaitingNeeds if deferral is None else deferral.needs,
            parts.speaks,
            parts.store,
            parts.identity,
            parts.clock,
            WallClock(),
            parts.metrics.scaling,
            os.environ,
        )
        parts.runtime.notes.append(scaling.notes)
        return scaling

    def _work(
        self, upstreams: Mapping[str, Upstream], scrape: PrometheusLoad
    ) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background jobs that keep the view true, by name."""
        parts = self._parts
        runtime = parts.runtime
        backends = [upstream.backend for upstream in upstreams.values()]
        names = NameWatch(parts.resolver, backends, parts.clock)
        rounds = Rounds(runtime, parts.metrics, parts.clock, parts.rng)
        prober = Prober(runtime, upstreams, parts.metrics, parts.clock, parts.rng)
        models = ModelReader(runtime, upstreams, parts.clock, parts.rng)
        return {
            "names": lambda: names.run(lambda: [e.address for e in runtime.config.fleet.endpoints]),
            "carbon": rounds.carbon,
            "tick": rounds.tick,
            "probe": prober.run,
            "models": models.run,
            "load": rounds.loads(scrape),
            "state": parts.keeper.run,
            "calibration": lambda: parts.calibrating.read(scrape),
            "calibration_fits": parts.calibrating.refit,
            "trust": lambda: parts.trust.run(backends),
            "carbon_budgets": parts.budgets.run,
            "console": parts.console.run,
            "keys": parts.identities.watch,
            "stored_keys": parts.identities.look,
            "issuer": parts.identities.follow,
            **parts.ledger_rounds.work(scrape),
            **parts.limits.work(),
            **parts.sharing.work(),
        }

    def _signer(self) -> ReceiptKeys | None:
        keys = self._parts.trust.receipt_keys
        return None if keys is None else keys.value

    async def _dispatch(self, upstreams: Mapping[str, Upstream]) -> Dispatcher:
        parts = self._parts
        runtime, config = parts.runtime, parts.runtime.config
        retry = config.settings.retry
        dispatcher = Dispatcher(
            await runtime.start(),
            Parts(
                upstreams,
                parts.telemetry.observer,
                LengthModel(config.fleet.priors, config.policy.quantile),
                RetryBudget(retry.budget_ratio, retry.budget_reserve),
                parts.clock,
                parts.rng,
                runtime.loads,
                parts.ledger.ledger,
                parts.telemetry.tracer,
                Judge(parts.sessions.get, parts.clock.monotonic),
            ),
            build_limits(config.settings),
            identity=parts.identity,
        )
        dispatcher.lessons.digest_every = _DIGEST_EVERY
        dispatcher.recorder = parts.ledger.recorder
        parts.console.attach(dispatcher)
        runtime.dispatcher = dispatcher
        await parts.identities.start()
        await parts.calibrating.restore()
        await parts.keeper.restore()
        await parts.budgets.join(dispatcher)
        if parts.membership is not None:
            parts.membership.join(runtime, dispatcher)
        parts.sharing.join(dispatcher)
        parts.limits.join()
        return dispatcher

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._parts.reloader.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        parent = multiprocessing.parent_process()
        if self._parts.membership is not None and parent is not None:
            # A pipe that ends with the parent, where the kernel sends no signal.
            loop.add_reader(parent.sentinel, self._orphaned, parent.sentinel)

    def _orphaned(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        if not self._stop.is_set():
            _log.error("the parent process has ended: this worker ends as well")
            self._stop.set()

    def _beat(self) -> None:
        if self._parts.membership is not None:
            self._parts.membership.beat()

    def _enter(self, phase: Phase) -> None:
        if self._parts.membership is not None:
            self._parts.membership.enter(phase)
