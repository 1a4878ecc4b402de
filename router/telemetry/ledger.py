"""Metrics of the ledger: rows by what became of them, and what waits to be sent."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

_OUTCOMES: Final = ("written", "dropped", "lost")


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

        self._settlements = Counter(
            "carbon_router_ledger_settlements_total",
            "Rounds of settlement in the background: added prices, found nothing new, left "
            "providers out that failed (partial), or failed.",
            ["outcome"],
            registry=registry,
        )
        self._open_hours = Gauge(
            "carbon_router_ledger_open_cells",
            "Hours of grid zones with receipts of the last 30 days that have no price yet, as of "
            "the last round of settlement.",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def settled(self, outcome: str) -> None:
        """A round has ended; ``outcome``: added, nothing_new, partial or failed."""
        self._settlements.labels(outcome).inc()

    def open_hours(self, hours: int) -> None:
        """So many have no price."""
        self._open_hours.set(hours)

    def begun(self, table: str) -> None:
        """Rows of ``table`` are kept from now on. Its series begin at 0: of one that appears with
        its first event Prometheus sees no increase."""
        for outcome in _OUTCOMES:
            self._rows.labels(table, outcome)

    def rows(self, table: str, outcome: str, count: int) -> None:
        """``outcome``: written, dropped or lost."""
        self._rows.labels(table, outcome).inc(count)

    def waiting(self, spool_bytes: float) -> None:
        """So much waits now."""
        self._spool.set(spool_bytes)
