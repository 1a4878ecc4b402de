from prometheus_client import CollectorRegistry

from router.telemetry.calibration import OUTCOMES, CalibrationMetrics


def test_fits_are_counted_from_0_and_what_is_in_force_is_dated():
    registry = CollectorRegistry()
    metrics = CalibrationMetrics(registry)
    metrics.begun("west-0")

    def count(outcome):
        labels = {"endpoint": "west-0", "outcome": outcome}
        return registry.get_sample_value("carbon_router_calibrations_total", labels)

    assert [count(outcome) for outcome in OUTCOMES] == [0.0] * len(OUTCOMES)
    metrics.fitted("west-0", "refused")
    metrics.until("west-0", 1.7e9)
    assert count("refused") == 1.0
    name = "carbon_router_calibrated_until_timestamp_seconds"
    assert registry.get_sample_value(name, {"endpoint": "west-0"}) == 1.7e9
