"""WattTime, API v3: marginal operating emissions rate (MOER), lb CO2/MWh, here as g/kWh.

``https://api.watttime.org``; reference: docs.watttime.org. A marginal rate says what one more kWh
would cause; it is a model's output, for nobody can observe the alternative. So a past value is
ESTIMATED, never measured. "Now" is the newest past value (``/v3/historical``, minutes old and the
more accurate by WattTime's own account); the forecast, which starts at the current five minutes,
is FORECAST from its first point on. Only ``co2_moer`` is read: the percentile of
``/v3/signal-index`` is no rate, and what the average rate ``co2_aoer`` counts is not documented.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

from pydantic import Field

from router.carbon.providers.answers import (
    SKEW_S,
    Issue,
    fetch_each,
    flag,
    iso,
    listed,
    mapping,
    number,
    published_forecast,
    spans,
    stamp,
)
from router.carbon.providers.bands import half_width_g, with_band
from router.carbon.providers.login import TokenLogin
from router.carbon.providers.provider import Http, Reading, Want
from router.carbon.providers.rows import Fault, RowReader
from router.carbon.providers.schema import ProviderContext, ProviderSchema
from router.config.fields import BaseUrl, EnvName, PathText
from router.config.live import LimitSchema, call_limits
from router.errors import (
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderError,
    ProviderRefusedError,
    ProviderRowError,
)
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from router.trust.secrets import Secret, shown
from router.units import HOUR_S


class Coordinates(NamedTuple):
    """Degrees, north and east positive."""

    lat: float
    lon: float


WattTimePlace: TypeAlias = str | Coordinates
"""A region's own name (``CAISO_NORTH``), or a point that lies in one."""

# One pound is 0.45359237 kg by definition, so lb/MWh times this is g/kWh.
G_PER_KWH_PER_LB_PER_MWH: Final = 0.45359237
SIGNAL_TYPE: Final = "co2_moer"
UNITS: Final = "lbs_co2_per_mwh"
# No plant that follows demand: twice the highest figure for coal, as `MOST_G_PER_KWH`.
MOST_LB_PER_MWH: Final = 4_400.0

_STEP_S: Final = 300.0
_MOST_HORIZON_H: Final = 72
_UNAUTHORIZED: Final = 401
# How far back the newest past value is looked for.
_LATEST_H: Final = 6
# The API takes 32 days; its own client asks for 30.
_LONGEST_RANGE_S: Final = 30 * 24 * HOUR_S
_FRESH_S: Final = 2 * HOUR_S
_FORECAST_FRESH_S: Final = 24 * HOUR_S
# Where WattTime had to impute the data it models from, nothing is published either: twice as wide.
_IMPUTED_FACTOR: Final = 2.0
# WattTime asks to look a place up again at least once a month, as regions change.
_REGION_S: Final = 30 * 24 * HOUR_S
# WattTime's own limit on logins, apart from that on data (docs.watttime.org).
_LOGINS: Final = LimitSchema(calls=100, per_s=300.0)


class WattTime:
    """A Provider. One call a zone and fetch, a login every 27 minutes, a look-up a point."""

    zones_per_call = 1
    wants = frozenset(Want)
    publishes_every_s = _STEP_S
    signal = Signal(Basis.MARGINAL, Factors.NONE)

    def __init__(
        self,
        http: Http,
        login_http: Http,
        places: Mapping[str, WattTimePlace],
        *,
        user: str,
        password: Secret,
        name: str = "watttime",
    ) -> None:
        """``login_http``: for the login alone, which WattTime limits by itself. Raises ConfigError
        for a user name that HTTP Basic cannot carry.
        """
        if not user or ":" in user or not user.isprintable():
            fix = "must be a user name, printable and without a colon"
            raise ConfigError(f"carbon source {name}", [("user", fix)])
        self.name = name
        self.grid_zones = frozenset(places)
        self._http = http
        self._places = dict(places)
        self._password = password
        self._login = TokenLogin(login_http, name, user, password)
        # (region, when it was looked up) of places given as points.
        self._regions: dict[str, tuple[str, float]] = {}

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        """As in ``Provider``."""
        return await fetch_each(grid_zones, lambda zone: self._read(zone, want, now, hours))

    async def _read(self, grid_zone: str, want: Want, now: float, hours: int) -> Reading:
        if grid_zone not in self._places:
            raise NoDataError(f"{self.name}: no place is configured for grid zone {grid_zone}")
        region = await self._region(grid_zone, now)
        reader = RowReader(self._where(grid_zone), self._password)
        if want is Want.FORECAST:
            forecast = await self._forecast(grid_zone, region, now, hours, reader)
            return Reading((), forecast, reader.dropped)
        depth_h = _LATEST_H if want is Want.LATEST else hours
        values = await self._historical(region, now, depth_h, reader)
        return Reading(values[-1:] if want is Want.LATEST else values, None, reader.dropped)

    async def _region(self, grid_zone: str, now: float) -> str:
        place = self._places[grid_zone]
        if isinstance(place, str):
            return place
        known, since = self._regions.get(grid_zone, ("", -math.inf))
        if now - since < _REGION_S:
            return known
        where = self._where(grid_zone)
        answer = await self._get(
            "/v3/region-from-loc",
            now,
            latitude=f"{place.lat:.6f}",
            longitude=f"{place.lon:.6f}",
            signal_type=SIGNAL_TYPE,
        )
        region = mapping(answer, where, "the region").get("region")
        if not isinstance(region, str) or not region:
            raise ProviderAnswerError(f"{where}: does not say which region the point lies in")
        self._regions[grid_zone] = (region, now)
        return region

    async def _historical(
        self, region: str, now: float, hours: int, reader: RowReader
    ) -> tuple[Intensity, ...]:
        where = reader.where
        values: dict[float, Intensity] = {}
        for begin, end in spans(now - hours * HOUR_S, now, _LONGEST_RANGE_S):
            answer = await self._get(
                "/v3/historical",
                now,
                region=region,
                signal_type=SIGNAL_TYPE,
                start=iso(begin),
                end=iso(end),
                include_imputed_marker="true",
            )
            found, meta = self._verified(answer, region, where)
            slots = self._past(found, _step_s(meta, where), now, reader)
            values.update(slots)
        if not values:
            raise reader.nothing(f"no value in the last {hours} h")
        return tuple(values[start] for start in sorted(values))

    def _past(
        self, found: Sequence[Any], step_s: float, now: float, reader: RowReader
    ) -> dict[float, Intensity]:
        """Values by start of slot."""

        def read(row: Mapping[str, Any]) -> tuple[float, Intensity] | None:
            start = stamp(row.get("point_time"), reader.where, "point_time")
            value = self._intensity(row, start + step_s, reader.where)
            return (start, value) if value is not None and start <= now + SKEW_S else None

        slots = reader.once(reader.each(found, read, "point_time"))
        return reader.in_step(slots, step_s, now)

    def _intensity(self, row: Mapping[str, Any], end: float, where: str) -> Intensity | None:
        value = _rate(row, where)
        imputed = flag(row.get("imputed_data_used"), where, "imputed_data_used")
        if value is None:
            return None
        half_g = half_width_g(value, self.signal, Kind.ESTIMATED)
        return with_band(
            value,
            self.signal,
            Kind.ESTIMATED,
            self.name,
            observed_at=end,
            expires_at=end + _FRESH_S,
            half_g=half_g * _IMPUTED_FACTOR if imputed else half_g,
        )

    async def _forecast(
        self, grid_zone: str, region: str, now: float, hours: int, reader: RowReader
    ) -> Forecast:
        where = reader.where
        answer = await self._get(
            "/v3/forecast",
            now,
            region=region,
            signal_type=SIGNAL_TYPE,
            horizon_hours=str(min(max(hours, 0), _MOST_HORIZON_H)),
        )
        found, meta = self._verified(answer, region, where)

        def read(row: Mapping[str, Any]) -> tuple[float, float] | None:
            start = stamp(row.get("point_time"), where, "point_time")
            value = _rate(row, where)
            return None if value is None else (start, value)

        series = reader.once(reader.each(found, read, "point_time"))
        generated = meta.get("generated_at")
        issued_at = None if generated is None else stamp(generated, where, "generated_at")
        issue = Issue(self.name, self.signal, _step_s(meta, where), issued_at, _FORECAST_FRESH_S)
        return published_forecast(grid_zone, series, issue, now, reader)

    def _verified(
        self, answer: Any, region: str, where: str
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The rows and the meta data of an answer that is the rate of ``region`` in lb/MWh."""
        found = mapping(answer, where, "the answer")
        meta = mapping(found.get("meta"), where, "meta")
        if meta.get("units") != UNITS:
            raise ProviderAnswerError(
                f"{where}: units are {shown(meta.get('units'), self._password)}, not {UNITS}: "
                "not a rate of emissions"
            )
        if meta.get("signal_type", SIGNAL_TYPE) != SIGNAL_TYPE:
            raise ProviderAnswerError(f"{where}: answered with another signal than {SIGNAL_TYPE}")
        if meta.get("region") != region:
            raise ProviderAnswerError(
                f"{where}: answered for region {shown(meta.get('region'), self._password)}, asked "
                f"for {shown(region, self._password)}"
            )
        return listed(found.get("data"), where, "data"), meta

    async def _get(self, path: str, now: float, **params: str) -> Any:
        token = await self._login.token(now)
        try:
            return await self._ask(path, params, token)
        except ProviderRefusedError as error:
            if error.status != _UNAUTHORIZED:
                raise
            # Revoked before its time, or our clocks differ; a second refusal is meant.
            token = await self._login.token(now, refused=token)
        return await self._ask(path, params, token)

    async def _ask(self, path: str, params: Mapping[str, str], token: Secret) -> Any:
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        return await self._http.get_json(path, params=params, headers=headers)

    def _where(self, grid_zone: str) -> str:
        return f"{self.name}, grid zone {grid_zone}"


def _rate(row: Mapping[str, Any], where: str) -> float | None:
    """A row's value as g/kWh; None when it is missing."""
    value = row.get("value")
    if value is None:
        return None
    lb_per_mwh = number(value, where, "value")
    if lb_per_mwh > MOST_LB_PER_MWH:
        text = f"{where}: value is {lb_per_mwh:g}, no plant's lb/MWh"
        raise ProviderRowError(text, Fault.OUT_OF_RANGE)
    return lb_per_mwh * G_PER_KWH_PER_LB_PER_MWH


def _step_s(meta: Mapping[str, Any], where: str) -> float:
    what = "data_point_period_seconds"
    try:
        value = number(meta.get(what, _STEP_S), where, what)
    except ProviderRowError as error:
        raise ProviderAnswerError(str(error)) from None
    if not 60.0 <= value <= HOUR_S:
        raise ProviderAnswerError(f"{where}: data_point_period_seconds is {value:g}")
    return value


class WattTimeSchema(ProviderSchema):
    """WattTime: marginal operating emission rates (MOER), for `carbon.marginal`."""

    fixed_signal = WattTime.signal
    credentials: ClassVar = {"user": "user name", "password": "password"}
    # It has no public list of its regions.
    by_location = True

    kind: Literal["watttime"] = Field(description="selects this source")
    user_env: EnvName | None = Field(
        default=None, description="environment variable that holds the user name"
    )
    user_file: PathText | None = Field(default=None, description="or a file that does")
    password_env: EnvName | None = Field(
        default=None, description="environment variable that holds the password"
    )
    password_file: PathText | None = Field(default=None, description="or a file that does")
    base_url: BaseUrl = Field(default="https://api.watttime.org", description="of logins and data")
    limits: list[LimitSchema] = call_limits(3000, 300.0, "calls it may get, logins apart")

    def build(self, context: ProviderContext) -> WattTime:
        """As in ``ProviderSchema``."""
        points = {zone: Coordinates(*point) for zone, point in context.coordinates.items()}
        return WattTime(
            context.http(self.base_url, self.limits),
            context.http(self.base_url, [_LOGINS]),
            {**points, **context.zones},
            user=context.secret("user").reveal(),
            password=context.secret("password"),
            name=context.name,
        )
