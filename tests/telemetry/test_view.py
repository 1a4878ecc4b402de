from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.core.health import State
from router.model import Intensity, Load
from router.telemetry.view import EndpointView, FleetView, RegionView, as_json

FIGURES = st.floats() | st.sampled_from([math.nan, math.inf, 0.0])


def shown(view: FleetView) -> dict[str, Any]:
    """As whoever reads the text has it, who knows no NaN."""
    found: dict[str, Any] = json.loads(json.dumps(as_json(view), allow_nan=False))
    return found


@given(FIGURES, FIGURES, FIGURES, FIGURES)
def test_what_is_not_known_is_null_and_the_rest_as_it_is(
    running: float, queued: float, kv_fraction: float, age_s: float
) -> None:
    load = Load(running, queued, kv_fraction, 0.0)
    one = EndpointView("e", "r", "h:1", ("m",), State.HEALTHY, 1, load, age_s, False)
    found = shown(FleetView(0.0, "p", 1, age_s, (), (one,)))
    wanted = {"running": running, "queued": queued, "kv_fraction": kv_fraction, "age_s": age_s}
    known = {name: value if math.isfinite(value) else None for name, value in wanted.items()}
    assert found["endpoints"][0]["load"] == known
    assert found["snapshot"]["age_s"] == known["age_s"]


def test_an_intensity_is_stale_from_the_moment_it_expires(intensity: Intensity) -> None:
    region = RegionView("west", "Z", 1.1, intensity)
    for now, stale in ((4999.0, False), (5000.0, True)):
        (found,) = shown(FleetView(now, "p", 1, 0.0, (region,), ()))["regions"]
        assert (found["intensity"]["stale"], found["intensity"]["age_s"]) == (stale, now - 1000.0)
