from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.core.health import State
from router.model import Intensity, Load
from router.telemetry.view import EndpointView, FleetView, RegionView, ServedView, as_json

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
    one = EndpointView("e", "r", "h:1", ("m",), State.HEALTHY, 1, load, age_s, False, "", "orca")
    found = shown(FleetView(0.0, "p", 1, age_s, (), (one,)))
    wanted = {"running": running, "queued": queued, "kv_fraction": kv_fraction, "age_s": age_s}
    known = {name: value if math.isfinite(value) else None for name, value in wanted.items()}
    assert found["endpoints"][0]["load"] == {**known, "source": "orca"}
    assert found["snapshot"]["age_s"] == known["age_s"]


def test_an_intensity_is_stale_from_the_moment_it_expires(intensity: Intensity) -> None:
    region = RegionView("west", "Z", 1.1, intensity)
    for now, stale in ((4999.0, False), (5000.0, True)):
        (found,) = shown(FleetView(now, "p", 1, 0.0, (region,), ()))["regions"]
        assert (found["intensity"]["stale"], found["intensity"]["age_s"]) == (stale, now - 1000.0)


def test_a_context_is_told_with_whose_word_holds() -> None:
    served = (
        ServedView("bounded", "", 4096.0, 8192.0, True),
        ServedView("narrowed", "2", 4096.0, 1024.0, True),
        ServedView("filled", "", math.inf, 1024.0, None),
        ServedView("unknown", "", math.inf, math.nan, False),
    )
    one = EndpointView("e", "r", "h:1", (), State.HEALTHY, 0, None, 0.0, False, served=served)
    (endpoint,) = shown(FleetView(0.0, "p", 1, 0.0, (), (one,)))["endpoints"]
    rows = [(row["context_tokens"], row["context_source"]) for row in endpoint["served"]]
    assert rows == [(4096.0, "configured"), (1024.0, "server"), (1024.0, "server"), (None, "")]
    assert [row["listed"] for row in endpoint["served"]] == [True, True, None, False]
    assert endpoint["served"][0]["stated_context_tokens"] == 8192.0
    assert (endpoint["served"][1]["model"], endpoint["served"][1]["version"]) == ("narrowed", "2")
