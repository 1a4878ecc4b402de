"""Hints are told: by one process of all gateways, when something has changed and now and then."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from router.app.leases import ProcessLease, SoleLease, StoreLease
from router.app.scaling.hints import FORMAT, ScalingHints, endpoint_hints, region_hint, utc
from router.app.scaling.looks import Scaling
from router.contract import Clock, StateStore
from router.director import View
from router.errors import DataError, HintNotTakenError, StateStoreError
from router.state.usual_load import UsualLoadStore
from router.state.wake_times import WakeTimeStore
from router.telemetry.admin import Reason
from router.telemetry.scaling import ScalingMetrics

# What failed is told anew after so long, or with the next change.
_AGAIN_S: Final = 30.0
_MOST_TEXT: Final = 500

_log = logging.getLogger(__name__)


class HintTaker(Protocol):
    """Who is told: `router.app.scaling.webhook.Webhook`, `router.app.scaling.command.Command`."""

    @property
    def name(self) -> str:
        """In metrics and messages."""
        ...

    async def tell(self, body: bytes) -> None:
        """Hand over hints, as JSON. Raises HintNotTakenError."""
        ...


class _Told:
    """What somebody was told last, and until when that will do."""

    def __init__(self, taker: HintTaker) -> None:
        self.taker = taker
        self.essence: tuple[object, ...] | None = None
        self.again_at = -math.inf
        self.trouble = ""


class HintRounds:
    """One a process; ``look`` is called every few seconds."""

    def __init__(
        self,
        scaling: Scaling,
        takers: Sequence[HintTaker],
        every_s: float,
        view: Callable[[], View],
        kept: WakeTimeStore,
        usual: UsualLoadStore,
        lease: ProcessLease | None,
        identity: str,
        clock: Clock,
        metrics: ScalingMetrics,
    ) -> None:
        """``lease``: None where another worker of this gateway tells. ``identity``: of this
        process among all."""
        self._scaling = scaling
        self._told = [_Told(taker) for taker in takers]
        self._every_s = every_s
        self._view = view
        self._kept = kept
        self._usual = usual
        self._lease = lease
        self._identity = identity
        self._clock = clock
        self._metrics = metrics
        self._wanted: frozenset[str] = frozenset()
        self._holds = self._has_read = False
        metrics.begun(taker.name for taker in takers)

    async def look(self) -> None:
        """Tell, where this process does and there is something to tell."""
        if not self._has_read:
            self._has_read = True
            await self._take_up()
        if self._lease is None:
            return
        await self._lease.renew()
        if not self._lease.is_held:
            self._holds = False
            return
        if not self._holds:
            self._holds = True
            # Whoever told before may have measured since.
            await self._take_up()
            for told in self._told:
                told.essence = None
        await self._keep()
        await self._tell()

    def notes(self) -> Sequence[Reason]:
        """What readiness says of it."""
        return [
            Reason("scaling_hints_failing", f"scaling.{told.taker.name}: {told.trouble}", False)
            for told in self._told
            if told.trouble and self._holds
        ]

    async def close(self) -> None:
        """Others may tell."""
        if self._lease is not None:
            await self._lease.release()

    def hints(self, with_hours: bool = True) -> ScalingHints:
        """As of now; without the hours ahead they say what they are acted on for."""
        demands = self._scaling.demands(with_hours)
        wakes = self._scaling.wakes
        regions = []
        for one in demands:
            wake = wakes.expected((one.model, one.region))
            regions.append(region_hint(one, wake))
            self._metrics.show(one.model, one.region, one.ready, one.wanted)
            self._metrics.show_wake(one.model, one.region, wake.s, wake.measured)
        wanted = {(one.model, one.region): one.wanted for one in demands}
        endpoints = endpoint_hints(self._view(), wanted, self._wanted)
        self._wanted = frozenset(one.name for one in endpoints if one.wanted)
        term = self._lease.token if isinstance(self._lease, StoreLease) else 0
        at = utc(self._clock.now())
        return ScalingHints(FORMAT, self._identity, term, at, regions, endpoints)

    async def _tell(self) -> None:
        hints = self.hints(with_hours=False)
        if not hints.regions:
            # Nobody has looked yet.
            return
        ticks = self._clock.monotonic()
        due = [
            told
            for told in self._told
            if hints.essence != told.essence or ticks >= told.again_at
        ]  # fmt: skip
        if not due:
            return
        hints = self.hints()
        body = msgspec.json.encode(hints)
        for told in due:
            await self._hand(told, hints, body, self._clock.monotonic())

    async def _hand(self, told: _Told, hints: ScalingHints, body: bytes, ticks: float) -> None:
        name = told.taker.name
        told.essence = hints.essence
        try:
            await told.taker.tell(body)
        except HintNotTakenError as error:
            self._metrics.told(name, "failed")
            if not told.trouble:
                _log.warning("nobody is told how many replicas are wanted: %s", error)
            told.trouble = str(error)[:_MOST_TEXT]
            told.again_at = ticks + min(_AGAIN_S, self._every_s)
            return
        self._metrics.told(name, "taken")
        if told.trouble:
            _log.info("hints of replicas are taken again", extra={"told": name})
        told.trouble = ""
        told.again_at = ticks + self._every_s

    async def _take_up(self) -> None:
        now = self._clock.now()
        try:
            self._scaling.wakes.take_up(await self._kept.read(now))
        except (DataError, OSError, StateStoreError) as error:
            _log.warning("no wake times are known from before: %s", error)
        try:
            self._scaling.take_up_usual(await self._usual.read(now))
        except (DataError, OSError, StateStoreError) as error:
            _log.warning("what usually runs is not known from before: %s", error)

    async def _keep(self) -> None:
        if not self._scaling.taught:
            return
        self._scaling.taught = False
        try:
            now = self._clock.now()
            await self._kept.write(self._scaling.wakes.taken(), now)
            await self._usual.write(self._scaling.usual.taken(), now)
        except (OSError, StateStoreError) as error:
            _log.warning("wake times, and what usually runs, are not kept: %s", error)


def scaling_lease(store: StateStore | None, holder: str, clock: Clock) -> ProcessLease:
    """Of the gateways that share ``store`` one tells."""
    return SoleLease() if store is None else StoreLease(store, "scaling", holder, clock)
