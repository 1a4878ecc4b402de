"""Live carbon providers: configuration -> providers, on one HTTP session a process.

The session is opened at the first call and outlives reloads, so that nothing of a provider that a
reload took away is left open, and a call of it that is under way ends by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import aiohttp

from router.carbon.polling.asking import Asked, OnDropped, PollTimes
from router.carbon.polling.poll import PolledSource
from router.carbon.polling.shared import SharedReadings
from router.carbon.providers.budget import CallBudget, CallLimit
from router.carbon.providers.eia import Eia
from router.carbon.providers.electricity_maps import ElectricityMaps
from router.carbon.providers.energy_charts import EnergyCharts
from router.carbon.providers.entsoe import Entsoe
from router.carbon.providers.gb import GreatBritain
from router.carbon.providers.http import HttpClient, HttpLimits, OnCall, open_session
from router.carbon.providers.places import Coordinates
from router.carbon.providers.provider import Http, Provider, Want
from router.carbon.providers.proxies import proxy_of
from router.carbon.providers.secrets import Secret, read_secret
from router.carbon.providers.watttime import WattTime
from router.config.settings import LimitSpec, LiveSpec
from router.config.zones import shipped_places
from router.contract import Clock, Rng, StateStore
from router.errors import ConfigError

# WattTime's own limit on logins, apart from that on data (docs.watttime.org).
_LOGINS: Final = LimitSpec(100, 300.0)
_SPARE_S: Final = 5.0
_HOUR_S: Final = 3600.0
_LEASE_REFRESHES: Final = 3.0
_SHORTEST_LEASE_S: Final = 60.0


class Sessions:
    """The one HTTP session of a process, opened when it is first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> aiohttp.ClientSession:
        """The session; to be called inside a running event loop."""
        if self._session is None:
            self._session = open_session()
        return self._session

    async def close(self) -> None:
        """Close it, if it ever was opened."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class Outside(NamedTuple):
    """What live providers need of the world.

    ``environ``: where keys and a proxy may be. ``processes``: of this gateway, which share the
    limits on calls. ``on_call``: told of every HTTP call. ``on_dropped``: of rows that could not be
    used. ``store``, ``holder``: None and "" when no other gateway shares the calls.
    """

    clock: Clock
    rng: Rng
    environ: Mapping[str, str]
    sessions: Sessions
    processes: int = 1
    on_call: OnCall | None = None
    on_dropped: OnDropped = lambda source, rows: None
    store: StateStore | None = None
    holder: str = ""


class LateHttp:
    """``provider.Http`` whose client is made at the first call, when an event loop runs."""

    def __init__(self, spec: LiveSpec, base_url: str, budget: CallBudget, outside: Outside) -> None:
        self._spec = spec
        self._base_url = base_url
        self._budget = budget
        self._outside = outside
        self._proxy = proxy_of(base_url, outside.environ)
        self._client: HttpClient | None = None

    async def get_json(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Any:
        """As in ``provider.Http``."""
        if self._client is None:
            self._client = HttpClient(
                self._outside.sessions.get(),
                self._base_url,
                provider=self._spec.name,
                clock=self._outside.clock,
                budget=self._budget,
                limits=HttpLimits(timeout_s=self._spec.timeout_s),
                on_call=self._outside.on_call,
                proxy=self._proxy,
            )
        return await self._client.get_json(path, params=params, headers=headers, auth=auth)


class Site(NamedTuple):
    """One provider's settings with what it is built from."""

    spec: LiveSpec
    outside: Outside
    coordinates: Mapping[str, tuple[float, float]]

    def http(self, path: str = "", limits: tuple[LimitSpec, ...] | None = None) -> Http:
        """A client below ``base_url`` + ``path``, with the operator's limits unless given."""
        spec = self.spec
        limits = spec.limits if limits is None else limits
        return LateHttp(spec, spec.base_url + path, self.budget(limits), self.outside)

    def budget(self, limits: tuple[LimitSpec, ...]) -> CallBudget:
        """``limits``, of which each process takes an equal part."""
        part = self.outside.processes
        return CallBudget(*(CallLimit(max(1, one.calls // part), one.per_s) for one in limits))

    def secret(self, what: str) -> Secret:
        """Raises ConfigError that names the variable or file, never what it holds."""
        spec = self.spec.secrets[what]
        suffix = "env" if spec.env else "file"
        return read_secret(
            self.spec.at, f"{what}_{suffix}", env=spec.env, file=spec.file,
            environ=self.outside.environ,
        )  # fmt: skip


def _electricity_maps(site: Site) -> Provider:
    spec = site.spec
    return ElectricityMaps(
        site.http(f"/{spec.api}"),
        spec.zones,
        key=site.secret("key"),
        factors=spec.signal.factors,
        # v3 is always consumption-based; v4 is on request, and both must mean the same.
        flow_traced=True if spec.api == "v4" else None,
        name=spec.name,
    )


def _watttime(site: Site) -> Provider:
    spec = site.spec
    places: dict[str, str | Coordinates] = {
        zone: Coordinates(*point) for zone, point in site.coordinates.items()
    }
    places.update(spec.zones)
    return WattTime(
        site.http(),
        site.http(limits=(_LOGINS,)),
        places,
        user=site.secret("user").reveal(),
        password=site.secret("password"),
        name=spec.name,
    )


def _gb(site: Site) -> Provider:
    return GreatBritain(site.http(), site.spec.zones, name=site.spec.name)


def _energy_charts(site: Site) -> Provider:
    spec = site.spec
    return EnergyCharts(site.http(), spec.zones, factors=spec.signal.factors, name=spec.name)


def _eia(site: Site) -> Provider:
    spec = site.spec
    return Eia(
        site.http(), spec.zones, key=site.secret("key"), factors=spec.signal.factors, name=spec.name
    )


def _entsoe(site: Site) -> Provider:
    spec = site.spec
    return Entsoe(
        spec.zones,
        key=site.secret("key"),
        factors=spec.signal.factors,
        clock=site.outside.clock,
        budget=site.budget(spec.limits),
        timeout_s=spec.timeout_s,
        base_url=spec.base_url,
        name=spec.name,
    )


# Every built-in live provider, here and only here.
PROVIDERS: Final[Mapping[str, Callable[[Site], Provider]]] = {
    "electricity_maps": _electricity_maps,
    "watttime": _watttime,
    "gb_carbon_intensity": _gb,
    "energy_charts": _energy_charts,
    "eia": _eia,
    "entsoe": _entsoe,
}


def live_source(
    spec: LiveSpec,
    outside: Outside,
    coordinates: Mapping[str, tuple[float, float]],
    lease_s: float,
) -> tuple[PolledSource, Provider]:
    """``spec``'s source, and its provider; raises ConfigError for an unusable key or id.

    ``lease_s``: how long one of several gateways may go on calling for all.
    """
    site = Site(spec, outside, {**_shipped_coordinates(), **coordinates})
    try:
        provider = PROVIDERS[spec.kind](site)
    except ConfigError as error:
        problems = [(f"{spec.at}.{key}", text) for key, text in error.problems]
        raise ConfigError("carbon", problems) from None
    shared = None
    if outside.store is not None:
        shared = SharedReadings(
            outside.store, spec.name, spec.signal, outside.holder, outside.rng, lease_s=lease_s
        )
    source = PolledSource(
        provider,
        outside.rng,
        times(spec),
        wants=wants(spec),
        shared=shared,
        asked=_told(outside) if spec.kind == "entsoe" else _nobody,
        dropped=outside.on_dropped,
    )
    return source, provider


def lease_s(refresh_s: float) -> float:
    """A lease that outlasts a missed refresh, and a round of calls that takes its time."""
    return max(_LEASE_REFRESHES * refresh_s, _SHORTEST_LEASE_S)


def calls_per_hour(spec: LiveSpec, provider: Provider, measured: int, ahead: int) -> float:
    """About how many calls ``spec`` takes for so many grid zones of each role, at most.

    A twentieth more for the values, for those that come later than expected
    (`router.carbon.polling.poll`).
    """
    asked, paces = wants(spec) & provider.wants, times(spec)
    values, forecasts = (math.ceil(n / provider.zones_per_call) for n in (measured, ahead))
    calls = 0.0
    if Want.LATEST in asked:
        calls += values * 1.05 * _HOUR_S / provider.publishes_every_s
    if Want.HISTORY in asked:
        calls += values * _HOUR_S / paces.history_s
    if Want.FORECAST in asked:
        calls += forecasts * _HOUR_S / paces.forecast_s
    return calls


def fingerprint(spec: LiveSpec, outside: Outside) -> bytes:
    """Of the keys of ``spec``, to see whether they changed; empty when they cannot be read."""
    site = Site(spec, outside, {})
    try:
        keys = [site.secret(what).reveal() for what in sorted(spec.secrets)]
    except ConfigError:
        return b""
    return hashlib.sha256("\0".join(keys).encode()).digest()


def _shipped_coordinates() -> dict[str, tuple[float, float]]:
    places = shipped_places()
    return {zone: point for zone in places.zones if (point := places.coordinates(zone))}


def wants(spec: LiveSpec) -> frozenset[Want]:
    """What the operator lets a provider be asked for."""
    measured = {Want.LATEST, Want.HISTORY} if "measured" in spec.roles else set()
    ahead = {Want.FORECAST} if "forecast" in spec.roles else set()
    return frozenset(measured | ahead)


def times(spec: LiveSpec) -> PollTimes:
    """How a provider is polled: a fetch may take several calls."""
    call_s = 2.0 * spec.timeout_s + _SPARE_S
    return PollTimes(
        call_s=call_s,
        round_s=max(PollTimes().round_s, call_s + _SPARE_S),
        forecast_s=spec.forecast_refresh_s,
    )


def _nobody(source: str, want: Want, reason: str) -> None:
    return None


def _told(outside: Outside) -> Asked:
    """Calls of a provider with an HTTP library of its own, counted as those of the others."""
    on_call = outside.on_call

    def asked(source: str, want: Want, reason: str) -> None:
        if on_call is not None:
            on_call(source, reason, 0.0)

    return asked
