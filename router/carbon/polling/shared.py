"""One source's readings among several gateways: one leads and asks, the others read.

What the leader stores carries its fencing token, so what a former one still writes is passed over.
A gateway that cannot tell, because the store fails or the leader has fallen silent, asks for
itself: too many calls are better than none, and the limit on them holds (`FleetCalls`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from router.carbon.polling.codec import (
    Index,
    Seen,
    decode_forecast,
    decode_index,
    decode_values,
    encode_forecast,
    encode_index,
    encode_values,
)
from router.carbon.polling.election import Part, PollerElection
from router.carbon.polling.fleet_calls import ElectedCalls, FleetCalls
from router.carbon.providers.budget import CallLimit
from router.contract import Clock, Rng, StateStore
from router.errors import DataError
from router.model import Forecast, Intensity, Signal
from router.units import DAY_S

# What was read outlives an outage of all gateways over a weekend.
_KEEP_S: Final = 3 * DAY_S
# So many of its patience a leader may be silent.
_SILENT: Final = 3.0
# Of one write. A store answers within milliseconds, or not.
_BATCH_BYTES: Final = 2**18

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class SharedReadings:
    """One source's corner of a StateStore. Never raises for what the store does.

    See ``trouble``.
    """

    def __init__(
        self,
        store: StateStore,
        source: str,
        signal: Signal,
        holder: str,
        clock: Clock,
        rng: Rng,
        *,
        patience_s: float = 180.0,
        timeout_s: float = 1.0,
    ) -> None:
        """``holder``: unique to this poller. ``patience_s``: longer than the time between two
        refreshes; how long a leader may say nothing is reckoned in it, and how soon one that is
        left alone calls. ``timeout_s``: for each store call.
        """
        self._store = store
        self._key = f"carbon/{source}/{'-'.join(signal)}"
        self._clock = clock
        self._election = PollerElection(
            store, self._key, holder, clock, rng, patience_s=patience_s, timeout_s=timeout_s
        )
        self._calls = ElectedCalls(store, self._election, clock)
        # The highest token read, or held; and the index of a lower one that was passed over.
        self._token = 0
        self._passed_over: Index | None = None
        self._last_word: tuple[int, float] | None = None
        self._spoke_at = math.nan

    @property
    def part(self) -> Part:
        """As of this moment."""
        return self._election.part

    @property
    def token(self) -> int:
        """The fencing token under which this gateway leads, or last did."""
        return self._election.token

    @property
    def trouble(self) -> str:
        """Why this gateway is on its own, "" while the store works and the leader speaks."""
        return self._election.trouble

    @property
    def store_fails(self) -> bool:
        """Whether the store did not answer when it was last called."""
        return self._election.store_fails

    @property
    def wanted(self) -> frozenset[str]:
        """The grid zones that any gateway wants."""
        return self._election.wanted

    @property
    def patience_s(self) -> float:
        """As it was made with."""
        return self._election.patience_s

    def calls(self, limits: Iterable[CallLimit]) -> FleetCalls:
        """See `ElectedCalls.within`."""
        return self._calls.within(limits)

    async def beat(self, wants: Iterable[str]) -> bool:
        """See `ElectedCalls.beat`."""
        return await self._calls.beat(wants)

    async def index(self) -> Index | None:
        """What the last leader stored; None when nobody did, a former one did, or the store
        fails."""
        index = await self._read("index", decode_index)
        if self.part is Part.LEADS:
            # Nobody's is higher, or the store has begun to count anew.
            self._token = self.token
            self._spoke_at = math.nan
            self._election.recover("silence")
            return index
        if index is None:
            return None
        if index.token < self._token and not self._goes_on(index):
            _log.warning("%s: what a former leader stored is passed over", self._key)
            self._passed_over = index
            return None
        self._token, self._passed_over = index.token, None
        return index

    def _goes_on(self, index: Index) -> bool:
        """Whether who has a lower token writes on. A former leader does not, for it looks at its
        lease before it writes: the store has forgotten the tokens that it gave."""
        before = self._passed_over
        return (
            before is not None and before.token == index.token and before.beat_at != index.beat_at
        )

    async def follow(self) -> Index | None:
        """As `index`, for one that follows, and takes note of a leader that has been silent."""
        index = await self.index()
        now = self._clock.monotonic()
        word = None if index is None else (index.token, index.beat_at)
        if math.isnan(self._spoke_at) or word != self._last_word:
            self._last_word, self._spoke_at = word, now
            self._election.recover("silence")
        elif now - self._spoke_at > _SILENT * self.patience_s and not self._election.store_fails:
            self._election.be_left("silence", "the gateway that should ask is silent")
        return index

    async def observed(self, grid_zone: str, token: int) -> Sequence[Intensity]:
        """The observed values that who has ``token`` stored, or a later leader; empty when there
        are none."""
        stored = await self._read(f"observed/{grid_zone}", decode_values)
        return stored.values if stored is not None and stored.token >= token else ()

    async def forecast(self, grid_zone: str, token: int) -> Forecast | None:
        """The forecast, likewise."""
        stored = await self._read(f"forecast/{grid_zone}", decode_forecast)
        return stored.forecast if stored is not None and stored.token >= token else None

    async def publish(
        self,
        observed: Mapping[str, Sequence[Intensity]],
        forecasts: Mapping[str, Forecast],
        zones: Mapping[str, Seen],
    ) -> bool:
        """Store what is new and then the index of ``zones``; False when the store failed, or
        another gateway may lead by now."""
        token = self.token
        index = encode_index(Index(token, self._clock.now(), zones))
        try:
            batch: dict[str, bytes] = {}
            for key, data in _encoded(observed, forecasts, token):
                batch[f"{self._key}/{key}"] = data
                # Days of many zones take a while to encode: let requests through.
                await asyncio.sleep(0)
                if sum(map(len, batch.values())) > _BATCH_BYTES:
                    if not await self._put_all(batch, token):
                        return False
                    batch = {}
            stored = await self._put_all(batch, token)
            return stored and await self._put_all({f"{self._key}/index": index}, token)
        except Exception as error:
            self._election.fail(error)
            return False

    async def leave(self) -> None:
        """Give the lease up, so that another gateway takes over at once."""
        await self._election.leave()

    async def _put_all(self, batch: Mapping[str, bytes], token: int) -> bool:
        if self.part is not Part.LEADS or self.token != token:
            return False
        if batch:
            now = self._clock.now()
            await self._election.within(self._store.put_all(batch, _KEEP_S, now))
        return True

    async def _read(self, key: str, decode: Callable[[bytes], _T]) -> _T | None:
        """What is stored under ``key``; None for nothing, for what cannot be read, and when the
        store fails.
        """
        try:
            now = self._clock.now()
            data = await self._election.within(self._store.get(f"{self._key}/{key}", now))
        except Exception as error:
            self._election.fail(error)
            return None
        try:
            return None if data is None else decode(data)
        except DataError as error:
            _log.warning("%s/%s: %s", self._key, key, error)
            return None


def _encoded(
    observed: Mapping[str, Sequence[Intensity]], forecasts: Mapping[str, Forecast], token: int
) -> Iterator[tuple[str, bytes]]:
    for zone, values in observed.items():
        yield f"observed/{zone}", encode_values(values, token)
    for zone, forecast in forecasts.items():
        yield f"forecast/{zone}", encode_forecast(forecast, token)
