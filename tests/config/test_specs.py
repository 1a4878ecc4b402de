from __future__ import annotations

from pathlib import Path

from router.config import HistorySpec, LiveSpec, SecretSpec, StaticSpec, TraceSpec
from router.config.sources import ClimatologySchema, StaticSchema, TraceSchema
from router.config.specs import source_names
from router.model import Basis, Factors, Kind, Signal
from tests.config.live_samples import EIA, WATTTIME
from tests.config.samples import loaded


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


def test_carbon_sources_keep_their_order_and_files_their_folder(tmp_path: Path) -> None:
    (tmp_path / "grid.csv").write_text("datetime,X\n")
    sources = [
        {"kind": "static", "g_per_kwh": {"NO": 30}},
        {"kind": "trace", "file": "grid.csv", "value_kind": "forecast", "hour_ending": True},
    ]
    changes = {"carbon/factors": "direct", "carbon/sources": sources}
    carbon = loaded(tmp_path, changes).settings.carbon
    assert carbon.sources == (
        StaticSpec({"NO": 30.0}, shipped_table=False),
        TraceSpec(tmp_path / "grid.csv", Kind.FORECAST, 0.0, True),
    )


def test_a_source_has_its_own_name_or_its_kinds_and_a_second_trace_a_number() -> None:
    trace = TraceSchema(kind="trace", file="a.csv")
    named = TraceSchema(kind="trace", name="ours", file="b.csv")
    others = [ClimatologySchema(kind="climatology"), StaticSchema(kind="static")]
    names = source_names([trace, others[0], named, trace, others[1]])
    assert names == ["trace", "climatology", "ours", "trace-3", "static"]
