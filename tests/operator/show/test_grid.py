"""The survey of a grid zone as text, JSON and picture."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.chain import Served, ZoneProvenance
from router.errors import ConfigError
from router.model import Basis, Factors, Intensity, Kind, Signal
from router.operator.show.grid import grid_json, plot_grid, render_grid
from router.operator.survey import Curve, GridSurvey, Point

NOW = 1_700_000_000.0
USED = Intensity(
    210.0, 180.0, 240.0, Signal(Basis.AVERAGE, Factors.LIFECYCLE), Kind.ESTIMATED,
    "electricity_maps", NOW - 1800.0, NOW + 3600.0,
)  # fmt: skip


def curve(source: str, kind: str, first_h: int, count: int) -> Curve:
    points = [
        Point(NOW + (first_h + i) * 3600.0, 200.0 + i, 190.0 + i, 215.0 + i) for i in range(count)
    ]
    return Curve(source, kind, 1800.0, tuple(points))


def survey(used: Intensity | None = USED) -> GridSurvey:
    curves = (
        curve("electricity_maps", "measured", -48, 46),
        curve("electricity_maps", "estimated", -2, 2),
        curve("electricity_maps", "forecast", 0, 24),
        curve("climatology", "climatology", -48, 96),
    )
    served = Served(NOW, 1, "electricity_maps", Kind.ESTIMATED, 1800.0, False)
    failed = SourceAttempt(
        "eia", False, "eia /v2: HTTP 503: the provider failed", "provider_unavailable"
    )
    return GridSurvey(
        "DE", "average/lifecycle", NOW, used, None, curves,
        ZoneProvenance("DE", (served,), (failed,)), (failed,),
    )  # fmt: skip


def shown(found: GridSurvey) -> str:
    out = StringIO()
    Console(file=out, width=200).print(render_grid([found]))
    return out.getvalue()


def test_the_table_says_who_is_used_of_what_kind_and_how_old() -> None:
    text = shown(survey())
    assert "DE, average/lifecycle" in text
    assert "210 g/kWh (180-240), estimated by electricity_maps, 30 min old" in text
    assert "eia: eia /v2: HTTP 503: the provider failed" in text
    for kind in ("measured", "estimated", "forecast", "climatology"):
        assert kind in text


def test_what_nobody_knows_is_said_and_not_0() -> None:
    assert "nobody knows it now" in shown(survey(None))
    assert json.loads(grid_json([survey(None)]))[0]["used"] is None


def test_the_json_has_every_point_and_every_hop() -> None:
    (plain,) = json.loads(grid_json([survey()]))
    assert plain["used"]["age_s"] == 1800.0
    assert [len(one["points"]) for one in plain["curves"]] == [46, 2, 24, 96]
    assert plain["curves"][0]["points"][0]["at"].endswith("Z")
    assert plain["hops"][0]["code"] == "provider_unavailable"


def test_the_picture_is_drawn_with_and_without_a_value(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="LOUD: matplotlib is not installed")
    path = tmp_path / "grid.png"
    plot_grid([survey(), survey(None)], path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_fix_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"carbon-router\[plots\]"):
        plot_grid([survey()], tmp_path / "grid.png")
