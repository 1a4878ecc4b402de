"""The /metrics page of one process, or of all worker processes together.

Worker processes share figures through memory-mapped files of prometheus_client, which chooses
its storage from PROMETHEUS_MULTIPROC_DIR when it is imported: the parent calls
`prepare_workers` before it starts a worker, and a worker must be a fresh interpreter, no fork.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import generate_latest as plain_page
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from router.telemetry.shared_files import reserve_room
from router.telemetry.view import EndpointView

# As a scraper asks for it that reads exemplars, too.
_OPENMETRICS = "application/openmetrics-text"

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def prepare_workers(directory: Path) -> None:
    """Make ``directory`` the workers' shared, empty room; called by the parent, before any worker.

    Left-over files of an earlier run are removed: their totals would be counted again.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink()
    os.environ[DIRECTORY_VARIABLE] = str(directory)


def forget_worker(pid: int) -> None:
    """Drop the live gauges of a worker that has ended; its counters stay in the totals."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


def shares_files() -> bool:
    """Whether metrics built in this process go to the workers' shared files."""
    return bool(values.ValueClass._multiprocess)


def new_registry() -> CollectorRegistry:
    """A registry for one process's Metrics, with its own CPU, memory and descriptors."""
    if shares_files():
        reserve_room()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """(page, content type): of all workers when they share files, else of ``registry``.

    ``accept``: what its reader takes; OpenMetrics where it says so, which alone has exemplars, and
    those of a process alone: the workers' files have no room for them.
    """
    registry = of_all(registry)
    if _OPENMETRICS in accept:
        page = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return page, openmetrics.CONTENT_TYPE_LATEST
    return plain_page(registry), CONTENT_TYPE_PLAIN_0_0_4


def samples(registry: CollectorRegistry, names: Iterable[str]) -> list[Sample]:
    """Those of these ``names``, as the page has them now: of all workers when they share files."""
    if shares_files():
        wanted = frozenset(names)
        every = (sample for metric in of_all(registry).collect() for sample in metric.samples)
        return [sample for sample in every if sample.name in wanted]
    found = registry.restricted_registry(names)
    return [sample for metric in found.collect() for sample in metric.samples]


def of_all(registry: CollectorRegistry) -> CollectorRegistry:
    """What is read for all workers when they share files, else ``registry`` itself."""
    if not shares_files():
        return registry
    merged = CollectorRegistry()
    files = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    merged.register(_Shared(files))
    return merged


class _Shared(Collector):
    """The merged files without gauge series that are gone.

    A series cannot be taken out of a shared file, so the gauges set it to NaN instead.
    """

    def __init__(self, files: MultiProcessCollector) -> None:
        self._files = files

    def collect(self) -> Iterable[Metric]:
        for metric in self._files.collect():  # type: ignore[no-untyped-call]
            if metric.type == "gauge":
                metric.samples = [s for s in metric.samples if not math.isnan(s.value)]
            yield metric


def endpoint_page(endpoint: EndpointView) -> bytes:
    """What a router of others' may choose endpoints by, in the text format of Prometheus: of one
    endpoint, so without a label that names it. A figure that is not known has no sample."""
    name = "carbon_router_gco2e_per_token"
    lines = [
        f"# HELP {name} gCO2e of an output token at the load the server is meant to run at.",
        f"# TYPE {name} gauge",
    ]
    for one in endpoint.served:
        if math.isfinite(one.g_per_token):
            model = one.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'{name}{{model="{model}"}} {one.g_per_token!r}')
    return ("\n".join(lines) + "\n").encode()
