"""Live sources in the file: what becomes of them, and which errors name their fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.carbon.providers.electricity_maps import ElectricityMapsSchema
from router.config import HistorySpec, LiveSpec, SecretSpec
from router.config.live import LimitSchema
from router.model import Basis, Factors, Signal
from tests.config.samples import loaded, problems

EIA = {"kind": "eia", "key_env": "EIA_KEY"}
GB = {"kind": "gb_carbon_intensity"}
WATTTIME = {"kind": "watttime", "user_env": "WT_USER", "password_file": "wt.txt"}


def carbon(tmp_path: Path, *sources: dict[str, Any], **keys: Any) -> dict[str, str]:
    return problems(tmp_path, {"carbon": {"sources": list(sources), **keys}})


def live(tmp_path: Path, source: dict[str, Any], **keys: Any) -> LiveSpec:
    settings = loaded(tmp_path, {"carbon": {"sources": [source], **keys}}).settings
    (spec,) = settings.carbon.sources
    assert isinstance(spec, LiveSpec)
    return spec


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


def test_orders_marginal_and_history(tmp_path: Path) -> None:
    (tmp_path / "past.csv").write_text("datetime,DE\n", encoding="utf-8")
    settings = {
        "sources": [EIA, {"kind": "static"}],
        "zones": {"US-CAL-CISO": {"sources": ["static", "eia"]}},
        "marginal": {"sources": [WATTTIME]},
        "history": {"file": "past.csv"},
    }
    found = loaded(tmp_path, {"carbon": settings}).settings.carbon
    assert found.orders == {"US-CAL-CISO": ("static", "eia")}
    (beside,) = found.marginal
    assert isinstance(beside, LiveSpec)
    assert beside.signal == Signal(Basis.MARGINAL, Factors.NONE)
    assert beside.at == "carbon.marginal.sources[0]"
    assert beside.secrets["password"] == SecretSpec("", tmp_path / "wt.txt")
    assert found.history == HistorySpec(tmp_path / "past.csv", False)


def test_a_source_of_another_signal_names_the_fix(tmp_path: Path) -> None:
    text = carbon(tmp_path, GB)["carbon.sources[0]"]
    assert text == (
        "gb_carbon_intensity is average/direct, but the sources here are average/lifecycle; set "
        "carbon.factors: direct, or remove it"
    )
    text = carbon(tmp_path, WATTTIME)["carbon.sources[0]"]
    assert "move it to carbon.marginal.sources" in text
    charts = {"kind": "energy_charts", "factors": "direct"}
    assert "set carbon.factors: direct" in carbon(tmp_path, charts)["carbon.sources[0]"]
    found = carbon(tmp_path, EIA, basis="marginal", factors="none")
    assert "cannot be mixed with marginal/none" in found["carbon.sources[0]"]
    found = carbon(tmp_path, {"kind": "static"}, marginal={"sources": [GB, EIA]})
    assert "remove it here" in found["carbon.marginal.sources[0]"]
    assert "remove it here" in found["carbon.marginal.sources[1]"]


def test_watttime_may_decide_where_the_signal_is_marginal(tmp_path: Path) -> None:
    spec = live(tmp_path, WATTTIME, basis="marginal", factors="none")
    assert spec.signal.basis is Basis.MARGINAL


def test_a_replay_clock_and_a_live_provider_exclude_each_other(tmp_path: Path) -> None:
    changes = {"carbon": {"sources": [EIA]}, "clock": {"start": "2022-05-14T00:00Z"}}
    text = problems(tmp_path, changes)["carbon.sources[0]"]
    assert "remove clock, or use a trace" in text


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


def test_names_are_unique_and_orders_name_sources(tmp_path: Path) -> None:
    found = carbon(
        tmp_path, EIA, EIA, {"kind": "static"},
        zones={"DE": {"sources": ["eiaa"]}, "FR": {"sources": ["static", "static"]}},
    )  # fmt: skip
    assert "already the name of carbon.sources[0]" in found["carbon.sources[1].name"]
    assert "did you mean 'eia'" in found["carbon.zones.DE.sources[0]"]
    assert "twice" in found["carbon.zones.FR.sources[1]"]


def test_a_history_that_is_not_there(tmp_path: Path) -> None:
    found = carbon(tmp_path, {"kind": "static"}, history={"file": "none.csv"})
    assert "no such file" in found["carbon.history.file"]
