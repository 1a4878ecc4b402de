"""Traces of one gateway process: built by its settings and OpenTelemetry's variables."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from router.app.otlp import Otlp, otlp_error, otlp_of, require_target
from router.config.settings import Config, OtlpSettings
from router.contract import Clock
from router.telemetry.tracing.metrics import SpanMetrics
from router.telemetry.tracing.tracer import RequestTracer, TraceOptions

if TYPE_CHECKING:
    from router.telemetry.tracing.export import SpanExport

_RATIO: Final = 0.1
# OpenTelemetry's own, of its batches.
_EVERY_S: Final = 5.0
_BATCH_SPANS: Final = 512
# At the end: for spans that wait.
_LAST_S: Final = 2.0
_SAMPLERS: Final = {"parentbased_always_on": 1.0, "parentbased_always_off": 0.0}
_BY_RATIO: Final = "parentbased_traceidratio"


def require_otlp(config: Config, environ: Mapping[str, str]) -> None:
    """Raises ConfigError where something is to be sent and what that takes is not installed, or
    not to be read."""
    require_target(config, environ)
    settings = otlp_of(config, environ)
    if settings is not None and settings.traces:
        _ratio(config, settings, environ)


class ProcessTraces:
    """``tracer``: None where no span is sent."""

    def __init__(
        self,
        config: Config,
        identity: str,
        clock: Clock,
        rng: Random,
        environ: Mapping[str, str],
        metrics: SpanMetrics,
    ) -> None:
        """``identity``: of this process among all; ``clock``: the wall's.

        Raises ConfigError as `require_otlp` does.
        """
        self.tracer: RequestTracer | None = None
        self._export: SpanExport | None = None
        settings = otlp_of(config, environ)
        if settings is None or not settings.traces:
            return
        require_otlp(config, environ)
        # Not before it is asked for: the SDK takes a while, and room.
        from router.telemetry.tracing.export import ExportOptions, SpanExport

        otlp = Otlp(config, settings, identity, environ)
        self._export = SpanExport(
            otlp.exporter("traces"),
            otlp.resource,
            otlp.scope,
            ExportOptions(settings.queue_spans, _EVERY_S, _BATCH_SPANS),
            metrics.count,
            otlp.clean,
        )
        options = TraceOptions(_ratio(config, settings, environ), settings.tenant, otlp.convention)
        self.tracer = RequestTracer(options, self._export.put, clock, rng)

    def close(self) -> None:
        """Send what waits, and give up on what takes too long."""
        if self._export is not None:
            self._export.close(_LAST_S)


def _ratio(config: Config, settings: OtlpSettings, environ: Mapping[str, str]) -> float:
    if settings.sample_ratio is not None:
        return settings.sample_ratio
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not sampler:
        return _RATIO
    if sampler in _SAMPLERS:
        return _SAMPLERS[sampler]
    if sampler != _BY_RATIO:
        known = ", ".join((*_SAMPLERS, _BY_RATIO))
        text = f"OTEL_TRACES_SAMPLER is {sampler[:40]!r}; parents are honoured here: say {known}"
        raise otlp_error(config, "sample_ratio", text)
    said = environ.get("OTEL_TRACES_SAMPLER_ARG", "1.0").strip()
    try:
        ratio = float(said)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        text = f"OTEL_TRACES_SAMPLER_ARG is {said[:40]!r}; give a number from 0 to 1"
        raise otlp_error(config, "sample_ratio", text)
    return ratio
