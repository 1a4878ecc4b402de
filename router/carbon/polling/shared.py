"""One source's readings among several gateways: one holds the lease and asks, the others read.

A gateway that cannot tell, because the store fails or the holder has fallen silent, asks for
itself: too many calls are better than none.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from router.carbon.polling.codec import (
    Index,
    decode_forecast,
    decode_index,
    decode_values,
    decode_zones,
    encode_forecast,
    encode_index,
    encode_values,
    encode_zones,
)
from router.contract import Rng, StateStore
from router.errors import DataError
from router.model import Forecast, Intensity, Signal
from router.units import DAY_S, HOUR_S

# What was read outlives an outage of all gateways over a weekend.
_KEEP_S: Final = 3 * DAY_S
# A wish is repeated as long as somebody has it.
_WISH_S: Final = HOUR_S

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Part(StrEnum):
    """What this gateway does for a source now."""

    LEADS = "leads"
    FOLLOWS = "follows"
    ALONE = "alone"


class SharedReadings:
    """One source's corner of a StateStore. Never raises for what the store does: see ``trouble``.

    ``trouble``: why this gateway is on its own, "" while the store works and the holder speaks.
    """

    def __init__(
        self,
        store: StateStore,
        source: str,
        signal: Signal,
        holder: str,
        rng: Rng,
        *,
        lease_s: float = 180.0,
        timeout_s: float = 1.0,
    ) -> None:
        """``holder``: unique to this gateway. ``lease_s``: longer than the time between two
        refreshes, or the lease changes hands for nothing. ``timeout_s``: for each store call.
        """
        self.trouble = ""
        self._store = store
        self._key = f"carbon/{source}/{'-'.join(signal)}"
        self._holder = holder
        self._rng = rng
        self.lease_s = lease_s
        self._timeout_s = timeout_s
        self._alone_from = math.inf
        self._silent_since = math.inf

    async def part(self, now: float) -> Part:
        """Renew or seek the lease."""
        try:
            held = await self._within(
                self._store.acquire(self._key, self._holder, self.lease_s, now)
            )
        except Exception as error:
            return self._without(f"the state store fails: {type(error).__name__}", now)
        if held:
            self._join()
            return Part.LEADS
        return Part.FOLLOWS

    async def index(self, now: float) -> Index | None:
        """What the last holder stored; None when nobody did, or the store fails."""
        return await self._read("index", decode_index, now)

    async def follow(self, now: float) -> tuple[Part, Index | None]:
        """What the holder has stored; ALONE when it has been silent for three leases."""
        try:
            data = await self._within(self._store.get(f"{self._key}/index", now))
            index = None if data is None else decode_index(data)
        except Exception as error:
            return self._without(f"the state store fails: {type(error).__name__}", now), None
        if index is not None and now - index.beat_at <= self.lease_s:
            self._silent_since = math.inf
            self._join()
            return Part.FOLLOWS, index
        self._silent_since = min(self._silent_since, now)
        if now - self._silent_since > 3 * self.lease_s:
            return self._without("the gateway that should ask is silent", now), index
        return Part.FOLLOWS, index

    async def observed(self, grid_zone: str, now: float) -> Sequence[Intensity]:
        """The observed values that the holder stored; empty when there are none."""
        return await self._read(f"observed/{grid_zone}", decode_values, now) or ()

    async def forecast(self, grid_zone: str, now: float) -> Forecast | None:
        """The forecast that the holder stored."""
        return await self._read(f"forecast/{grid_zone}", decode_forecast, now)

    async def publish(
        self,
        observed: Mapping[str, Sequence[Intensity]],
        forecasts: Mapping[str, Forecast],
        index: Index,
        now: float,
    ) -> bool:
        """Store what is new, the index last; False when the store failed."""
        try:
            for zone, values in observed.items():
                await self._put(f"observed/{zone}", encode_values(values), _KEEP_S, now)
            for zone, forecast in forecasts.items():
                await self._put(f"forecast/{zone}", encode_forecast(forecast), _KEEP_S, now)
            await self._put("index", encode_index(index), _KEEP_S, now)
        except Exception as error:
            self._without(f"the state store fails: {type(error).__name__}", now)
            return False
        return True

    async def wanted(self, now: float) -> frozenset[str]:
        """The grid zones that followers want, whoever they are."""
        return frozenset(await self._read("wanted", decode_zones, now) or ())

    async def want(self, grid_zones: Iterable[str], now: float) -> None:
        """Let the holder know of these grid zones."""
        known = await self.wanted(now)
        if not known.issuperset(grid_zones):
            try:
                zones = sorted(known.union(grid_zones))
                await self._put("wanted", encode_zones(zones), _WISH_S, now)
            except Exception as error:
                self._without(f"the state store fails: {type(error).__name__}", now)

    async def leave(self) -> None:
        """Give the lease up, so that another gateway takes over at once."""
        try:
            await self._within(self._store.release(self._key, self._holder))
        except Exception as error:
            _log.warning("%s: lease not released: %s", self._key, type(error).__name__)

    async def _read(self, key: str, decode: Callable[[bytes], _T], now: float) -> _T | None:
        """What is stored under ``key``; None for nothing, for what cannot be read, and when the
        store fails.
        """
        try:
            data = await self._within(self._store.get(f"{self._key}/{key}", now))
        except Exception as error:
            self._without(f"the state store fails: {type(error).__name__}", now)
            return None
        try:
            return None if data is None else decode(data)
        except DataError as error:
            _log.warning("%s/%s: %s", self._key, key, error)
            return None

    async def _put(self, key: str, data: bytes, ttl_s: float, now: float) -> None:
        await self._within(self._store.put(f"{self._key}/{key}", data, ttl_s, now))

    async def _within(self, call: Awaitable[_T]) -> _T:
        async with asyncio.timeout(self._timeout_s):
            return await call

    def _without(self, why: str, now: float) -> Part:
        """On its own, after a random part of a lease, so that gateways do not ask all at once."""
        if not self.trouble:
            _log.warning("%s: %s; asking for ourselves", self._key, why)
            self._alone_from = now + self._rng.random() * self.lease_s
        self.trouble = why
        return Part.ALONE if now >= self._alone_from else Part.FOLLOWS

    def _join(self) -> None:
        if self.trouble:
            _log.info("%s: shared again", self._key)
        self.trouble = ""
        self._alone_from = math.inf
