"""Weather sources of one configuration: a file, points that Open-Meteo is asked for, or both."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Mapping, Sequence

from router.app.carbon.live import ProviderDeps
from router.carbon.chain.attempt import SourceAttempt
from router.carbon.forecast import Nowcast
from router.carbon.polling.election import Part, PollerElection
from router.carbon.polling.fleet_calls import ElectedCalls
from router.carbon.polling.shared_weather import SharedWeather
from router.carbon.polling.weather_feed import WeatherFeed
from router.carbon.providers.budget import CallAllowance, CallBudget, CallLimit
from router.carbon.providers.http import HttpClient, HttpLimits
from router.carbon.providers.proxies import proxy_of
from router.carbon.weather.conditions import WeatherForecast
from router.carbon.weather.open_meteo import NAME, OpenMeteo, WeatherPoint
from router.carbon.weather.table import read_weather
from router.config.settings import WeatherSpec
from router.errors import DataError, TraceError
from router.trust.secrets import read_secret
from router.units import HOUR_S

_log = logging.getLogger(__name__)


class WeatherSources:
    """What `Nowcast.take_weather` is given, as time goes on."""

    def __init__(
        self,
        spec: WeatherSpec,
        forecaster: Nowcast,
        zones: Collection[str],
        feed: WeatherFeed | None,
    ) -> None:
        self._spec = spec
        self._forecaster = forecaster
        self._zones = frozenset(zones)
        self._feed = feed
        self._read_at = -math.inf
        self._looked_at = -math.inf
        self._file_attempts: dict[str, SourceAttempt] = {}

    @property
    def attempts(self) -> Mapping[str, Sequence[SourceAttempt]]:
        """Per grid zone how it went to ask for its weather."""
        found: dict[str, list[SourceAttempt]] = {}
        asked = self._feed.attempts if self._feed is not None else {}
        for attempts in (self._file_attempts, asked):
            for zone, attempt in attempts.items():
                found.setdefault(zone, []).append(self._aged(zone, attempt))
        return found

    def _aged(self, zone: str, attempt: SourceAttempt) -> SourceAttempt:
        known = self._forecaster.weather(zone)
        if known is None or known.source != attempt.source:
            return attempt
        return attempt._replace(age_s=max(self._looked_at - known.issued_at, 0.0))

    async def refresh(self, zones: Sequence[str], now: float) -> None:
        """Read the file and ask for points, where that is due. A failure is told by ``attempts``;
        the forecaster goes on with what it has until that is too old."""
        self._looked_at = now
        if self._spec.file is not None and abs(now - self._read_at) >= self._spec.schema.refresh_s:
            self._read_at = now
            await self._read_file()
        if self._feed is not None:
            await self._feed.refresh(zones, now)

    @property
    def parts(self) -> Mapping[str, Part]:
        """Of the provider that is asked, whether this gateway asks it for all; empty where none
        is."""
        return {} if self._feed is None else {self._feed.name: self._feed.part}

    async def beat(self) -> bool:
        """See `WeatherFeed.beat`."""
        return self._feed is not None and await self._feed.beat()

    async def close(self) -> None:
        """Let another gateway take over at once."""
        if self._feed is not None:
            await self._feed.close()

    async def _read_file(self) -> None:
        name = f"weather:{self._spec.file.name}" if self._spec.file else ""
        asked = self._spec.schema.points
        alone = [zone for zone in self._zones if zone not in asked]
        try:
            read = await asyncio.to_thread(_read, self._spec, self._zones)
            # Here, where forecasts are made: they ask for it at any time.
            _take(read, self._forecaster)
            self._file_attempts = {
                zone: SourceAttempt(name, True, "") for zone in alone if zone in read
            }
        except TraceError as error:
            _log.warning("weather: %s", error)
            failed = SourceAttempt(name, False, str(error), error.reason)
            self._file_attempts = dict.fromkeys(alone, failed)


def take_file(spec: WeatherSpec, forecaster: Nowcast, zones: Collection[str]) -> None:
    """Give ``forecaster`` what the file says of ``zones``. Raises TraceError."""
    _take(_read(spec, zones), forecaster)


def _read(spec: WeatherSpec, zones: Collection[str]) -> Mapping[str, WeatherForecast]:
    return {} if spec.file is None else read_weather(spec.file, only=zones)


def _take(read: Mapping[str, WeatherForecast], forecaster: Nowcast) -> None:
    for zone, forecast in read.items():
        known = forecaster.weather(zone)
        if known is None or known.issued_at < forecast.issued_at:
            forecaster.take_weather(zone, forecast)


def weather_sources(
    spec: WeatherSpec | None, forecaster: Nowcast, zones: Collection[str], deps: ProviderDeps | None
) -> WeatherSources | None:
    """The sources of ``spec``, with its file read; what the forecaster knows of the weather of
    zones that have none any more is taken from it. Raises TraceError, ConfigError for a key that
    is missing.
    """
    for zone in zones:
        if spec is None or (spec.file is None and zone not in spec.schema.points):
            forecaster.take_weather(zone, None)
    if spec is None:
        return None
    take_file(spec, forecaster, zones)
    feed = None
    if spec.schema.points:
        if deps is None:
            raise DataError("carbon.weather.points is asked for live: it needs a network")
        feed = _feed(spec, forecaster, deps)
    return WeatherSources(spec, forecaster, zones, feed)


def _feed(spec: WeatherSpec, forecaster: Nowcast, deps: ProviderDeps) -> WeatherFeed:
    schema, key = spec.schema, None
    if spec.key is not None:
        which = "key_env" if spec.key.env else "key_file"
        key = read_secret(
            "carbon.weather", which, env=spec.key.env, file=spec.key.file, environ=deps.environ
        )
    shared, limit = None, CallLimit(schema.calls_per_h, HOUR_S)
    budget: CallAllowance = CallBudget(limit._replace(calls=max(1, limit.calls // deps.processes)))
    if deps.store is not None:
        # A reload's new feed does not hold what its predecessor still does.
        holder = f"{deps.holder}-{int(deps.rng.random() * 2**32):x}"
        election = PollerElection(deps.store, f"weather/{NAME}", holder, deps.clock, deps.rng)
        calls = ElectedCalls(deps.store, election, deps.clock)
        budget = calls.within([limit])
        shared = SharedWeather(deps.store, calls, deps.clock, NAME)
    http = HttpClient(
        deps.sessions.get,
        schema.base_url,
        provider=NAME,
        clock=deps.clock,
        budget=budget,
        limits=HttpLimits(timeout_s=schema.timeout_ms / 1e3),
        on_call=deps.on_call,
        proxy=proxy_of(schema.base_url, deps.environ),
    )
    known = {zone: forecaster.weather(zone) for zone in schema.points}
    return WeatherFeed(
        OpenMeteo(http, wind_height_m=schema.wind_height_m, key=key),
        {
            zone: [WeatherPoint(point.lat, point.lon, point.weight) for point in points]
            for zone, points in schema.points.items()
        },
        forecaster.take_weather,
        deps.rng,
        schema.refresh_s,
        shared=shared,
        known={
            zone: forecast.issued_at
            for zone, forecast in known.items()
            if forecast is not None and forecast.source == NAME
        },
    )
