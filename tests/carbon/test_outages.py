"""What an outage costs: real HTTP client, poller, chain and forecaster, a fake Electricity Maps.

Several grid zones whose order changes from hour to hour; the traffic goes to the one that the chain
holds for the greenest. The cost of an outage is what that choice emits more than the same chain's
without the outage. Forecasts are outside the plan, so that nothing but the own forecaster helps.
"""

from __future__ import annotations

import csv
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from itertools import combinations

import pytest

from router.carbon.chain.chain import CarbonChain
from router.carbon.chain.combine import Combiner
from router.carbon.forecast import Nowcast
from router.carbon.polling.source import PolledSource
from router.carbon.providers.electricity_maps import ElectricityMaps
from router.carbon.providers.http import HttpLimits, open_session
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import StaticSource
from router.errors import MixedBasisError
from router.model import Factors, Forecast, Intensity, Kind
from router.trust.secrets import Secret
from tests.carbon.fault_providers import CASES, LIFECYCLE, SECRETS, T0, client
from tests.carbon.fault_rig import Persistence
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.faults import Fault, What
from tests.fakes.serving import parse_time, serving
from tests.fakes.world import DAY, HOUR, GridZone, World

# Each is the greenest, or the second, for some hours.
ZONES = ("US-MIDA-PJM", "US-SE-SOCO", "US-TEX-ERCO")
# Nine days into the shipped table; just before an hour begins, so that its estimate is missed.
BEGIN = T0 - 2 * DAY - 600.0


@dataclass
class Recorded(World):
    """A world whose truth was measured: life-cycle g/kWh of the hours from ``first`` on."""

    first: float = 0.0
    hours: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def g_per_kwh(
        self, name: str, start: float, step_s: float = HOUR, factors: str = "lifecycle"
    ) -> float:
        assert factors == "lifecycle"
        series = self.hours[name]
        # What a forecast may ask for beyond the recording is of no consequence.
        return series[min(max(int((start - self.first) // HOUR), 0), len(series) - 1)]


def shipped() -> World:
    """Three grids of the table that the demo plays: fourteen days of hours from EIA-930."""
    text = resources.files("router.data").joinpath("demo_grid.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    hours = {name: [float(row[name]) for row in rows] for name in ZONES}
    zones = {name: GridZone(name, estimate_error=0.03) for name in ZONES}
    return Recorded(BEGIN, zones=zones, first=parse_time(rows[0]["datetime"]), hours=hours)


@dataclass
class Fleet:
    """One chain over all zones. ``fake.faults`` is where outages go."""

    world: World
    fake: FakeElectricityMaps
    chain: CarbonChain

    async def refresh(self) -> None:
        await self.chain.refresh(ZONES, self.world.now())

    def view(self, hours: int = 1) -> Mapping[str, Forecast]:
        return self.chain.view(ZONES, self.world.now(), hours)

    def now_in(self, zone: str) -> Intensity:
        return self.view()[zone].slots[0]

    def emits(self) -> float:
        """True intensity, now, of the zone that the chain holds for the greenest."""
        view = self.view()
        choice = min(ZONES, key=lambda zone: view[zone].slots[0].g_per_kwh)
        return self.true(choice)

    def true(self, zone: str) -> float:
        return self.world.g_per_kwh(zone, self.world.now() // HOUR * HOUR)


@asynccontextmanager
async def fleets(
    world: World, count: int, faults: Sequence[Fault] = ()
) -> AsyncIterator[list[Fleet]]:
    """Fleets in one world that know nothing of one another, refreshed once under ``faults``."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        made = []
        for number in range(count):
            fake = FakeElectricityMaps(world, ZONES, keys={SECRETS[0]: None})
            fake.faults += [Fault(What.OUTSIDE_PLAN, endpoint="forecast"), *faults]
            url = await stack.enter_async_context(serving(fake))
            http = client(f"{url}/v3", session, world, HttpLimits(), "electricity_maps")
            provider = ElectricityMaps(
                http, {z: z for z in ZONES}, key=Secret(SECRETS[0]), factors=Factors.LIFECYCLE
            )
            usual = Climatology.load()
            annual = StaticSource.load(LIFECYCLE, {}, as_of=T0)
            source = PolledSource(provider, random.Random(number))
            # The first is the one that is hit; values that are there need no forecaster.
            forecaster = Persistence() if number else Nowcast(usual)
            chain = CarbonChain([source, usual], forecaster, annual, combiner=Combiner())
            made.append(Fleet(world, fake, chain))
        for fleet in made:
            await fleet.refresh()
        yield made


async def test_an_hour_without_the_provider_costs_at_most_a_per_cent() -> None:
    world = shipped()
    async with fleets(world, 2) as (hit, well):
        with_it = without_it = 0.0
        for _ in range(20):
            hit.fake.faults.append(Fault(What.DEAD, start=world.now(), end=world.now() + HOUR))
            for passed in (0.75 * HOUR, 1.25 * HOUR, HOUR, HOUR):
                world.advance(passed)
                await well.refresh()
                await hit.refresh()
                if passed == 0.75 * HOUR:
                    # Dead for 45 minutes, 35 of them in an hour that it has said nothing of.
                    without_it += hit.emits()
                    with_it += well.emits()
                    assert hit.chain.attempts[ZONES[0]][0].code == "provider_unavailable"
                    assert hit.now_in(ZONES[0]).kind is Kind.FORECAST
                    assert well.now_in(ZONES[0]).kind is Kind.ESTIMATED
        assert without_it / with_it - 1.0 <= 0.01


async def test_a_day_without_the_provider_is_flagged_and_bounded() -> None:
    world = shipped()
    async with fleets(world, 2) as (hit, well):
        for _ in range(24):
            world.advance(HOUR)
            await hit.refresh()
            await well.refresh()
        dead_since = world.now()
        hit.fake.faults.append(Fault(What.DEAD, start=dead_since, end=dead_since + DAY + 1.0))
        spread: dict[str, list[float]] = {zone: [] for zone in ZONES}
        with_it = without_it = 0.0
        inside = 0
        for hour in range(1, 25):
            world.advance(HOUR)
            await hit.refresh()
            await well.refresh()
            without_it += hit.emits()
            with_it += well.emits()
            for zone in ZONES:
                slot, served = hit.now_in(zone), hit.chain.provenance(zone, world.now())
                assert slot.kind is Kind.FORECAST
                assert served.attempts[0].code == "provider_unavailable"
                assert slot.source == "nowcast(electricity_maps)"
                assert slot.age_s(world.now()) == pytest.approx(hour * HOUR, abs=HOUR)
                assert served.served[0].stale == (hour > 2)
                spread[zone].append((slot.high_g_per_kwh - slot.low_g_per_kwh) / slot.g_per_kwh)
                inside += slot.low_g_per_kwh <= hit.true(zone) <= slot.high_g_per_kwh
        for widths in spread.values():
            # Of hours of the day some are surer than others; none is surer than at the beginning.
            assert min(widths) > 0.95 * widths[0]
            assert len(widths) == 24 and widths[-1] > 1.2 * widths[0]
        assert inside >= 0.75 * 24 * len(ZONES), "90 % intervals, three zones, one day"
        assert without_it / with_it - 1.0 <= 0.05
        world.advance(2 * HOUR)
        await hit.refresh()
        assert hit.now_in(ZONES[0]).kind is Kind.ESTIMATED


async def test_a_week_without_anything_ends_with_what_is_usual(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = shipped()
    async with fleets(world, 1) as (fleet,):
        fleet.fake.faults.append(Fault(What.DEAD, start=world.now() + HOUR))
        with caplog.at_level(logging.WARNING, logger="router"):
            for day in range(0, 8):
                for _ in range(4):
                    world.advance(6 * HOUR)
                    await fleet.refresh()
                    for view in fleet.view(96).values():
                        assert len(view.slots) == 96
                        for slot in view.slots:
                            assert 0.0 < slot.low_g_per_kwh < slot.g_per_kwh < slot.high_g_per_kwh
                            assert slot.signal == LIFECYCLE
                            assert slot.kind in (Kind.FORECAST, Kind.CLIMATOLOGY)
                if day >= 4:
                    assert {fleet.now_in(zone).kind for zone in ZONES} == {Kind.CLIMATOLOGY}
        assert not caplog.records


async def test_never_a_word_from_anybody() -> None:
    world, usual = shipped(), Climatology.load()
    async with fleets(world, 1, [Fault(What.DEAD)]) as (fleet,):
        view = fleet.view(96)
        for zone in ZONES:
            assert view[zone].slots == usual.slots(zone, world.now(), 96)
            assert view[zone].slots[0].low_g_per_kwh < view[zone].slots[0].high_g_per_kwh
            assert fleet.chain.attempts[zone][0].code == "provider_unavailable"


@pytest.mark.parametrize(("one", "other"), list(combinations(sorted(CASES), 2)))
async def test_providers_of_different_signals_never_share_a_chain(one: str, other: str) -> None:
    world = World(T0)
    async with open_session() as session:
        sources = [
            PolledSource(
                CASES[name].build("http://127.0.0.1:1", session, world, HttpLimits()),
                random.Random(0),
            )
            for name in (one, other)
        ]
        if CASES[one].signal == CASES[other].signal:
            assert CarbonChain(sources, Persistence()).signal == CASES[one].signal
            return
        with pytest.raises(MixedBasisError, match="share basis and emission factors"):
            CarbonChain(sources, Persistence())
