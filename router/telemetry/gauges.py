"""The gauges: what the fleet looks like now. They are set together, from one FleetView."""

from __future__ import annotations

import math
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge

from router.core.health import State
from router.telemetry.exposition import shares_files
from router.telemetry.view import FleetView

# Across worker processes: counts add up, ages show the worst, intensity is the newest told.
Mode = Literal["livesum", "livemax", "livemin", "livemostrecent"]


class SeriesGauge:
    """A labelled gauge whose series come and go with what it shows."""

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, mode: Mode, labels: tuple[str, ...]
    ) -> None:
        self._gauge = Gauge(name, text, labels, multiprocess_mode=mode, registry=registry)
        self._shown: set[tuple[str, ...]] = set()

    def show(self, series: dict[tuple[str, ...], float]) -> None:
        """Set every series to its value and end those that are no longer there."""
        for labels in self._shown - series.keys():
            if shares_files():
                self._gauge.labels(*labels).set(math.nan)
            else:
                self._gauge.remove(*labels)
        for labels, value in series.items():
            self._gauge.labels(*labels).set(value)
        self._shown = set(series)


class FleetGauges:
    """Every gauge of the gateway, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, mode: Mode, *labels: str) -> SeriesGauge:
            return SeriesGauge(registry, f"carbon_router_{name}", text, mode, labels)

        self._intensity = gauge(
            "grid_intensity_g_per_kwh",
            "Carbon intensity that decisions use, in gCO2e/kWh.",
            "livemostrecent", "grid_zone", "kind", "source",
        )  # fmt: skip
        self._intensity_age = gauge(
            "grid_intensity_age_seconds",
            "Age of that intensity; +Inf where no source knows the grid zone.",
            "livemax", "grid_zone",
        )  # fmt: skip
        self._in_flight = gauge(
            "endpoint_in_flight", "Requests of this gateway now at an endpoint.",
            "livesum", "endpoint",
        )  # fmt: skip
        self._places = gauge(
            "endpoint_max_in_flight",
            "Requests that an endpoint takes at once, of all gateways together.",
            "livemax", "endpoint",
        )  # fmt: skip
        self._state = gauge(
            "endpoint_state", "Worker processes that see the endpoint in this state.",
            "livesum", "endpoint", "state",
        )  # fmt: skip
        self._load_age = gauge(
            "load_age_seconds", "Time since an endpoint told its load; +Inf when it never did.",
            "livemax", "endpoint",
        )  # fmt: skip
        self._info = gauge(
            "endpoint_info", "1 for each endpoint, to find the region of one by its name.",
            "livemax", "endpoint", "region",
        )  # fmt: skip
        self._g_per_token = gauge(
            "gco2e_per_token",
            "gCO2e of an output token at an endpoint, by its model's profile at the load that it "
            "is meant to run at (target_batch), its region's PUE and the intensity of now: "
            "estimated.",
            "livemostrecent", "endpoint", "region", "model",
        )  # fmt: skip
        self._registry = registry
        self._snapshot: tuple[Gauge, Gauge] | None = None

    def show(self, view: FleetView) -> None:
        """Set everything to what ``view`` says; series of names that it lacks end."""
        intensities: dict[tuple[str, ...], float] = {}
        ages_s: dict[tuple[str, ...], float] = {}
        for region in view.regions:
            known = region.intensity
            if known is None:
                ages_s[(region.grid_zone,)] = math.inf
            else:
                intensities[region.grid_zone, known.kind, known.source] = known.g_per_kwh
                ages_s[(region.grid_zone,)] = known.age_s(view.now)
        self._intensity.show(intensities)
        self._intensity_age.show(ages_s)
        endpoints = view.endpoints
        self._in_flight.show({(e.name,): float(e.in_flight) for e in endpoints})
        self._places.show(
            {(e.name,): e.max_in_flight for e in endpoints if not math.isnan(e.max_in_flight)}
        )
        self._state.show(
            {(e.name, state): float(e.state is state) for e in endpoints for state in State}
        )
        self._info.show({(e.name, e.region): 1.0 for e in endpoints})
        self._load_age.show(
            {(e.name,): e.load_age_s for e in endpoints if not math.isnan(e.load_age_s)}
        )
        self._g_per_token.show(
            {
                (e.name, e.region, one.name): one.g_per_token
                for e in endpoints
                for one in e.served
                if math.isfinite(one.g_per_token)
            }
        )
        self._show_snapshot(view)

    def _show_snapshot(self, view: FleetView) -> None:
        # A gauge without labels is born as 0, so these two are born with their first value.
        if self._snapshot is None:
            self._snapshot = (
                Gauge(
                    "carbon_router_snapshot_age_seconds",
                    "Age of the snapshot in use; the oldest of all workers.",
                    multiprocess_mode="livemax",
                    registry=self._registry,
                ),
                Gauge(
                    "carbon_router_snapshot_version",
                    "Version of the snapshot in use; the lowest of all workers.",
                    multiprocess_mode="livemin",
                    registry=self._registry,
                ),
            )
        age, version = self._snapshot
        age.set(view.snapshot_age_s)
        version.set(view.snapshot_version)
