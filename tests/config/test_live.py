from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.carbon.providers.electricity_maps import ElectricityMapsSchema
from router.config import SecretSpec
from router.config.live import LimitSchema
from router.model import Basis, Factors, Signal
from tests.config.live_samples import EIA, GB, carbon, live


def test_a_live_source_has_free_plan_defaults_and_the_shipped_ids(tmp_path: Path) -> None:
    spec = live(tmp_path, EIA)
    assert (spec.schema.kind, spec.name, spec.at) == ("eia", "eia", "carbon.sources[0]")
    assert spec.signal == Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    assert spec.schema.limits == [LimitSchema(calls=1000, per_s=3600.0)]
    assert spec.zones["US-CAL-CISO"] == "CISO"
    assert spec.secrets == {"key": SecretSpec("EIA_KEY")}
    assert spec.schema.roles == ["measured", "forecast"]


def test_its_keys_can_be_set(tmp_path: Path) -> None:
    source = {
        "kind": "electricity_maps", "name": "em", "api": "v3", "key_file": "em.key",
        "base_url": "http://127.0.0.1:9/x/", "timeout_ms": 700, "forecast_refresh_s": 600,
        "limits": [{"calls": 5, "per_s": 60}], "roles": ["forecast"],
        "zones": {"DE": "DE-X", "ATLANTIS": "AT-L"},
    }  # fmt: skip
    spec = live(tmp_path, source, factors="direct")
    assert spec.signal.factors is Factors.DIRECT
    assert isinstance(keys := spec.schema, ElectricityMapsSchema)
    assert (keys.base_url, keys.api, keys.timeout_ms) == ("http://127.0.0.1:9/x", "v3", 700)
    assert (keys.limits, keys.roles) == ([LimitSchema(calls=5, per_s=60.0)], ["forecast"])
    assert (spec.zones["DE"], spec.zones["ATLANTIS"], spec.zones["FR"]) == ("DE-X", "AT-L", "FR")
    assert spec.secrets == {"key": SecretSpec("", tmp_path / "em.key")}


def test_a_region_of_great_britain_may_be_a_number(tmp_path: Path) -> None:
    assert live(tmp_path, {**GB, "zones": {"GB": 13}}, factors="direct").zones == {"GB": "13"}


@pytest.mark.parametrize(
    ("source", "key", "part"),
    [
        ({"kind": "eia"}, "", "one of key_env and key_file"),
        ({**EIA, "key_file": "x"}, "", "one of key_env and key_file"),
        ({**EIA, "key_env": "abc-123-secret"}, ".key_env", "not a variable's name"),
        ({**EIA, "base_url": "ftp://x"}, ".base_url", "not a URL"),
        ({**EIA, "base_url": "https://x/?api_key=abc"}, ".base_url", "without a key"),
        ({**EIA, "roles": []}, ".roles", "must not be empty"),
        ({**EIA, "roles": ["measured", "measured"]}, ".roles", "twice"),
        ({**EIA, "limits": [{"calls": 0, "per_s": 1}]}, ".limits[0].calls", "greater"),
        ({"kind": "energy_charts"}, ".factors", "required"),
        ({"kind": "watttime", "user_env": "A"}, "", "password"),
        ({"kind": "watttime", "password_env": "A"}, "", "user name"),
        ({**EIA, "apikey": "abc"}, ".apikey", "unknown key"),
    ],
)
def test_a_wrong_key_is_told_and_its_value_is_not(
    tmp_path: Path, source: dict[str, Any], key: str, part: str
) -> None:
    found = carbon(tmp_path, source)
    text = found[f"carbon.sources[0]{key}"]
    assert part in text
    assert "abc" not in text


def test_an_edit_that_says_the_same_is_no_other_source(tmp_path: Path) -> None:
    def spec(**changes: Any) -> Any:
        return live(tmp_path, {**EIA, "zones": {"US-X": 7}, **changes})

    assert spec() == spec(roles=["forecast", "measured"], zones={"US-X": "7"}, timeout_ms=5000)
    assert spec() != spec(roles=["measured"])
    assert spec() != spec(zones={"US-X": 8})
