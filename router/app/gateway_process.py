"""One gateway process: everything that it is built of, from start to drain."""

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

from router.app import event_loop
from router.app.background import Rounds, supervise
from router.app.budgets import BudgetRounds
from router.app.calibrating import CalibrationRounds, calibration_lease
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.compose import build_clock, build_limits, build_rng, build_upstreams
from router.app.console.answers import ProcessAnswers
from router.app.console.audiences import Audiences
from router.app.console.past import PastScenes
from router.app.console.rounds import ConsoleRounds
from router.app.console.sampling import Sampling
from router.app.deferral.process import ProcessDeferral
from router.app.discovery import Discovery
from router.app.failures import FailureReporter
from router.app.finders import build_finder
from router.app.fleet_sharing import FleetSharing
from router.app.fronts import BuildCarrier, Carrier, CarrierParts, Fronts, on_loopback
from router.app.identities import IdentityKeeper
from router.app.keeping import Keeper
from router.app.ledger import ProcessLedger
from router.app.ledger_rounds import LedgerRounds
from router.app.limit_sharing import LimitSharing
from router.app.listeners import Listeners
from router.app.membership import Membership
from router.app.model_reading import ModelReader
from router.app.probing import Prober
from router.app.process_telemetry import ProcessTelemetry
from router.app.reloading import Reloader
from router.app.retirement import Retirement
from router.app.runtime import Runtime
from router.app.scaling.process import ProcessScaling, has_scaling
from router.app.shared_state import build_store
from router.app.trust import Trust
from router.app.watchdog import beat_for_ever, frozen_after_s
from router.app.workers import WorkerOrder
from router.backends.names import NameWatch, SystemResolver
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
from router.peers.members import SeenMembers
from router.peers.rows import PARENT, Phase, Reload
from router.state.calibrated import CalibratedStore
from router.telemetry.admin import AdminServer
from router.telemetry.security import SecurityEvent
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
        self._carrier = carrier
        workers = order.workers if order else 1
        # What one of the workers does for all of them; the parent serves nothing.
        speaks = order is None or order.speaks
        self._speaks = speaks
        self._config_path = config_path
        self._rng = build_rng()
        self._clock = build_clock(config.settings.clock)
        self._membership = Membership(order, self._clock) if order else None
        # Of this process among all that ever were, of all gateways.
        self._identity = f"{os.getpid():x}{secrets.token_hex(5)}"
        # Credentials expire by the wall, whatever day is replayed.
        wall = WallClock()
        self._telemetry = telemetry = ProcessTelemetry(
            config, order, self._identity, wall, os.environ
        )
        self._metrics = telemetry.metrics
        self._store = build_store(
            config, self._clock, self._identity, os.environ, self._metrics.store
        )
        self._sessions = Sessions()
        # Of all gateways, as the exchange of loads sees them: for all that is divided.
        members = SeenMembers()

        def sharers() -> int:
            return max(workers, members.count)

        self._identities = IdentityKeeper(
            config.settings.identity,
            wall,
            telemetry.security,
            self._sessions.get,
            sharers,
            self._store,
        )
        self._limits = LimitSharing(
            self._identities.access,
            wall,
            self._rng,
            self._identity,
            sharers,
            self._store,
            self._membership.limits if self._membership else None,
        )
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
                store=self._store,
                holder=self._identity,
            ),
        )
        if carrier is not None:
            self._runtime.require = carrier.require
        # Certificates are of today, whatever day is replayed.
        self._trust = Trust(config, build_clock(None), os.environ, self._metrics.trust)
        self._runtime.trust = self._trust
        self._runtime.notes.append(self._trust.notes)
        self._budgets = BudgetRounds(
            config,
            self._clock,
            self._metrics.budgets,
            self._store,
            self._identity,
            members,
            spending=self._membership.spending if self._membership else None,
            row=order.row if order else PARENT,
            workers=workers,
        )
        self._runtime.notes.append(self._budgets.notes)
        self._runtime.notes.append(self._identities.notes)
        self._sharing = FleetSharing(
            self._store,
            self._identity,
            order.gateway if order else self._identity,
            self._runtime,
            self._rng,
            self._metrics,
            members,
        )
        self._ledger = ProcessLedger(
            config,
            order.row if order else PARENT,
            secrets.token_hex(4),
            self._clock,
            self._metrics.ledger,
            workers,
        )
        self._audiences = Audiences()
        self._sampling = Sampling(telemetry.observer, build_rng(), f"{self._audiences.boot}-")
        self._workers = workers
        self._console = ConsoleRounds(
            self._runtime,
            telemetry.registry,
            self._audiences,
            self._sampling,
            self._budgets.budgets.views,
            wall,
            workers,
        )
        self._ledger_rounds = LedgerRounds(
            self._ledger,
            config_path,
            self._runtime,
            self._store,
            self._identity,
            self._rng,
            self._metrics.ledger,
            speaks,
        )
        self._keeper = Keeper(
            config.settings.state,
            self._runtime,
            order.row if order else PARENT,
            workers,
            self._store,
            self._identity,
        )
        self._calibrating = CalibrationRounds(
            self._runtime,
            CalibratedStore(config.settings.state.file, self._store),
            calibration_lease(self._store, self._identity, wall) if speaks else None,
            wall,
            self._metrics.calibration,
            self._fleet_changed,
        )
        self._server_settings = config.settings.server
        self._frozen_after_s = frozen_after_s(self._server_settings, workers)
        self._reuse_port = order is not None or self._server_settings.share_port
        self._stop = asyncio.Event()
        self._reloader = Reloader(self._runtime, config_path, self._metrics, self._reloaded)
        self._discovery = Discovery(
            self._runtime,
            lambda place: build_finder(place, self._clock, self._rng),
            self._metrics.discovery,
            self._fleet_changed,
        )

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
                if self._store is not None:
                    await self._store.close()
                beating.cancel()

    async def _serve(self) -> int:
        server = self._runtime.config.settings.server
        access = self._trust.access
        upstreams = build_upstreams(server, self._metrics.orca_malformed, access)
        try:
            return await self._serve_over(upstreams)
        finally:
            for upstream in upstreams.values():
                await upstream.backend.close()

    async def _serve_over(self, upstreams: Mapping[str, Upstream]) -> int:
        settings = self._runtime.config.settings
        dispatcher = await self._dispatch(upstreams)
        fronts = self._build_carrier(dispatcher)
        admin = AdminServer(
            self._runtime,
            self._metrics,
            self._telemetry.registry,
            self._trust.admin,
            self._trust.admin_token,
            self._console_pages(),
            settings.server.admin_hosts,
        )
        listeners = Listeners(
            fronts, admin, self._server_settings, self._reuse_port, self._config_path
        )
        self._catch_signals()
        self._ledger.start()
        async with open_session() as session, asyncio.TaskGroup() as group:
            scrape = PrometheusLoad(
                session,
                settings.load.timeout_ms / 1e3,
                on_dropped=self._metrics.samples_dropped,
                access=self._trust.access,
            )
            retirement = Retirement(upstreams, self._runtime)
            work = {
                **self._work(upstreams, scrape),
                **fronts.work(),
                "gauges": admin.refresh,
                "discovery": lambda: self._discovery.run(retirement),
            }
            tasks = [
                group.create_task(
                    supervise(name, job, self._runtime, self._metrics, self._rng), name=name
                )
                for name, job in work.items()
            ]
            tasks.append(group.create_task(self._reloader.run(retirement), name="reload"))
            try:
                await self._until_drained(dispatcher, listeners)
            finally:
                await listeners.close()
                for task in tasks:
                    task.cancel()
                await self._ledger_rounds.close(scrape)
                await self._calibrating.close()
        await self._close(dispatcher)
        return 0

    async def _until_drained(self, dispatcher: Dispatcher, listeners: Listeners) -> None:
        """Listen, until told to stop; then take nothing new, until what was taken has ended."""
        settings = self._runtime.config.settings
        await self._sharing.stand()
        await self._discovery.stand(_FIRST_FINDINGS_S)
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
        self._sharing.drain()
        self._enter(Phase.DRAINING)
        drain_s = self._runtime.config.settings.server.drain_s
        _log.info("draining", extra={"at_most_s": drain_s})
        await listeners.drain(drain_s)

    async def _close(self, dispatcher: Dispatcher) -> None:
        """No request is left: tell others, and keep what is to be kept."""
        await self._sharing.leave()
        await self._limits.leave()
        self._resolver.close()
        dispatcher.digest()
        await self._budgets.close()
        await self._keeper.close()
        await self._sharing.close()
        await asyncio.to_thread(self._ledger.close)
        await self._telemetry.close()

    def _console_pages(self) -> ConsolePages:
        moments = self._ledger.moments()
        past = PastScenes(self._runtime, self._audiences, moments, self._workers)
        return ConsolePages(
            self._console,
            ProcessAnswers(self._runtime, self._sampling, past),
            self._identities.access,
            self._trust.admin_token,
            page(),
        )

    def _build_carrier(self, dispatcher: Dispatcher) -> Carrier:
        telemetry = self._telemetry
        failures = FailureReporter(
            self._metrics,
            telemetry.request_log,
            self._clock,
            telemetry.security,
            telemetry.tracer,
        )
        receipts = KeptReceipts(
            self._membership.receipts if self._membership else None, self._sharing.receipts
        )
        server = self._server_settings
        is_behind = self._carrier is not None
        deferral = self._deferral()
        fronts = Fronts(
            on_loopback(server) if is_behind else server,
            Director(dispatcher),
            self._runtime,
            failures,
            self._identities.access,
            self._reuse_port,
            receipts,
            ReceiptSources(self._ledger.asked(), self._signer, self._clock.now),
            self._trust.server,
            deferral,
            is_behind,
            self._scaling(dispatcher, deferral),
        )
        if self._carrier is None:
            return fronts
        return self._carrier(
            CarrierParts(
                dispatcher, failures, self._identity, self._trust, self._identities.access,
                receipts, fronts, lambda: self._runtime.config,
            )
        )  # fmt: skip

    def _deferral(self) -> ProcessDeferral | None:
        config = self._runtime.config
        if config.settings.deferral is None:
            return None
        deferral = ProcessDeferral(
            config, self._identity, self._clock, self._rng, self._metrics.deferral, os.environ
        )
        self._console.know_deferred(deferral.outlook)
        return deferral

    def _scaling(
        self, dispatcher: Dispatcher, deferral: ProcessDeferral | None
    ) -> ProcessScaling | None:
        config = self._runtime.config
        if not has_scaling(config):
            return None
        scaling = ProcessScaling(
            config,
            lambda: dispatcher.view,
            WaitingNeeds if deferral is None else deferral.needs,
            self._speaks,
            self._store,
            self._identity,
            self._clock,
            WallClock(),
            self._metrics.scaling,
            os.environ,
        )
        self._runtime.notes.append(scaling.notes)
        return scaling

    def _work(
        self, upstreams: Mapping[str, Upstream], scrape: PrometheusLoad
    ) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background jobs that keep the view true, by name."""
        runtime = self._runtime
        backends = [upstream.backend for upstream in upstreams.values()]
        names = NameWatch(self._resolver, backends, self._clock)
        rounds = Rounds(runtime, self._metrics, self._clock, self._rng)
        prober = Prober(runtime, upstreams, self._metrics, self._clock, self._rng)
        models = ModelReader(runtime, upstreams, self._clock, self._rng)
        return {
            "names": lambda: names.run(lambda: [e.address for e in runtime.config.fleet.endpoints]),
            "carbon": rounds.carbon,
            "tick": rounds.tick,
            "probe": prober.run,
            "models": models.run,
            "load": rounds.loads(scrape),
            "state": self._keeper.run,
            "calibration": lambda: self._calibrating.read(scrape),
            "calibration_fits": self._calibrating.refit,
            "trust": lambda: self._trust.run(backends),
            "carbon_budgets": self._budgets.run,
            "console": self._console.run,
            "keys": self._identities.watch,
            "stored_keys": self._identities.look,
            "issuer": self._identities.follow,
            **self._ledger_rounds.work(scrape),
            **self._limits.work(),
            **self._sharing.work(),
        }

    def _signer(self) -> ReceiptKeys | None:
        keys = self._trust.receipt_keys
        return None if keys is None else keys.value

    async def _dispatch(self, upstreams: Mapping[str, Upstream]) -> Dispatcher:
        runtime, config = self._runtime, self._runtime.config
        retry = config.settings.retry
        dispatcher = Dispatcher(
            await runtime.start(),
            Parts(
                upstreams,
                self._telemetry.observer,
                LengthModel(config.fleet.priors, config.policy.quantile),
                RetryBudget(retry.budget_ratio, retry.budget_reserve),
                self._clock,
                self._rng,
                runtime.loads,
                self._ledger.ledger,
                self._telemetry.tracer,
                Judge(self._sessions.get, self._clock.monotonic),
            ),
            build_limits(config.settings),
            identity=self._identity,
        )
        dispatcher.lessons.digest_every = _DIGEST_EVERY
        dispatcher.recorder = self._ledger.recorder
        self._console.attach(dispatcher)
        runtime.dispatcher = dispatcher
        await self._identities.start()
        await self._calibrating.restore()
        await self._keeper.restore()
        await self._budgets.join(dispatcher)
        if self._membership is not None:
            self._membership.join(runtime, dispatcher)
        self._sharing.join(dispatcher)
        self._limits.join()
        return dispatcher

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

    def _reloaded(self, how: Reload, refused: str) -> None:
        if how is Reload.APPLIED:
            self._telemetry.security.tell(SecurityEvent.RELOADED)
        else:
            self._telemetry.security.tell(SecurityEvent.RELOAD_REFUSED, refused)
        config = self._runtime.config
        self._telemetry.adopt(config)
        self._identities.adopt(config.settings.identity)
        self._budgets.adopt(config)
        self._ledger.adopt(config.settings.ledger)
        if self._membership is not None:
            self._membership.reloaded(how, self._runtime)

    def _fleet_changed(self) -> None:
        self._telemetry.know(self._runtime.config)
        if self._membership is not None:
            self._membership.know(self._runtime)
