"""What metrics are called by OTLP, where Prometheus calls them otherwise. Pure.

Ours keep their name under ``carbon_router.``; what Prometheus says in the end of a name, ``_total``
and the unit, OTLP has fields of its own for. A collector that writes them for Prometheus puts both
back, so dashboards and rules hold either way. Those of the process are OpenTelemetry's own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from router.telemetry.tracing.conventions import Conventions

_OURS: Final = "carbon_router_"
_PREFIX: Final = "carbon_router."
# UCUM, by how a name ends; the words of the others stay in their names, as what no tool spells
# alike.
_UNITS: Final = {"_seconds": "s", "_bytes": "By", "_joules": "J", "_grams": "g"}


class MetricName(NamedTuple):
    """``unit``: in UCUM, "" where the name says it, or there is none. ``is_sum``: what Prometheus
    has as a gauge adds up over processes."""

    name: str
    unit: str
    is_sum: bool = False


def metric_name(family: str, convention: Conventions) -> MetricName | None:
    """Of a Prometheus family without its ``_total``; None for what OTLP tells otherwise."""
    if family.startswith(_OURS):
        own = family.removeprefix(_OURS)
        for ending, unit in _UNITS.items():
            if own.endswith(ending):
                return MetricName(_PREFIX + own.removesuffix(ending), unit)
        return MetricName(_PREFIX + own, "")
    return {
        "process_cpu_seconds": MetricName("process.cpu.time", "s"),
        "process_resident_memory_bytes": MetricName("process.memory.usage", "By", True),
        "process_virtual_memory_bytes": MetricName("process.memory.virtual", "By", True),
        "process_open_fds": MetricName(convention.open_descriptors, "{file_descriptor}", True),
    }.get(family)
