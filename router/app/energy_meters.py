"""The meters of all endpoints: read when they are asked for, and those of watts all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from router.contract import Clock
from router.load.energy_meter import MeterReading, WattSum
from router.model import Endpoint

# DCGM exporter reads its watts every 30 s by default, Triton every 2 s.
WATTS_S: Final = 10.0
_MOST_MISSED: Final = 3


class MeterReader(Protocol):
    """`router.load.scraper.PrometheusLoad`."""

    async def meter(self, endpoint: Endpoint) -> MeterReading:
        """What its meter says; nothing where it has none, or that cannot be read."""
        ...


class EnergyMeters:
    """Of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sums: dict[str, WattSum] = {}

    async def readings(
        self, reader: MeterReader, endpoints: Sequence[Endpoint]
    ) -> Mapping[str, MeterReading]:
        """By endpoint that has a meter, what it says now."""
        metered = [one for one in endpoints if one.meter is not None]
        found = await asyncio.gather(*(reader.meter(one) for one in metered))
        ticks = self._clock.monotonic()
        known = {}
        for one, reading in zip(metered, found, strict=True):
            if not reading.joules and one.name in self._sums:
                watts = self._sums[one.name]
                watts.take(reading.total_w, ticks)
                reading = watts.reading(ticks)
            known[one.name] = reading
        return known

    async def sample(self, reader: MeterReader, endpoints: Sequence[Endpoint]) -> None:
        """To be called every `WATTS_S`: read the watts of those whose watts are added up."""
        wanted = [one for one in endpoints if one.meter is not None and one.meter.adds_watts]
        self._sums = {
            one.name: self._sums.get(one.name) or WattSum(_MOST_MISSED * WATTS_S) for one in wanted
        }
        found = await asyncio.gather(*(reader.meter(one) for one in wanted))
        ticks = self._clock.monotonic()
        for one, reading in zip(wanted, found, strict=True):
            self._sums[one.name].take(reading.total_w, ticks)
