"""What one gateway process tells of itself: metrics, logs, traces, and what of those is pushed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from router.app.compose import build_rng
from router.app.fronts import CODES
from router.app.observers import LoggedRequests
from router.app.pushing import Pushes
from router.app.tracing import ProcessTraces
from router.app.workers import WorkerOrder
from router.carbon.weather.open_meteo import NAME as WEATHER_PROVIDER
from router.clock import WallClock
from router.config.settings import Config
from router.telemetry import logs
from router.telemetry.exposition import new_registry
from router.telemetry.metrics import Metrics
from router.telemetry.request_file import RequestFile
from router.telemetry.security import SecurityLog


class ProcessTelemetry:
    """``observer``: told of requests; ``security``: of what guards the gateway."""

    def __init__(
        self,
        config: Config,
        order: WorkerOrder | None,
        identity: str,
        wall: WallClock,
        environ: Mapping[str, str],
    ) -> None:
        """``identity``: of this process among all that ever were, of all gateways; ``wall``: by
        which what is pushed is dated, whatever day is replayed.

        Raises ConfigError as `router.app.tracing.require_otlp` does.
        """
        self.registry = new_registry()
        self.metrics = Metrics(self.registry, order.workers if order else 1, CODES)
        self.know(config)
        self.request_log = logs.RequestLog()
        self._request_file = RequestFile(
            config.settings.request_file, build_rng(), self.metrics.logged
        )
        self.security = SecurityLog(self.registry, wall.monotonic)
        self.observer = LoggedRequests(self.metrics, self._request_file, self.security)
        self._traces = ProcessTraces(
            config, identity, wall, build_rng(), environ, self.metrics.spans
        )
        self.tracer = self._traces.tracer
        began_at = order.began_at if order else wall.now()
        self._pushes = Pushes(config, identity, environ, wall, self.metrics.otlp, began_at)
        if order is None or order.speaks:
            self._pushes.push_metrics(self.registry, order.gateway if order else identity)

    def know(self, config: Config) -> None:
        """Labels of metrics that there are from now on."""
        carbon = config.settings.carbon
        self.metrics.know(config.fleet)
        self.metrics.carbon.know(spec.name for spec in (*carbon.sources, *carbon.marginal))
        if carbon.weather is not None and carbon.weather.schema.points:
            self.metrics.carbon.know([WEATHER_PROVIDER])

    def adopt(self, config: Config) -> None:
        """Another configuration is in force."""
        self.know(config)
        self._request_file.configure(config.settings.request_file)

    async def close(self) -> None:
        """Nothing more comes: send and write what waits, for some seconds at most."""
        await asyncio.to_thread(self._traces.close)
        self._request_file.close()
        self.request_log.close()
        self.security.close()
        # Last: of all the others' figures and words.
        await asyncio.to_thread(self._pushes.close)
