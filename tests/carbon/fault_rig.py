"""One provider behind the real HTTP client, poller and chain, over loopback, in a world apart."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from statistics import fmean as mean

import pytest

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.chain import CarbonChain
from router.carbon.polling.source import PolledSource
from router.carbon.providers.http import HttpLimits, open_session
from router.carbon.providers.watttime import G_PER_KWH_PER_LB_PER_MWH
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import StaticSource
from router.contract import CarbonSource
from router.errors import MissingIntensityError
from router.model import Forecast, Intensity, Kind
from tests.carbon.fault_providers import MARGINAL, T0, Case, Expected
from tests.fakes.serving import Fake, serving
from tests.fakes.world import HOUR, World, floor_to

STATIC_G = 321.0


class Rig:
    """One case, running. ``now``: the world's."""

    def __init__(
        self, case: Case, world: World, fake: Fake, source: PolledSource, chain: CarbonChain
    ) -> None:
        self.case = case
        self.world = world
        self.fake = fake
        self.source = source
        self.chain = chain

    @property
    def now(self) -> float:
        return self.world.now()

    async def refresh(self) -> None:
        await self.chain.refresh([self.case.zone], self.now)

    async def live(self, hours: float, every_s: float = 900.0) -> None:
        """Let time pass, with a refresh every so often and one at the end."""
        for _ in range(round(hours * HOUR / every_s)):
            self.world.advance(every_s)
            await self.refresh()

    async def newest(self) -> Intensity:
        """What the poller has as the newest value, without asking the chain."""
        found = await self.source.read([self.case.zone], self.now)
        return found[self.case.zone]

    def answered_at(self, endpoint: str, before: float = math.inf) -> float:
        """When the provider last answered there."""
        return max(
            call.at
            for call in self.fake.calls
            if (call.endpoint, call.status) == (endpoint, 200) and call.at <= before
        )

    def published(self, before: float) -> Expected | None:
        """What the provider's last forecast until then says of now; None when it makes none."""
        if self.case.ahead is None:
            return None
        asked_at = self.answered_at(self.case.forecast_endpoint, before)
        return self.case.ahead(self.world, self.now, asked_at)

    def slot(self, ahead: int = 0) -> Intensity:
        """What the chain serves for the hour ``ahead`` of now."""
        return self.chain.view([self.case.zone], self.now, ahead + 1)[self.case.zone].slots[ahead]

    def attempt(self) -> SourceAttempt:
        """How the provider fared in the last refresh, when asked for values."""
        attempts = {attempt.source: attempt for attempt in self.chain.attempts[self.case.zone]}
        return attempts[self.case.name]

    def truth(self, ahead: int = 0) -> float:
        """Mean over the hour ``ahead`` of now of what was true, in the case's own signal."""
        start = floor_to(self.now, HOUR) + ahead * HOUR
        if self.case.signal == MARGINAL:
            rates = [
                self.world.moer_lbs_per_mwh(self.case.place, start + 300.0 * i) for i in range(12)
            ]
            return mean(rates) * G_PER_KWH_PER_LB_PER_MWH
        factors = self.case.signal.factors.value
        return self.world.g_per_kwh(self.case.zone, start, HOUR, factors)


shipped = cache(Climatology.load)


class Persistence:
    """The plainest Forecaster, so that what it must say is plain: the last value stays.

    Its interval widens by a per cent with every hour of age.
    """

    def __init__(self) -> None:
        self._last: dict[str, Intensity] = {}

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        known = self._last.get(grid_zone)
        if known is None or intensity.observed_at > known.observed_at:
            self._last[grid_zone] = intensity

    def learn(self, grid_zone: str, past: Sequence[Intensity]) -> None:
        for intensity in past:
            self.observe(grid_zone, intensity)

    def forget(self, grid_zone: str) -> None:
        self._last.pop(grid_zone, None)

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        last = self._last.get(grid_zone)
        if last is None:
            raise MissingIntensityError(f"nothing was observed in {grid_zone}")
        start = math.floor(now / HOUR) * HOUR
        hours = []
        for ahead in range(horizon_h):
            age_h = max(1.0, (start - last.observed_at) / HOUR + ahead)
            slot = replace(
                last,
                kind=Kind.FORECAST,
                source=f"persistence({last.source})",
                low_g_per_kwh=last.g_per_kwh * max(0.0, 1 - 0.01 * age_h),
                high_g_per_kwh=last.g_per_kwh * (1 + 0.01 * age_h),
            )
            hours.append(slot)
        return Forecast(grid_zone, start, HOUR, tuple(hours))


@asynccontextmanager
async def running(
    case: Case,
    *,
    start: float = T0,
    timeout_s: float = 5.0,
    tls: bool = False,
    behind: Rig | None = None,
) -> AsyncIterator[Rig]:
    """The case at ``start``, not refreshed yet. Time-outs are on the machine's own clock.

    ``behind``: another case in the same world, whose source comes second in the chain.
    """
    world = behind.world if behind else World(start)
    fake = case.fake(world)
    limits = HttpLimits(timeout_s=timeout_s, max_bytes=1 << 20)
    async with serving(fake, tls=tls) as url, open_session() as session:
        provider = case.build(url, session, world, limits)
        source = PolledSource(provider, random.Random(1))
        annual = StaticSource.load(case.signal, {case.zone: STATIC_G}, as_of=T0)
        usual: list[CarbonSource] = [behind.source] if behind else []
        prior = shipped() if case.usual is Kind.CLIMATOLOGY else None
        if prior is not None:
            usual.append(prior)
        chain = CarbonChain([source, *usual], Persistence(), annual)
        yield Rig(case, world, fake, source, chain)


def close(found: float, expected: float) -> bool:
    return bool(found == pytest.approx(expected, rel=1e-6))


async def assert_well(rig: Rig) -> None:
    """The newest value is the world's, of its kind and age; the attempt went well."""
    asked_at = rig.answered_at(rig.case.endpoint)
    assert rig.now - asked_at <= 1.1 * rig.case.period_s + 900.0
    expected = rig.case.latest(rig.world, asked_at)
    newest = await rig.newest()
    assert close(newest.g_per_kwh, expected.g_per_kwh)
    assert (newest.kind, newest.observed_at) == (expected.kind, expected.observed_at)
    assert newest.signal == rig.case.signal
    assert newest.source.split(" ")[0] == rig.case.name
    attempt = rig.attempt()
    assert (attempt.ok, attempt.why, attempt.code) == (True, "", "")
    assert attempt.age_s == max(0.0, rig.now - expected.observed_at)
