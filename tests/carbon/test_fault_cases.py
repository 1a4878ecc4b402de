"""Faults with a course of their own: waits, tokens, revisions, frozen and short answers, DST."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import aiohttp
import pytest

from router.carbon.providers.electricity_maps import ElectricityMaps
from router.carbon.providers.gb import GreatBritain
from router.carbon.providers.http import HttpLimits
from router.carbon.providers.provider import Provider
from router.model import Factors, Kind
from router.trust.secrets import Secret
from tests.carbon.fault_providers import BEGIN, CASES, MARGINAL, SECRETS, T0, Case, client
from tests.carbon.fault_rig import STATIC_G, assert_well, close, running
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.entsoe import FakeEntsoe
from tests.fakes.faults import Fault, What
from tests.fakes.serving import Fake, parse_time
from tests.fakes.watttime import FakeWattTime
from tests.fakes.world import HOUR, World, floor_to

# entsoe-py sorts in a way that pandas is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

EM, WT, GB, EC = (
    CASES[n] for n in ("electricity_maps", "watttime", "gb_carbon_intensity", "energy_charts")
)
FORECASTING = sorted(name for name, case in CASES.items() if case.ahead)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("as_date", [False, True])
async def test_who_is_told_to_wait_waits(case: Case, as_date: bool) -> None:
    async with running(case, start=BEGIN) as rig:
        await rig.refresh()
        good = await rig.newest()
        rig.fake.faults.append(Fault(What.TOO_MANY, retry_after_s=5400.0, as_date=as_date))
        while rig.fake.calls[-1].status != 429:
            await rig.live(0.25)
        told_at, calls = rig.now, len(rig.fake.calls)
        assert rig.attempt().code == "provider_busy"
        rig.fake.faults.clear()
        await rig.live(1.25)
        assert len(rig.fake.calls) == calls
        assert await rig.newest() == good
        assert rig.attempt().age_s == rig.now - good.observed_at
        await rig.live(1.25)
        assert min(call.at for call in rig.fake.calls[calls:]) >= told_at + 5400.0
        await assert_well(rig)


async def test_a_slow_provider_is_not_waited_for(case: Case) -> None:
    async with running(case, start=BEGIN, timeout_s=1.0) as rig:
        await rig.refresh()
        good = await rig.newest()
        rig.fake.faults.append(Fault(What.SLOW))
        rig.world.advance(2 * HOUR)
        await rig.refresh()
        assert rig.fake.slow_calls > 0
        attempt, slot = rig.attempt(), rig.slot()
        assert (attempt.code, attempt.age_s) == ("provider_unavailable", rig.now - good.observed_at)
        assert "no answer within 1 s" in attempt.why
        assert await rig.newest() == good
        assert slot.kind is Kind.FORECAST
        rig.fake.release.set()


async def test_a_certificate_that_nobody_signed(case: Case) -> None:
    async with running(case, start=BEGIN, tls=True) as rig:
        await rig.refresh()
        attempt, slot = rig.attempt(), rig.slot()
        assert not rig.fake.calls, "no key was sent to whoever that is"
        assert (attempt.ok, attempt.code, attempt.age_s) == (False, "provider_unavailable", None)
        assert "TLS failed" in attempt.why or "SSLError" in attempt.why
        assert slot.kind is case.usual
        assert 0.0 < slot.low_g_per_kwh < slot.g_per_kwh < slot.high_g_per_kwh
        if case.usual is Kind.ANNUAL_MEAN:
            assert slot.g_per_kwh == STATIC_G


async def test_a_frozen_provider_shows_its_age(case: Case) -> None:
    async with running(case, start=BEGIN) as rig:
        await rig.refresh()
        await rig.live(0.5)
        good, frozen_at = await rig.newest(), rig.now
        rig.fake.faults.append(Fault(What.FROZEN, start=frozen_at))
        for _ in range(30):
            await rig.live(1, every_s=HOUR)
            newest = await rig.newest()
            assert newest.observed_at == good.observed_at
            assert newest.g_per_kwh == good.g_per_kwh
            assert rig.attempt().age_s == rig.now - good.observed_at
            assert rig.slot().age_s(rig.now) > rig.now - frozen_at - HOUR or case.ahead is None
            if rig.now > good.expires_at:
                break
            assert rig.attempt().ok
        assert rig.now > good.expires_at
        attempt = rig.attempt()
        assert (attempt.ok, attempt.code) == (False, "stale")
        assert attempt.why.startswith("stale")
        assert rig.slot().kind is not Kind.ESTIMATED


@pytest.mark.parametrize("name", ["electricity_maps", "energy_charts", "gb_carbon_intensity"])
async def test_estimates_are_revised_for_the_books(name: str) -> None:
    case = CASES[name]
    async with running(case, start=BEGIN) as rig:
        zone, hour = rig.world.zone(case.zone), T0 + HOUR
        zone.settle_s = 3 * HOUR
        await rig.refresh()
        await rig.live(12)
        settled = rig.chain.settled(case.zone, hour, hour + HOUR)
        assert settled is not None
        starts = [s for s in (hour, hour + 900, hour + 1800, hour + 2700) if s % case.period_s == 0]
        factors = case.signal.factors.value
        true = [rig.world.g_per_kwh(case.zone, s, case.period_s, factors) for s in starts]
        first = [rig.world.published(case.zone, s, hour, case.period_s, factors) for s in starts]
        assert true != first
        assert settled.g_per_kwh == pytest.approx(fmean(true))
        assert settled.first_g_per_kwh == pytest.approx(fmean(first))
        assert settled.kind is (Kind.ESTIMATED if case is EC else Kind.MEASURED)
        assert settled.revised_at >= hour + zone.settle_s


@pytest.mark.parametrize("name", FORECASTING)
async def test_a_forecast_shorter_than_asked(name: str) -> None:
    async with running(CASES[name], start=BEGIN) as rig:
        rig.fake.faults.append(Fault(What.SHORT, hours=3))
        await rig.refresh()
        view = rig.chain.view([rig.case.zone], rig.now, 24)[rig.case.zone]
        assert len(view.slots) == 24
        served = [slot.source for slot in view.slots]
        assert served[1] == name
        assert all(source.startswith(f"persistence({name}") for source in served[5:])
        assert all(slot.signal == rig.case.signal for slot in view.slots)


async def test_a_token_is_renewed_before_it_ends_and_when_it_is_refused() -> None:
    async with running(WT, start=BEGIN) as rig:
        assert isinstance(rig.fake, FakeWattTime)
        await rig.refresh()
        await rig.live(3)
        await assert_well(rig)
        endpoints = [call.endpoint for call in rig.fake.calls]
        assert 6 <= endpoints.count("login") <= 8
        assert not [call for call in rig.fake.calls if call.status != 200]
        rig.fake.tokens.clear()
        await rig.live(0.25)
        await assert_well(rig)
        refused = [call for call in rig.fake.calls if call.status == 401]
        assert 1 <= len(refused) <= 2, "once for each call that was under way"
        assert "signal-index" not in endpoints


def electricity_maps_for(*places: str) -> Case:
    """Electricity Maps asked about other grid zones than in ``CASES``, the first one's case."""

    def fake(world: World) -> Fake:
        return FakeElectricityMaps(world, [*places, "IT"], keys={SECRETS[0]: None})

    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        http = client(f"{url}/v3", session, world, limits, EM.name)
        zones = {place: place for place in places}
        return ElectricityMaps(http, zones, key=Secret(SECRETS[0]), factors=Factors.LIFECYCLE)

    return replace(EM, zone=places[0], place=places[0], fake=fake, build=build)


async def test_a_zone_outside_the_plan_leaves_the_others_alone() -> None:
    zone, other = EM.zone, "FR"
    async with running(electricity_maps_for(zone, other), start=BEGIN) as rig:
        assert isinstance(rig.fake, FakeElectricityMaps)
        rig.fake.keys = {SECRETS[0]: frozenset({zone})}
        for _ in range(16):
            await rig.chain.refresh([zone, other], rig.now)
            rig.world.advance(900.0)
        refused = [c for c in rig.fake.calls if (c.zone, c.endpoint) == (other, "latest")]
        assert len(refused) == 1, "it is asked again after hours, not at every refresh"
        attempt = next(
            attempt for attempt in rig.chain.attempts[other] if attempt.source == EM.name
        )
        assert attempt.code == "provider_refused"
        assert "plan does not include" in attempt.why
        assert rig.chain.attempts[zone][0].ok
        view = rig.chain.view([zone, other], rig.now, 1)
        assert EM.name in view[zone].slots[0].source
        assert other not in view, "nobody knows anything of it, and nothing is made up"


async def test_a_plan_that_sells_the_last_day_alone() -> None:
    async with running(EM, start=BEGIN) as rig:
        rig.fake.faults.append(Fault(What.OUTSIDE_PLAN, endpoint="past-range"))
        await rig.refresh()
        await rig.live(9)
        await assert_well(rig)
        endpoints = [call.endpoint for call in rig.fake.calls]
        assert endpoints.count("past-range") == 1, "refused once, it is not asked for again"
        assert endpoints.count("history") >= 2
        known = list(rig.chain.revisions.slots(rig.case.zone))
        assert 32 <= len(known) <= 34
        for slot in known[:-12]:
            start = slot.best.observed_at - HOUR
            assert slot.best.g_per_kwh == rig.world.published(rig.case.zone, start, rig.now)


@pytest.mark.parametrize("content_type", ["text/xml", "application/xml; charset=utf-8"])
@pytest.mark.parametrize("status", [200, 400])
async def test_no_matching_data_however_it_is_said(content_type: str, status: int) -> None:
    async with running(CASES["entsoe"], start=BEGIN) as rig:
        assert isinstance(rig.fake, FakeEntsoe)
        rig.fake.no_data_status = status
        rig.fake.content_type = content_type
        await rig.refresh()
        await assert_well(rig)
        rig.fake.faults.append(Fault(What.NO_DATA))
        await rig.live(2)
        assert rig.attempt().code == "provider_no_data"


async def test_the_next_source_takes_over_and_gives_back() -> None:
    first = electricity_maps_for(EC.zone)
    async with running(EC, start=BEGIN) as second, running(first, behind=second) as rig:
        rig.fake.faults.append(Fault(What.OUTSIDE_PLAN, endpoint="forecast"))
        await rig.refresh()
        assert rig.slot().source == EM.name
        assert rig.slot(3).source == EC.name, "it is the first that publishes a forecast"
        rig.fake.faults.append(Fault(What.DEAD))
        await rig.live(4)
        attempts = {attempt.source: attempt for attempt in rig.chain.attempts[EC.zone]}
        assert (attempts[EM.name].ok, attempts[EM.name].code) == (False, "provider_unavailable")
        assert attempts[EC.name].ok
        *_, newest = rig.chain.revisions.slots(EC.zone)
        expected = EC.latest(rig.world, second.answered_at(EC.endpoint))
        assert newest.best.source == EC.name
        assert newest.best.observed_at == expected.observed_at
        assert newest.best.g_per_kwh == expected.g_per_kwh
        assert (rig.slot().kind, rig.slot().source) == (Kind.FORECAST, EC.name)
        rig.fake.faults.pop()
        await rig.live(1)
        assert (rig.slot().kind, rig.slot().source) == (Kind.ESTIMATED, EM.name)


async def test_half_a_document_of_entsoe_is_refused() -> None:
    """html.parser takes half a document: fuels that come later are missing, 485 for 376 g/kWh."""
    async with running(CASES["entsoe"], start=BEGIN) as rig:
        await rig.refresh()
        await rig.live(0.5)
        good = await rig.newest()
        rig.fake.faults.append(Fault(What.INVALID))
        await rig.live(4)
        assert await rig.newest() == good
        assert rig.attempt().code == "provider_answer"


async def test_an_expired_forecast_does_not_shut_out_the_next_publisher() -> None:
    first = electricity_maps_for(EC.zone)
    async with running(EC, start=BEGIN) as second, running(first, behind=second) as rig:
        await rig.refresh()
        await rig.live(1)
        rig.fake.faults.append(Fault(What.DEAD))
        await rig.live(26)
        attempts = {attempt.source: attempt for attempt in rig.chain.attempts[EC.zone]}
        assert not attempts[f"{EM.name} forecast"].ok
        assert attempts[f"{EC.name} forecast"].ok
        assert rig.slot().source == EC.name


async def test_a_dead_publishers_old_forecast_yields_to_a_fresh_one() -> None:
    first = electricity_maps_for(EC.zone)
    async with running(EC, start=BEGIN) as second, running(first, behind=second) as rig:
        await rig.refresh()
        await rig.live(1)
        rig.fake.faults.append(Fault(What.DEAD))
        await rig.live(12)
        assert rig.slot().age_s(rig.now) < 4 * HOUR


async def test_eia_key_that_is_not_authorised_is_not_called_wrong() -> None:
    async with running(CASES["eia"], start=BEGIN) as rig:
        rig.fake.faults.append(Fault(What.OUTSIDE_PLAN))
        await rig.refresh()
        assert "plan does not include" in rig.attempt().why


@pytest.mark.parametrize("name", ["energy_charts", "entsoe", "gb_carbon_intensity"])
@pytest.mark.parametrize("change", ["2022-03-27T01:00Z", "2022-10-30T01:00Z"])
async def test_hours_around_a_change_of_the_clocks(name: str, change: str) -> None:
    begin = parse_time(change) - 4 * HOUR
    async with running(CASES[name], start=begin + 400.0) as rig:
        await rig.refresh()
        for _ in range(9):
            await rig.live(1)
            await assert_well(rig)
        ends = [slot.best.observed_at for slot in rig.chain.revisions.slots(rig.case.zone)]
        around = [end for end in ends if begin < end <= begin + 7 * HOUR]
        count = round(7 * HOUR / rig.case.period_s)
        assert around == [begin + (i + 1) * rig.case.period_s for i in range(count)]


@pytest.mark.parametrize("name", ["eia", "entsoe"])
async def test_hours_without_their_main_fuel_are_not_taken_for_clean_ones(name: str) -> None:
    async with running(CASES[name], start=BEGIN) as rig:
        await rig.refresh()
        since = floor_to(rig.now, HOUR)
        rig.fake.faults.append(Fault(What.NO_MAIN_FUEL, start=since))
        await rig.live(5)
        expected = rig.case.latest(rig.world, since + HOUR)
        newest = await rig.newest()
        assert newest.observed_at == expected.observed_at == since
        assert close(newest.g_per_kwh, expected.g_per_kwh)
        assert rig.slot().g_per_kwh == newest.g_per_kwh
        assert rig.slot().age_s(rig.now) == rig.now - since


async def test_another_region_of_great_britain_is_refused() -> None:
    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        http = client(url, session, world, limits, GB.name)
        return GreatBritain(http, {"GB-13": "13"})

    async with running(replace(GB, zone="GB-13", place="13", build=build), start=BEGIN) as rig:
        await rig.refresh()
        slot = rig.slot()
        assert (slot.kind, slot.source) == (Kind.FORECAST, GB.name)
        assert slot.low_g_per_kwh <= rig.truth() <= slot.high_g_per_kwh
        rig.fake.faults.append(Fault(What.WRONG_ZONE))
        await rig.live(5)
        ahead = next(h for h in rig.chain.attempts["GB-13"] if h.source == f"{GB.name} forecast")
        assert ahead.code == "provider_answer"
        assert "answered for region '3', asked for 13" in ahead.why
        assert rig.slot().age_s(rig.now) >= 4 * HOUR
        assert rig.slot().source == GB.name


def test_every_signal_is_covered() -> None:
    assert {case.signal for case in CASES.values()} >= {MARGINAL, EM.signal, GB.signal}
