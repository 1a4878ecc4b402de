"""What one gateway process is made of, whatever it serves by, and what a reload changes in it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from router.app.budgets import BudgetRounds
from router.app.calibrating import CalibrationRounds, calibration_lease
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.compose import build_clock, build_rng
from router.app.console.audiences import Audiences
from router.app.console.rounds import ConsoleRounds
from router.app.console.sampling import Sampling
from router.app.discovery import Discovery
from router.app.finders import build_finder
from router.app.fleet_sharing import FleetSharing
from router.app.identities import IdentityKeeper
from router.app.keeping import Keeper
from router.app.ledger import ProcessLedger
from router.app.ledger_rounds import LedgerRounds
from router.app.limit_sharing import LimitSharing
from router.app.membership import Membership
from router.app.process_telemetry import ProcessTelemetry
from router.app.reloading import Reloader
from router.app.runtime import Runtime
from router.app.shared_state import build_store
from router.app.trust import Trust
from router.app.workers import WorkerOrder
from router.backends.names import SystemResolver
from router.clock import WallClock
from router.config.settings import Config
from router.peers.members import SeenMembers
from router.peers.rows import PARENT, Reload
from router.state.calibrated import CalibratedStore
from router.telemetry.security import SecurityEvent


class ProcessParts:
    """Built in the order of who needs whom; nothing of it runs yet.

    ``speaks``: this process does what one of the workers does for all of them; ``identity``: of
    this process among all that ever were, of all gateways.
    """

    def __init__(self, config: Config, config_path: Path, order: WorkerOrder | None) -> None:
        """``order``: what the parent says where there are several; None for a process alone."""
        workers = order.workers if order else 1
        # What one of the workers does for all of them; the parent serves nothing.
        speaks = order is None or order.speaks
        self.speaks = speaks
        self.rng = build_rng()
        self.clock = build_clock(config.settings.clock)
        self.membership = Membership(order, self.clock) if order else None
        # Of this process among all that ever were, of all gateways.
        self.identity = f"{os.getpid():x}{secrets.token_hex(5)}"
        # Credentials expire by the wall, whatever day is replayed.
        wall = WallClock()
        self.telemetry = telemetry = ProcessTelemetry(
            config, order, self.identity, wall, os.environ
        )
        self.metrics = telemetry.metrics
        self.store = build_store(config, self.clock, self.identity, os.environ, self.metrics.store)
        self.sessions = Sessions()
        # Of all gateways, as the exchange of loads sees them: for all that is divided.
        members = SeenMembers()

        def sharers() -> int:
            return max(workers, members.count)

        self.identities = IdentityKeeper(
            config.settings.identity,
            wall,
            telemetry.security,
            self.sessions.get,
            sharers,
            self.store,
        )
        self.limits = LimitSharing(
            self.identities.access,
            wall,
            self.rng,
            self.identity,
            sharers,
            self.store,
            self.membership.limits if self.membership else None,
        )
        self.resolver = SystemResolver()
        self.runtime = Runtime(
            config,
            self.clock,
            ProviderDeps(
                clock=self.clock,
                rng=self.rng,
                environ=os.environ,
                sessions=self.sessions,
                processes=workers,
                on_call=self.metrics.carbon.called,
                on_dropped=self.metrics.carbon.dropped,
                store=self.store,
                holder=self.identity,
            ),
        )
        # Certificates are of today, whatever day is replayed.
        self.trust = Trust(config, build_clock(None), os.environ, self.metrics.trust)
        self.runtime.trust = self.trust
        self.runtime.notes.append(self.trust.notes)
        self.budgets = BudgetRounds(
            config,
            self.clock,
            self.metrics.budgets,
            self.store,
            self.identity,
            members,
            spending=self.membership.spending if self.membership else None,
            row=order.row if order else PARENT,
            workers=workers,
        )
        self.runtime.notes.append(self.budgets.notes)
        self.runtime.notes.append(self.identities.notes)
        self.sharing = FleetSharing(
            self.store,
            self.identity,
            order.gateway if order else self.identity,
            self.runtime,
            self.rng,
            self.metrics,
            members,
        )
        self.ledger = ProcessLedger(
            config,
            order.row if order else PARENT,
            secrets.token_hex(4),
            self.clock,
            self.metrics.ledger,
            workers,
        )
        self.audiences = Audiences()
        self.sampling = Sampling(telemetry.observer, build_rng(), f"{self.audiences.boot}-")
        self.workers = workers
        self.console = ConsoleRounds(
            self.runtime,
            telemetry.registry,
            self.audiences,
            self.sampling,
            self.budgets.budgets.views,
            wall,
            workers,
        )
        self.ledger_rounds = LedgerRounds(
            self.ledger,
            config_path,
            self.runtime,
            self.store,
            self.identity,
            self.rng,
            self.metrics.ledger,
            speaks,
        )
        self.keeper = Keeper(
            config.settings.state,
            self.runtime,
            order.row if order else PARENT,
            workers,
            self.store,
            self.identity,
        )
        self.calibrating = CalibrationRounds(
            self.runtime,
            CalibratedStore(config.settings.state.file, self.store),
            calibration_lease(self.store, self.identity, wall) if speaks else None,
            wall,
            self.metrics.calibration,
            self._fleet_changed,
        )
        self.reloader = Reloader(self.runtime, config_path, self.metrics, self._reloaded)
        self.discovery = Discovery(
            self.runtime,
            lambda place: build_finder(place, self.clock, self.rng),
            self.metrics.discovery,
            self._fleet_changed,
        )

    def _reloaded(self, how: Reload, refused: str) -> None:
        if how is Reload.APPLIED:
            self.telemetry.security.tell(SecurityEvent.RELOADED)
        else:
            self.telemetry.security.tell(SecurityEvent.RELOAD_REFUSED, refused)
        config = self.runtime.config
        self.telemetry.adopt(config)
        self.identities.adopt(config.settings.identity)
        self.budgets.adopt(config)
        self.ledger.adopt(config.settings.ledger)
        if self.membership is not None:
            self.membership.reloaded(how, self.runtime)

    def _fleet_changed(self) -> None:
        self.telemetry.know(self.runtime.config)
        if self.membership is not None:
            self.membership.know(self.runtime)
