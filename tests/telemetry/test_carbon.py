"""Carbon sources in the metrics."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from router.carbon.chain.combine import LEADS_H
from router.carbon.providers.rows import Dropped, Fault
from router.core.learned import SkillLearned
from router.errors import ProviderBusyError
from router.telemetry.carbon import ROW_FAULTS, SHOWN_LEADS_H, CarbonMetrics


class Asked(NamedTuple):
    source: str
    ok: bool
    age_s: float | None


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"carbon_router_carbon_{name}", labels)


def test_calls_are_counted_by_outcome(registry: CollectorRegistry) -> None:
    metrics = CarbonMetrics(registry)
    metrics.know(["eia"])
    metrics.called("eia", "", 0.1)
    metrics.called("eia", "", 0.2)
    metrics.called("eia", ProviderBusyError.reason, 0.1)
    metrics.called("eia", "made up", 0.1)
    metrics.called("invented", "", 0.1)
    assert value(registry, "calls_total", source="eia", outcome="answered") == 2.0
    assert value(registry, "calls_total", source="eia", outcome="provider_busy") == 1.0
    assert value(registry, "calls_total", source="eia", outcome="other") == 1.0
    assert value(registry, "calls_total", source="other", outcome="answered") == 1.0


def test_each_hop_shows_whether_it_is_used_and_how_old_it_is(registry: CollectorRegistry) -> None:
    metrics = CarbonMetrics(registry)
    metrics.show({"DE": [Asked("eia", True, 60.0), Asked("static", False, None)]})
    assert value(registry, "source_used", grid_zone="DE", source="eia") == 1.0
    assert value(registry, "source_used", grid_zone="DE", source="static") == 0.0
    assert value(registry, "source_age_seconds", grid_zone="DE", source="eia") == 60.0
    assert value(registry, "source_age_seconds", grid_zone="DE", source="static") == math.inf
    metrics.show({"DE": [Asked("static", True, 5.0)]})
    assert value(registry, "source_used", grid_zone="DE", source="eia") is None
    assert value(registry, "source_used", grid_zone="DE", source="static") == 1.0


def test_rows_that_could_not_be_used_are_counted_by_fault(registry: CollectorRegistry) -> None:
    metrics = CarbonMetrics(registry)
    metrics.know(["eia"])
    metrics.dropped("eia", Dropped(Fault.OUT_OF_RANGE, 3, "row 1: -5"))
    assert value(registry, "rows_dropped_total", source="eia", fault="out_of_range") == 3.0
    assert set(ROW_FAULTS) == set(Fault)


def test_errors_of_forecasts_are_shown_at_two_leads_where_any_were_met(
    registry: CollectorRegistry,
) -> None:
    metrics = CarbonMetrics(registry)
    nothing = (0, 0.0, 0.0, 0.0)
    met = tuple((5, 10.0 + lead, 20.0, 8.0) for lead in LEADS_H)
    metrics.show_errors(
        [
            SkillLearned("average/lifecycle", "DE", met),
            SkillLearned("average/lifecycle", "FR", (met[0], *[nothing] * (len(LEADS_H) - 1))),
        ],
        LEADS_H,
    )
    name = "carbon_router_forecast_error_g_per_kwh"
    found = {
        tuple(sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }
    assert found == {
        ("DE", "published", "1"): 11.0, ("DE", "own", "1"): 20.0, ("DE", "used", "1"): 8.0,
        ("DE", "published", "24"): 34.0, ("DE", "own", "24"): 20.0, ("DE", "used", "24"): 8.0,
        ("FR", "published", "1"): 11.0, ("FR", "own", "1"): 20.0, ("FR", "used", "1"): 8.0,
    }  # fmt: skip
    metrics.show_errors([], LEADS_H)
    assert (
        registry.get_sample_value(name, {"grid_zone": "DE", "forecast": "own", "lead_hours": "1"})
        is None
    )


def test_shown_leads_are_learned_ones() -> None:
    assert set(SHOWN_LEADS_H) <= set(LEADS_H)
