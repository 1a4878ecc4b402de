"""Gauges show the fleet as it is now: nothing of it lingers, nothing unknown looks like zero."""

from __future__ import annotations

import math
from dataclasses import replace

from prometheus_client import CollectorRegistry

from router.model import Intensity, Kind
from router.telemetry.gauges import FleetGauges
from router.telemetry.view import FleetView, ServedView


def samples(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == f"carbon_router_{name}"
    }


def shown(view: FleetView) -> CollectorRegistry:
    registry = CollectorRegistry()
    FleetGauges(registry).show(view)
    return registry


def test_intensity_carries_kind_source_and_age(view: FleetView) -> None:
    registry = shown(view)
    assert samples(registry, "grid_intensity_g_per_kwh") == {
        ("US-CAL-CISO", "measured", "trace"): 250.0
    }
    assert samples(registry, "grid_intensity_age_seconds") == {
        ("US-CAL-CISO",): 60.0,
        ("XX",): math.inf,
    }


def test_endpoints_show_load_age_flight_and_state(view: FleetView) -> None:
    registry = shown(view)
    assert samples(registry, "endpoint_in_flight") == {
        ("west-0",): 3.0, ("dark-0",): 0.0, ("dark-1",): 1.0
    }  # fmt: skip
    assert samples(registry, "load_age_seconds") == {("west-0",): 5.0, ("dark-0",): math.inf}
    states = samples(registry, "endpoint_state")
    assert {labels for labels, value in states.items() if value == 1.0} == {
        ("west-0", "healthy"), ("dark-0", "ejected"), ("dark-1", "probing")
    }  # fmt: skip
    assert len(states) == 9
    assert samples(registry, "snapshot_version") == {(): 7.0}
    assert samples(registry, "snapshot_age_seconds") == {(): 1.5}


def test_what_an_endpoint_takes_is_shown_where_it_is_known(view: FleetView) -> None:
    assert samples(shown(view), "endpoint_max_in_flight") == {}
    first, *others = view.endpoints
    known = view._replace(endpoints=(first._replace(max_in_flight=8.0), *others))
    assert samples(shown(known), "endpoint_max_in_flight") == {("west-0",): 8.0}


def test_the_region_of_an_endpoint_is_found_by_its_name(view: FleetView) -> None:
    found = samples(shown(view), "endpoint_info")
    assert found == {(one.name, one.region): 1.0 for one in view.endpoints}


def test_what_a_token_emits_is_shown_where_it_is_known(view: FleetView) -> None:
    known = ServedView("llama", "", math.inf, math.nan, None, 2e-4)
    unknown = ServedView("other", "", math.inf, math.nan, None)
    first = view.endpoints[0]._replace(served=(known, unknown))
    found = samples(shown(view._replace(endpoints=(first,))), "gco2e_per_token")
    assert found == {(first.name, first.region, "llama"): 2e-4}


def test_series_end_when_their_subject_changes_or_goes(
    view: FleetView, intensity: Intensity
) -> None:
    registry = CollectorRegistry()
    gauges = FleetGauges(registry)
    gauges.show(view)
    forecast = replace(intensity, kind=Kind.FORECAST, source="published")
    region = view.regions[0]._replace(intensity=forecast)
    gauges.show(view._replace(regions=(region,), endpoints=view.endpoints[:1]))
    assert samples(registry, "grid_intensity_g_per_kwh") == {
        ("US-CAL-CISO", "forecast", "published"): 250.0
    }
    assert samples(registry, "grid_intensity_age_seconds") == {("US-CAL-CISO",): 60.0}
    assert set(samples(registry, "endpoint_in_flight")) == {("west-0",)}
    assert len(samples(registry, "endpoint_state")) == 3
    assert set(samples(registry, "load_age_seconds")) == {("west-0",)}


def test_an_intensity_that_is_lost_is_no_longer_shown(view: FleetView) -> None:
    registry = CollectorRegistry()
    gauges = FleetGauges(registry)
    gauges.show(view)
    lost = view.regions[0]._replace(intensity=None)
    gauges.show(view._replace(regions=(lost,)))
    assert samples(registry, "grid_intensity_g_per_kwh") == {}
    assert samples(registry, "grid_intensity_age_seconds") == {("US-CAL-CISO",): math.inf}


def test_before_the_first_snapshot_nothing_is_shown_as_zero() -> None:
    registry = CollectorRegistry()
    FleetGauges(registry)
    assert [sample for metric in registry.collect() for sample in metric.samples] == []
