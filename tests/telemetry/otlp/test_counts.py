from prometheus_client import CollectorRegistry

from router.telemetry.otlp.counts import OtlpMetrics


def test_each_is_counted_by_outcome_and_nobodys_word_is_a_label():
    registry = CollectorRegistry()
    metrics = OtlpMetrics(registry)
    metrics.pushed("exported", 1)
    metrics.logged("dropped", 3)
    metrics.logged("made up", 2)

    def value(name, outcome):
        return registry.get_sample_value(f"carbon_router_{name}_total", {"outcome": outcome})

    assert value("metric_pushes", "exported") == 1.0
    assert value("log_records", "dropped") == 3.0
    assert value("log_records", "other") == 2.0
