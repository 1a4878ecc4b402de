"""Weather as gateways keep it for each other: what comes back, and what is believed."""

from __future__ import annotations

import math

import numpy as np

from router.carbon.polling.shared_weather import decode, encode
from router.carbon.weather.conditions import WeatherForecast

NOW = 1_652_486_400.0


def test_what_is_kept_comes_back() -> None:
    values = np.random.default_rng(1).uniform(0.0, 20.0, (300, 5)).round(3)
    values[7, 3] = math.nan
    kept = WeatherForecast("open_meteo", NOW, 459_024, values)
    found = decode(encode(kept), "open_meteo")
    assert found is not None and found[:3] == kept[:3]
    assert np.array_equal(found.values, values, equal_nan=True)
    assert len(encode(kept)) < 20_000
    hot = values.copy()
    hot[0, 2] = 285.0
    for bad in (
        None, b"", b"[]", b"{}", b"\xff", b"[" * 100_000, encode(kept)[:-3],
        encode(kept._replace(values=values[:, :4])), encode(kept._replace(values=hot)),
        b'{"issued_at": 1, "first_h": 1e400, "values": []}', b"x" * 2_000_000,
        # Of hours that no array can hold, and of others that no forecast made then is of.
        encode(kept._replace(first_h=10**30)), encode(kept._replace(first_h=10**400)),
        encode(kept._replace(first_h=-(2**62))),
        encode(kept._replace(first_h=459_024 + 24 * 800)),
    ):  # fmt: skip
        assert decode(bad, "open_meteo") is None
