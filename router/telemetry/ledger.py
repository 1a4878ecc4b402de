"""Metrics of the ledger: rows by what became of them, and what waits to be sent."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class LedgerMetrics:
    """Of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "carbon_router_ledger_rows_total",
            "Rows of the ledger: written to the disk, dropped because that did not keep up or was "
            "full, or lost with a process that was killed.",
            ["table", "outcome"],
            registry=registry,
        )
        self._spool = Gauge(
            "carbon_router_ledger_spool_bytes",
            "Files of the ledger that wait to go to its store, all workers' together.",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def rows(self, table: str, outcome: str, count: int) -> None:
        """``outcome``: written, dropped or lost."""
        self._rows.labels(table, outcome).inc(count)

    def waiting(self, spool_bytes: float) -> None:
        """So much waits now."""
        self._spool.set(spool_bytes)
