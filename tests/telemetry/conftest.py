"""A small fleet and one answered request of it."""

from __future__ import annotations

import math

import pytest

from router.core.health import State
from router.model import (
    UNBURDENED,
    Decision,
    Endpoint,
    Fleet,
    Intensity,
    Kind,
    Load,
    Predicted,
    Provenance,
    Receipt,
    Region,
    Request,
    ServedModel,
    TaskProfile,
)
from router.telemetry.view import EndpointView, FleetView, RegionView
from tests.factories import SIGNAL


@pytest.fixture
def intensity() -> Intensity:
    return Intensity(250.0, 240.0, 260.0, SIGNAL, Kind.MEASURED, "trace", 1000.0, 5000.0)


@pytest.fixture
def endpoint() -> Endpoint:
    profile = TaskProfile("p", 1.0, 1.0, 1.0, 8, 0.3, Provenance.ESTIMATED, "test")
    served = ServedModel("llama", "", profile, math.inf)
    return Endpoint("west-0", "west", "127.0.0.1:1", "oip", (served,), 8, "", "vllm", False)


@pytest.fixture
def fleet(endpoint: Endpoint) -> Fleet:
    region = Region("west", "US-CAL-CISO", 1.1, "test", frozenset({"us"}))
    return Fleet({"west": region}, (endpoint,), {}, {}, "", "")


@pytest.fixture
def receipt(endpoint: Endpoint, intensity: Intensity) -> Receipt:
    decision = Decision(
        endpoint=endpoint, served=endpoint.models[0], intensity=intensity, run_g_per_kwh=250.0,
        rtt_ms=10.0, ttft_ms=300.0, tpot_ms=10.0, e2e_ms=2000.0, energy_j=100.0, gco2e=0.5,
        latency_first_endpoint="east-0", latency_first_gco2e=0.75,
        prefill_ms=240.0, queue_ms=6.0, burden=UNBURDENED, relaxed=(), flags=(),
    )  # fmt: skip
    return Receipt(
        decision_id="d1", request=Request("llama"), decision=decision, policy="carbon-first",
        region="west", grid_zone="US-CAL-CISO", attempts=1, output_tokens=200.0, energy_j=120.0,
        energy_kind=Provenance.MEASURED, marginal_energy_j=20.0, facility_energy_j=132.0,
        gco2e=0.6, ttft_ms=200.0, e2e_ms=2500.0, finished_at=2000.0,
        predicted=Predicted(60.0, 0.5, 0.75),
    )  # fmt: skip


@pytest.fixture
def view(intensity: Intensity) -> FleetView:
    return FleetView(
        now=1060.0,
        policy="carbon-first",
        snapshot_version=7,
        snapshot_age_s=1.5,
        regions=(
            RegionView("west", "US-CAL-CISO", 1.1, intensity),
            RegionView("dark", "XX", 1.2, None),
        ),
        endpoints=(
            EndpointView(
                "west-0", "west", "127.0.0.1:1", ("llama",), State.HEALTHY, 3,
                Load(4.0, 0.0, math.nan, 1055.0), 5.0, False,
            ),
            EndpointView(
                "dark-0", "dark", "127.0.0.1:2", ("llama",), State.EJECTED, 0, None, math.inf, True
            ),
            EndpointView(
                "dark-1", "dark", "127.0.0.1:3", ("llama",), State.PROBING, 1, None, math.nan, True
            ),
        ),
    )  # fmt: skip
