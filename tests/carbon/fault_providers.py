"""Every provider as the fault tests use it: built on a fake, and what it must then say.

Each ``Case`` says how one provider is built and, from the world alone, what it must serve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean as mean

import aiohttp

from router.carbon.providers.eia import Eia
from router.carbon.providers.electricity_maps import ElectricityMaps
from router.carbon.providers.energy_charts import EnergyCharts
from router.carbon.providers.entsoe import Entsoe
from router.carbon.providers.gb import GreatBritain
from router.carbon.providers.http import HttpClient, HttpLimits
from router.carbon.providers.provider import Provider
from router.carbon.providers.watttime import G_PER_KWH_PER_LB_PER_MWH, WattTime
from router.model import Basis, Factors, Kind, Signal
from router.trust.secrets import Secret
from tests.fakes.eia import FakeEia
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.energy_charts import FakeEnergyCharts
from tests.fakes.entsoe import FakeEntsoe
from tests.fakes.gb import FakeGreatBritain
from tests.fakes.serving import Fake
from tests.fakes.watttime import FakeWattTime
from tests.fakes.world import FACTORS, HOUR, World, floor_to, slots

T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
# Off the hour, since a poller does not ask at the very second of a publication.
BEGIN = T0 - HOUR + 400.0
LIFECYCLE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
DIRECT = Signal(Basis.AVERAGE, Factors.DIRECT)
MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)
SECRETS = ("em-secret-51c0de", "wt-secret-9f27ab", "eia-secret-c0ffee", "entsoe-secret-0ddba11")
# Two areas that entsoe-py knows.
DE_LU, FR = "10Y1001A1001A82H", "10YFR-RTE------C"


@dataclass(frozen=True)
class Expected:
    """What must be served: value to a millionth, kind, and the time at which it was known."""

    g_per_kwh: float
    kind: Kind
    observed_at: float


Latest = Callable[[World, float], Expected]
Ahead = Callable[[World, float, float], Expected]
Build = Callable[[str, aiohttp.ClientSession, World, HttpLimits], Provider]


@dataclass(frozen=True)
class Case:
    """One provider. ``place``: its own id of ``zone``. ``latest``: its newest value when asked at a
    time; ``ahead``: its forecast for the hour of a time, when it was asked at another.

    ``endpoint`` and ``forecast_endpoint``: where it is asked for them. ``usual``: kind of what is
    left without it: a climatology for the zone, or an annual mean.
    """

    name: str
    zone: str
    place: str
    signal: Signal
    fake: Callable[[World], Fake]
    build: Build
    latest: Latest
    endpoint: str
    usual: Kind
    period_s: float = HOUR
    keyed: bool = True
    ahead: Ahead | None = None
    forecast_endpoint: str = ""


def client(
    url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits, name: str
) -> HttpClient:
    return HttpClient(lambda: session, url, provider=name, clock=world, limits=limits)


def _electricity_maps() -> Case:
    zone = "US-MIDA-PJM"

    def fake(world: World) -> Fake:
        return FakeElectricityMaps(world, [zone, "FR"], keys={SECRETS[0]: None})

    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        http = client(f"{url}/v3", session, world, limits, "electricity_maps")
        return ElectricityMaps(
            http, {zone: zone}, key=Secret(SECRETS[0]), factors=Factors.LIFECYCLE
        )

    def latest(world: World, now: float) -> Expected:
        start = floor_to(now, HOUR)
        return Expected(world.published(zone, start, now), Kind.ESTIMATED, start + HOUR)

    def ahead(world: World, now: float, asked_at: float) -> Expected:
        issued = floor_to(asked_at, HOUR)
        return Expected(world.forecast(zone, floor_to(now, HOUR), issued), Kind.FORECAST, issued)

    return Case(
        "electricity_maps", zone, zone, LIFECYCLE, fake, build, latest, "latest", Kind.CLIMATOLOGY,
        ahead=ahead, forecast_endpoint="forecast",
    )  # fmt: skip


def _watttime() -> Case:
    zone, region = "US-CAL-CISO", "CAISO_NORTH"

    def fake(world: World) -> Fake:
        return FakeWattTime(world, [region, "PJM_DC"], users={"user": SECRETS[1]})

    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        http = client(url, session, world, limits, "watttime")
        return WattTime(http, http, {zone: region}, user="user", password=Secret(SECRETS[1]))

    def latest(world: World, now: float) -> Expected:
        start = floor_to(now, 300.0) - 300.0
        lbs = world.moer_lbs_per_mwh(region, start)
        return Expected(lbs * G_PER_KWH_PER_LB_PER_MWH, Kind.ESTIMATED, start + 300.0)

    def ahead(world: World, now: float, asked_at: float) -> Expected:
        issued = floor_to(asked_at, 300.0)
        lbs = []
        for when in whole_hour(now, 300.0):
            off = 0.01 * min(1.0, (when - issued) / HOUR)
            lbs.append(round(world.moer_lbs_per_mwh(region, when) * (1 + off), 1))
        return Expected(mean(lbs) * G_PER_KWH_PER_LB_PER_MWH, Kind.FORECAST, issued)

    return Case(
        "watttime", zone, region, MARGINAL, fake, build, latest, "historical", Kind.ANNUAL_MEAN,
        period_s=300.0, ahead=ahead, forecast_endpoint="forecast",
    )  # fmt: skip


def _gb() -> Case:
    def fake(world: World) -> Fake:
        return FakeGreatBritain(world)

    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        return GreatBritain(
            client(url, session, world, limits, "gb_carbon_intensity"), {"GB": "national"}
        )

    def latest(world: World, now: float) -> Expected:
        start = floor_to(now, 1800.0) - 1800.0
        value = world.published("GB", start, now, 1800.0, "direct")
        return Expected(value, Kind.MEASURED, start + 1800.0)

    def ahead(world: World, now: float, asked_at: float) -> Expected:
        issued = floor_to(asked_at, 1800.0)
        halves = [
            world.forecast("GB", half, min(half, issued), 1800.0, "direct")
            for half in whole_hour(now, 1800.0)
        ]
        return Expected(mean(halves), Kind.FORECAST, floor_to(asked_at, HOUR))

    return Case(
        "gb_carbon_intensity", "GB", "GB", DIRECT, fake, build, latest, "intensity",
        Kind.ANNUAL_MEAN, period_s=1800.0, keyed=False, ahead=ahead, forecast_endpoint="intensity",
    )  # fmt: skip


def _energy_charts() -> Case:
    zone = "DE"

    def fake(world: World) -> Fake:
        return FakeEnergyCharts(world, {"de": zone, "fr": "FR"})

    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        http = client(url, session, world, limits, "energy_charts")
        return EnergyCharts(http, {zone: "de"}, factors=Factors.LIFECYCLE)

    def latest(world: World, now: float) -> Expected:
        start = floor_to(now - 900.0, 900.0) - 900.0
        value = world.published(zone, start, now, 900.0)
        return Expected(value, Kind.ESTIMATED, start + 900.0)

    def ahead(world: World, now: float, asked_at: float) -> Expected:
        known_until = floor_to(asked_at - 900.0, 900.0)
        issued = floor_to(known_until, HOUR)
        quarters = [world.forecast(zone, q, issued, 900.0) for q in whole_hour(now, 900.0)]
        return Expected(mean(quarters), Kind.FORECAST, known_until)

    return Case(
        "energy_charts", zone, "de", LIFECYCLE, fake, build, latest, "co2eq", Kind.CLIMATOLOGY,
        period_s=900.0, keyed=False, ahead=ahead, forecast_endpoint="co2eq",
    )  # fmt: skip


def _eia() -> Case:
    zone = "US-TEX-ERCO"

    def fake(world: World) -> Fake:
        world.zone(zone).lag_s = HOUR
        return FakeEia(world, {"ERCO": zone, "CISO": "US-CAL-CISO"}, keys=[SECRETS[2]])

    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        http = client(url, session, world, limits, "eia")
        return Eia(http, {zone: "ERCO"}, key=Secret(SECRETS[2]), factors=Factors.LIFECYCLE)

    def latest(world: World, now: float) -> Expected:
        start = floor_to(now - HOUR, HOUR) - HOUR
        return Expected(of_mix(world.mix_mw(zone, start)), Kind.ESTIMATED, start + HOUR)

    return Case(
        "eia", zone, "ERCO", LIFECYCLE, fake, build, latest, "fuel-type-data", Kind.CLIMATOLOGY,
    )  # fmt: skip


def _entsoe() -> Case:
    zone = "DE"

    def fake(world: World) -> Fake:
        world.zone(zone).lag_s = HOUR
        # In hours, which are quicker to read than quarter-hours.
        return FakeEntsoe(world, {DE_LU: zone, FR: "FR"}, keys=[SECRETS[3]], hourly=[DE_LU, FR])

    def build(
        url: str, session: aiohttp.ClientSession, world: World, limits: HttpLimits
    ) -> Provider:
        return Entsoe(
            {zone: "DE_LU"},
            key=Secret(SECRETS[3]),
            factors=Factors.LIFECYCLE,
            clock=world,
            timeout_s=limits.timeout_s,
            base_url=f"{url}/api",
        )

    def latest(world: World, now: float) -> Expected:
        start = floor_to(now - HOUR, HOUR) - HOUR
        return Expected(of_mix(world.mix_mw(zone, start)), Kind.ESTIMATED, start + HOUR)

    return Case(
        "entsoe", zone, DE_LU, LIFECYCLE, fake, build, latest, "generation", Kind.CLIMATOLOGY,
    )  # fmt: skip


def whole_hour(now: float, step_s: float) -> list[float]:
    """Starts of the slots of this hour: what a forecast of now is the mean of."""
    return slots(floor_to(now, HOUR), floor_to(now, HOUR) + HOUR, step_s)


def of_mix(mix: Mapping[str, float]) -> float:
    """Life-cycle g/kWh of a mix, as a provider of mixes is turned into an intensity."""
    return sum(FACTORS["lifecycle"][fuel] * mw for fuel, mw in mix.items()) / sum(mix.values())


CASES = {
    case.name: case
    for case in (_electricity_maps(), _watttime(), _gb(), _energy_charts(), _eia(), _entsoe())
}
