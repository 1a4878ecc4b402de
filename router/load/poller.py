"""Polls every endpoint's own load on a cadence; no endpoint can hold up another."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from router.contract import Clock, LoadSource, Rng
from router.errors import DataError
from router.model import Endpoint, Load

_log = logging.getLogger(__name__)

OnLoad = Callable[[str, Load | None, float], None]
OnFailure = Callable[[str, Exception], None]

# Polls start within +-10 % of the cadence, so that a fleet is not scraped in one burst.
JITTER = 0.1


class LoadReading(NamedTuple):
    """The last load that an endpoint told, and ``read_at`` on the monotonic clock."""

    load: Load
    read_at: float


class ScrapeTimes(NamedTuple):
    """Cadence of one endpoint's polls, and how long one may take, both in seconds."""

    interval_s: float
    timeout_s: float


def pause_s(interval_s: float, spent_s: float, draw: float) -> float:
    """Seconds to rest after a poll that took ``spent_s``, with ``draw`` uniform in [0, 1).

    A poll slower than the cadence still rests a tenth of it: never a busy loop.
    """
    jittered_s = interval_s * (1.0 - JITTER + 2.0 * JITTER * draw)
    return max(jittered_s - spent_s, JITTER * interval_s)


class LoadPoller:
    """One independent loop per endpoint that has a metrics URL.

    ``on_load(endpoint name, last load or None, its age in seconds)`` is called after every poll,
    failed ones included: a dead endpoint keeps its last load at a growing age (inf when it never
    answered), so that staleness is the reader's decision. Ages are measured on the monotonic
    clock, because a replay clock may run faster than the servers do.
    """

    def __init__(
        self,
        source: LoadSource,
        endpoints: Sequence[Endpoint],
        on_load: OnLoad,
        clock: Clock,
        rng: Rng,
        times: ScrapeTimes,
        on_failure: OnFailure | None = None,
    ) -> None:
        """``on_failure(endpoint name, error)``: called for every poll that failed, to count it.

        The log has one line when an endpoint stops telling its load and one when it tells again.
        """
        self._source = source
        self._endpoints = [endpoint for endpoint in endpoints if endpoint.metrics_url]
        self._on_load = on_load
        self._clock = clock
        self._rng = rng
        self._times = times
        self._on_failure = on_failure
        self._readings: dict[str, LoadReading] = {}
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Poll until cancelled; returns at once when no endpoint has a metrics URL."""
        async with asyncio.TaskGroup() as group:
            for endpoint in self._endpoints:
                group.create_task(self._poll_forever(endpoint), name=f"load {endpoint.name}")

    def age_s(self, endpoint_name: str) -> float:
        """Seconds since the endpoint last told its load; inf when it never did."""
        reading = self._readings.get(endpoint_name)
        return math.inf if reading is None else self._clock.monotonic() - reading.read_at

    async def _poll_forever(self, endpoint: Endpoint) -> None:
        interval_s = self._times.interval_s
        await asyncio.sleep(self._rng.random() * interval_s)
        while True:
            started = self._clock.monotonic()
            await self._poll(endpoint, started)
            spent_s = self._clock.monotonic() - started
            await asyncio.sleep(pause_s(interval_s, spent_s, self._rng.random()))

    async def _poll(self, endpoint: Endpoint, started: float) -> None:
        name = endpoint.name
        try:
            async with asyncio.timeout(self._times.timeout_s):
                load = await self._source.read(endpoint, self._clock.now())
        except TimeoutError:
            limit_s = self._times.timeout_s
            self._failed(name, DataError(f"load of {name}: no answer within {limit_s:g} s"))
        except Exception as error:
            # Even a bug in one engine's dialect must not end the polling of every other endpoint.
            self._failed(name, error)
        else:
            # The age counts from before the scrape: the server may have answered at any time since.
            self._readings[name] = LoadReading(load, started)
            if name in self._failing:
                self._failing.discard(name)
                _log.info("endpoint tells its load again", extra={"endpoint": name})
        reading = self._readings.get(name)
        self._on_load(name, reading.load if reading else None, self.age_s(name))

    def _failed(self, name: str, error: Exception) -> None:
        if name not in self._failing:
            self._failing.add(name)
            trace = None if isinstance(error, DataError) else error
            _log.warning(
                "endpoint does not tell its load: %s",
                error,
                extra={"endpoint": name},
                exc_info=trace,
            )
        if self._on_failure is not None:
            self._on_failure(name, error)
