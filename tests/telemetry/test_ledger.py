from prometheus_client import CollectorRegistry

from router.telemetry.ledger import LedgerMetrics


def test_rows_are_counted_by_what_became_of_them():
    registry = CollectorRegistry()
    metrics = LedgerMetrics(registry)
    metrics.rows("receipts", "written", 3)
    metrics.rows("receipts", "written", 2)
    metrics.waiting(17.0)
    labels = {"table": "receipts", "outcome": "written"}
    assert registry.get_sample_value("carbon_router_ledger_rows_total", labels) == 5.0
    assert registry.get_sample_value("carbon_router_ledger_spool_bytes") == 17.0
