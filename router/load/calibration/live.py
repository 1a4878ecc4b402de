"""Readings of an endpoint as it runs: its server's page and its meter, at one time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiohttp

from router.contract import Clock
from router.errors import DataError
from router.load.calibration.series import EnergyReading
from router.load.energy_meter import MeterReading
from router.load.scraper import PrometheusLoad
from router.load.work_counters import WorkCounters, WorkScan
from router.model import Endpoint


class ReadingTimes(NamedTuple):
    """Readings for ``seconds``, one ``every_s``."""

    seconds: float
    every_s: float


async def read_live(
    endpoint: Endpoint,
    source: PrometheusLoad,
    meter: Callable[[], Awaitable[MeterReading]],
    times: ReadingTimes,
    clock: Clock,
) -> list[EnergyReading]:
    """One that fails is a gap. Raises DataError where the first one does: something is wrong."""
    work, first = await asyncio.gather(_work(endpoint, source), meter())
    if work is None or not (first.joules or first.watts):
        what = f"the server at {endpoint.metrics_url}" if work is None else "the meter"
        raise DataError(f"{endpoint.name}: {what} tells nothing; is that its page?")
    readings = []
    ends_at = clock.monotonic() + times.seconds
    while (began := clock.monotonic()) < ends_at:
        readings.append(await _reading(endpoint, source, meter, clock))
        await asyncio.sleep(max(0.0, began + times.every_s - clock.monotonic()))
    return readings


async def read_once(
    endpoint: Endpoint, source: PrometheusLoad, clock: Clock
) -> EnergyReading | None:
    """One reading; None where neither page tells anything."""

    async def meter() -> MeterReading:
        return await source.meter(endpoint)

    found = await _reading(endpoint, source, meter, clock)
    tells = found.meter.joules or not math.isnan(found.watts)
    return found if tells or not all(map(math.isnan, found.work)) else None


async def _reading(
    endpoint: Endpoint,
    source: PrometheusLoad,
    meter: Callable[[], Awaitable[MeterReading]],
    clock: Clock,
) -> EnergyReading:
    began = clock.monotonic()
    page, energy = await asyncio.gather(_work(endpoint, source), meter())
    at = (began + clock.monotonic()) / 2.0
    return EnergyReading(at, energy, page or WorkCounters(), energy.total_w)


async def _work(endpoint: Endpoint, source: PrometheusLoad) -> WorkCounters | None:
    page = WorkScan(endpoint.engine)
    try:
        await source.get(endpoint, endpoint.metrics_url, page)
    except (DataError, TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return None
    counters = page.counters()
    return None if all(math.isnan(one) for one in counters) else counters
