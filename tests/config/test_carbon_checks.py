"""Live sources in the file: what becomes of them, and which errors name their fix."""

from __future__ import annotations

from pathlib import Path

from router.model import Basis
from tests.config.live_samples import EIA, GB, WATTTIME, carbon, live
from tests.config.samples import problems


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
