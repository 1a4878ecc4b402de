"""The gateway calibrates by itself: of endpoints that ask for it (`meter.calibrate`) the pages are
read all the time, and now and then a profile is fitted to them, as `carbon-router calibrate` does.

One process of all does it: the first worker of the gateway that holds the lease, where they share a
store. What it adopts it writes down, where the others, and who starts next, find it. A fit that is
too unsure, or cannot be, changes nothing: what was adopted last stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from router.app.leases import ProcessLease, SoleLease, StoreLease
from router.app.runtime import Runtime
from router.config import parse_time
from router.config.calibrated import MOST_ENDPOINTS, Calibrated, calibrated_profile, key_of
from router.contract import Clock, StateStore
from router.errors import CarbonRouterError, DataError, StateStoreError
from router.load.calibration.continuous import (
    FitAnswer,
    FitQuestion,
    ReadingKeeper,
    fit_apart,
    says_the_same,
    why_not,
)
from router.load.calibration.live import read_once
from router.load.calibration.profile_text import ProfileFacts, profile_values, undecided
from router.load.calibration.series import EnergyReading
from router.load.scraper import PrometheusLoad
from router.model import Endpoint, Provenance
from router.state.calibrated import CalibratedStore
from router.telemetry.calibration import CalibrationMetrics

_LOOK_S: Final = 0.5
_FOLLOW_S: Final = 60.0
_MOST_TEXT: Final = 500

_log = logging.getLogger(__name__)


class CalibrationRounds:
    """One a process. `read` and `refit` are each one round, repeated in the background."""

    def __init__(
        self,
        runtime: Runtime,
        kept: CalibratedStore,
        lease: ProcessLease | None,
        wall: Clock,
        metrics: CalibrationMetrics,
        adopted: Callable[[], None],
        fit: Callable[[FitQuestion], Awaitable[FitAnswer]] = fit_apart,
    ) -> None:
        """``lease``: None in a process that only follows; ``wall``: the time of day, whatever day
        is replayed; ``adopted``: told of another fleet in force."""
        self._runtime = runtime
        self._kept = kept
        self._lease = lease
        self._wall = wall
        self._metrics = metrics
        self._adopted = adopted
        self._fit = fit
        # By endpoint, and the key of its configuration: another's readings are none.
        self._readings: dict[tuple[str, str], ReadingKeeper] = {}
        self._found: dict[str, Calibrated] = {}
        self._read_at = -_FOLLOW_S
        self._trouble = ""
        self._refused: dict[str, str] = {}

    async def restore(self) -> None:
        """Put in force what was calibrated before; before anything is served."""
        if self._wanted():
            await self._take_up()

    async def read(self, source: PrometheusLoad) -> None:
        """Wait, then read the pages that are due; one that follows looks at what was adopted."""
        await asyncio.sleep(_LOOK_S)
        wanted, ticks = self._wanted(), self._wall.monotonic()
        if not wanted:
            self._readings.clear()
            return
        if not await self._leads():
            self._readings.clear()
            if ticks - self._read_at >= _FOLLOW_S:
                await self._take_up()
            return
        self._fit_to(wanted, ticks)
        due = [
            (endpoint, keeper)
            for endpoint in wanted
            if (keeper := self._readings[endpoint.name, key_of(endpoint)]).due_at <= ticks
        ]
        found = await asyncio.gather(*(read_once(one, source, self._wall) for one, _ in due))
        for (endpoint, keeper), reading in zip(due, found, strict=True):
            times = endpoint.meter and endpoint.meter.calibration
            keeper.due_at = ticks + (times.every_s if times else 0.0)
            if reading is not None:
                keeper.readings.append(reading)

    async def refit(self) -> None:
        """Wait, then fit one endpoint's profile, if that is due."""
        await asyncio.sleep(_LOOK_S)
        ticks = self._wall.monotonic()
        for endpoint in self._wanted():
            keeper = self._readings.get((endpoint.name, key_of(endpoint)))
            times = endpoint.meter.calibration if endpoint.meter else None
            if keeper is not None and times is not None and keeper.fit_at <= ticks:
                keeper.fit_at = ticks + times.refit_s
                outcome, why = await self._calibrate(endpoint, list(keeper.readings))
                self._metrics.fitted(endpoint.name, outcome)
                self._tell(endpoint.name, outcome, why)
                return

    async def close(self) -> None:
        """Others may do it."""
        if self._lease is not None:
            await self._lease.release()

    def _wanted(self) -> Sequence[Endpoint]:
        """As they are configured, whatever was fitted meanwhile."""
        endpoints = self._runtime.configured.fleet.endpoints
        wanted = [one for one in endpoints if one.meter is not None and one.meter.calibration]
        return wanted[:MOST_ENDPOINTS]

    async def _leads(self) -> bool:
        if self._lease is None:
            return False
        await self._lease.renew()
        return self._lease.is_held

    def _fit_to(self, wanted: Sequence[Endpoint], ticks: float) -> None:
        """Keep readings of ``wanted``, and of no others."""
        keys = {(one.name, key_of(one)): one for one in wanted}
        for gone in self._readings.keys() - keys.keys():
            del self._readings[gone]
        for key, endpoint in keys.items():
            if key not in self._readings and endpoint.meter and endpoint.meter.calibration:
                times = endpoint.meter.calibration
                self._readings[key] = ReadingKeeper(times.refit_s, ticks)
                self._metrics.begun(endpoint.name)

    async def _calibrate(
        self, endpoint: Endpoint, readings: Sequence[EnergyReading]
    ) -> tuple[str, str]:
        """What became of it, and why."""
        meter = endpoint.meter
        if meter is None or meter.calibration is None:
            return "failed", "its meter is gone"
        until = self._wall.now()
        try:
            question = FitQuestion(readings, 2.0 * meter.calibration.every_s)
            answer = await self._fit(question)
        except DataError as error:
            return "failed", str(error)
        why = why_not(answer)
        former = endpoint.models[0].profile
        if answer.fit is not None:
            why = why or undecided(former, answer.fit)
        if why or answer.fit is None:
            return "refused", why
        in_force = self._in_force(endpoint.name)
        if in_force is not None and says_the_same(answer.fit, in_force):
            self._metrics.until(endpoint.name, until)
            return "confirmed", ""
        since = until - answer.fit.seconds
        facts = ProfileFacts(
            endpoint.name, endpoint.engine, meter, answer.by_watts, _utc(since), _utc(until)
        )
        try:
            values = profile_values(former, answer.fit, facts)
            calibrated_profile(values, endpoint)
        except (DataError, ValidationError, ValueError) as error:
            return "refused", str(error)
        before = self._found.get(endpoint.name)
        self._found[endpoint.name] = Calibrated(endpoint.name, key_of(endpoint), values)
        trouble = await self._put_in_force()
        if trouble:
            if before is None:
                del self._found[endpoint.name]
            else:
                self._found[endpoint.name] = before
            return "failed", trouble
        try:
            await self._kept.write(self._still_there(), self._wall.now())
        except (OSError, StateStoreError) as error:
            _log.error("calibrated profiles are not kept: %s", error)
        return "adopted", str(values["source"])

    def _still_there(self) -> Sequence[Calibrated]:
        names = {one.name for one in self._runtime.configured.fleet.endpoints}
        return [one for name, one in self._found.items() if name in names]

    def _in_force(self, endpoint: str) -> object:
        """The calibrated profile of ``endpoint``; None where there is none."""
        for one in self._runtime.config.fleet.endpoints:
            if one.name == endpoint:
                profile = one.models[0].profile
                found = one.provenance_of(profile) is Provenance.CALIBRATED or one.emulated
                return profile if found and profile.calibrated_on == endpoint else None
        return None

    async def _take_up(self) -> None:
        self._read_at = self._wall.monotonic()
        try:
            found = await self._kept.read(self._wall.now())
        except (DataError, OSError, StateStoreError) as error:
            if str(error) != self._trouble:
                _log.warning("calibrated profiles cannot be read: %s", error)
            self._trouble = str(error)
            return
        self._trouble = ""
        by_name = {one.endpoint: one for one in found or ()}
        if by_name and by_name != self._found:
            before, self._found = self._found, by_name
            if await self._put_in_force():
                # To be tried again.
                self._found = before

    async def _put_in_force(self) -> str:
        """What kept it from that; "" for nothing."""
        try:
            changed = await self._runtime.adopt_calibrated(tuple(self._found.values()))
        except CarbonRouterError as error:
            _log.error("what was calibrated is not in force: %s", error)
            return str(error)
        if changed:
            self._adopted()
        for endpoint in self._found:
            profile = self._in_force(endpoint)
            if profile is not None:
                self._metrics.until(endpoint, parse_time(getattr(profile, "as_of", "")))
        return ""

    def _tell(self, endpoint: str, outcome: str, why: str) -> None:
        why = why[:_MOST_TEXT]
        if outcome == "adopted":
            _log.info("profile calibrated", extra={"endpoint": endpoint, "source": why})
        elif outcome in ("refused", "failed") and self._refused.get(endpoint) != why:
            _log.warning(
                "profile not calibrated, the one before stays: %s",
                why,
                extra={"endpoint": endpoint},
            )
        self._refused[endpoint] = why if outcome in ("refused", "failed") else ""


def calibration_lease(store: StateStore | None, holder: str, clock: Clock) -> ProcessLease:
    """Of the gateways that share ``store`` one calibrates."""
    return SoleLease() if store is None else StoreLease(store, "calibration", holder, clock)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
