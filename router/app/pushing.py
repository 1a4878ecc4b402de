"""Metrics and log of one gateway process to a collector, where the file asks for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from router.app.otlp import Otlp, otlp_of, push_every_s
from router.config.settings import Config, OtlpSettings
from router.contract import Clock
from router.telemetry.exposition import of_all
from router.telemetry.logs import ForeignLines
from router.telemetry.otlp.counts import OtlpMetrics
from router.telemetry.otlp.told import ToldExports

if TYPE_CHECKING:
    from router.telemetry.otlp.logs import LogExport
    from router.telemetry.otlp.metrics import MetricPush

# OpenTelemetry's own, of batches of log records.
_LOGS_EVERY_S: Final = 1.0
_BATCH_RECORDS: Final = 512
# At the end, of each.
_LAST_S: Final = 2.0


class Pushes:
    """One a process; without ``telemetry.otlp`` it does nothing, and loads no SDK."""

    def __init__(
        self,
        config: Config,
        identity: str,
        environ: Mapping[str, str],
        clock: Clock,
        metrics: OtlpMetrics,
        began_at: float,
    ) -> None:
        """``identity``: of this process among all; ``clock``: the wall's; ``began_at``: unix s,
        since when this gateway counts. Raises ConfigError as `router.app.otlp.require_target` does.
        """
        self._config = config
        self._settings = otlp_of(config, environ)
        self._identity = identity
        self._environ = environ
        self._clock = clock
        self._metrics = metrics
        self._began_at = began_at
        self._log: LogExport | None = None
        self._push: MetricPush | None = None
        if self._settings is not None and self._settings.logs:
            self._log = self._logs(self._settings)

    def push_metrics(self, registry: CollectorRegistry, gateway: str) -> None:
        """Push what ``registry`` has, of all workers where they share it; called in one of them.
        ``gateway``: the identity of them all."""
        settings = self._settings
        if settings is None or not settings.metrics:
            return
        # Not before it is asked for: the SDK takes a while, and room.
        from router.telemetry.otlp.metrics import MetricPush, PushOptions

        otlp = Otlp(self._config, settings, gateway, self._environ)
        every_s = push_every_s(self._config, settings, self._environ)
        self._push = MetricPush(
            otlp.exporter("metrics"),
            lambda: of_all(registry).collect(),
            otlp.resource,
            otlp.scope,
            PushOptions(every_s, self._began_at, otlp.convention),
            ToldExports("metrics", self._metrics.pushed, otlp.clean),
            self._clock.now,
        )

    def close(self) -> None:
        """Send what waits, both at once, and give up on what takes too long."""
        pushing = None
        if self._push is not None:
            pushing = threading.Thread(target=self._push.close, args=(_LAST_S,), daemon=True)
            pushing.start()
        if self._log is not None:
            logging.getLogger().removeHandler(self._log)
            self._log.end(_LAST_S)
        if pushing is not None:
            pushing.join()

    def _logs(self, settings: OtlpSettings) -> LogExport:
        from router.telemetry.otlp.logs import LogExport, LogOptions

        otlp = Otlp(self._config, settings, self._identity, self._environ)
        export = LogExport(
            otlp.exporter("logs"),
            otlp.resource,
            otlp.scope,
            LogOptions(settings.queue_records, _LOGS_EVERY_S, _BATCH_RECORDS),
            ToldExports("log lines", self._metrics.logged, otlp.clean),
        )
        export.addFilter(ForeignLines(self._clock.monotonic))
        logging.getLogger().addHandler(export)
        return export
