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


def test_what_never_happened_is_shown_as_0():
    registry = CollectorRegistry()
    metrics = LedgerMetrics(registry)
    name, labels = "carbon_router_ledger_rows_total", {"table": "receipts", "outcome": "lost"}
    assert registry.get_sample_value(name, labels) is None
    metrics.begun("receipts")
    assert registry.get_sample_value(name, labels) == 0.0
    metrics.rows("receipts", "lost", 4)
    metrics.begun("receipts")
    assert registry.get_sample_value(name, labels) == 4.0
