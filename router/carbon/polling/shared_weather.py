"""Weather forecasts among several gateways: one asks the provider, the others read.

Who asks, and how often all of them together may, is elected and counted as for readings
(`election`, `fleet_calls`). What is stored says when it was issued, and an older one replaces
nothing: so it needs no fencing token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from router.carbon.polling.election import Part
from router.carbon.polling.fleet_calls import ElectedCalls
from router.carbon.weather.conditions import QUANTITIES, WeatherForecast
from router.contract import Clock, StateStore
from router.units import DAY_S, HOUR_S

_KEEP_S: Final = 2 * DAY_S
# A year of hours, 8 bytes a value in JSON's digits: more is nothing that was stored here.
_MOST_BYTES: Final = 2**20
# Its first hour is no further from when it was issued: another may not even be one of an array's.
_MOST_HOURS: Final = 366 * 24


class SharedWeather:
    """One weather provider's corner of a StateStore. Never raises for what the store does."""

    def __init__(self, store: StateStore, calls: ElectedCalls, clock: Clock, source: str) -> None:
        """``source``: the provider's name, which forecasts bear."""
        self._store = store
        self._calls = calls
        self._clock = clock
        self._source = source

    @property
    def part(self) -> Part:
        """As of this moment."""
        return self._calls.election.part

    @property
    def wanted(self) -> frozenset[str]:
        """The grid zones that any gateway wants."""
        return self._calls.election.wanted

    async def beat(self, wants: Iterable[str]) -> bool:
        """See `ElectedCalls.beat`."""
        return await self._calls.beat(wants)

    async def leave(self) -> None:
        """Let another gateway take over at once."""
        await self._calls.election.leave()

    async def get(self, grid_zone: str) -> WeatherForecast | None:
        """What was stored last; None where nothing usable was, or the store fails."""
        election, now = self._calls.election, self._clock.now()
        if election.store_fails:
            return None
        try:
            stored = await election.within(self._store.get(self._key(grid_zone), now))
        except Exception as error:
            election.fail(error)
            return None
        return decode(stored, self._source)

    async def put(self, grid_zone: str, forecast: WeatherForecast) -> bool:
        """Store it for the others; False where another leads, or the store fails."""
        election, now = self._calls.election, self._clock.now()
        if election.store_fails or election.part is not Part.LEADS:
            return False
        data = encode(forecast)
        try:
            await election.within(self._store.put(self._key(grid_zone), data, _KEEP_S, now))
        except Exception as error:
            election.fail(error)
            return False
        return True

    def _key(self, grid_zone: str) -> str:
        return f"weather/{self._source}/{grid_zone}"


def encode(forecast: WeatherForecast) -> bytes:
    """As it is kept for other gateways."""
    rows = [[None if math.isnan(v) else round(v, 3) for v in row] for row in forecast.values]
    kept = {"issued_at": forecast.issued_at, "first_h": forecast.first_h, "values": rows}
    return json.dumps(kept, separators=(",", ":")).encode()


def decode(data: bytes | None, source: str) -> WeatherForecast | None:
    """What `encode` kept; None for anything else."""
    if data is None or len(data) > _MOST_BYTES:
        return None
    try:
        kept = json.loads(data)
        values = np.array(kept["values"], dtype=np.float64)
        issued_at, first_h = float(kept["issued_at"]), int(kept["first_h"])
        apart_h = abs(first_h - issued_at / HOUR_S)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    if values.ndim != 2 or values.shape[1] != len(QUANTITIES):
        return None
    # NaN is no less.
    if not apart_h <= _MOST_HOURS:
        return None
    for place, quantity in enumerate(QUANTITIES):
        column = values[:, place]
        if not (np.isnan(column) | ((column >= quantity.least) & (column <= quantity.most))).all():
            return None
    return WeatherForecast(source, issued_at, first_h, values)
