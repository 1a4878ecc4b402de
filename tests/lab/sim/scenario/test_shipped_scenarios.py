"""The scenarios in docs/scenarios load, and their bound is what their description promises."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigError
from router.lab.sim.bound.run import bound
from router.lab.sim.scenario.loading import Loaded, load

ROOT = Path(__file__).resolve().parents[4]
SCENARIOS = ROOT / "docs" / "scenarios"
SHARED = ROOT.parent / "shared"
ODBL = SHARED / "data" / "ci-hourly-2022-123zones" / "ci_lca_gco2_per_kwh_2022.csv.gz"
FETCHED = "data/electricity_maps_2022.csv.gz"
NAMES = sorted(file.name for file in SCENARIOS.glob("*.yaml"))

pytest.importorskip("scipy")
if not NAMES:
    pytest.skip(
        "SCENARIOS NOT TRIED: docs/ is not part of this distribution", allow_module_level=True
    )


def shortened(name: str, folder: Path, duration: str) -> Loaded:
    """The scenario with a shorter duration; where its data are not at hand, skipped."""
    text = (SCENARIOS / name).read_text("utf-8")
    if FETCHED in text and not ODBL.is_file():
        pytest.skip(f"{name} NOT TRIED: its ODbL data set is not beside the repository")
    shutil.copytree(SCENARIOS / "data", folder / "data")
    lines = [f"duration: {duration}" if s.startswith("duration:") else s for s in text.splitlines()]
    (folder / name).write_text("\n".join(lines).replace(FETCHED, ODBL.as_posix()), "utf-8")
    return load(folder / name)


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_as_it_is(name: str, tmp_path: Path) -> None:
    loaded = shortened(name, tmp_path, "24h")
    assert len(loaded.simulation.fleet.endpoints) >= 14
    assert loaded.simulation.policies[0].name == "carbon-first"
    assert ("ODbL" in loaded.notice) == (name.startswith(("europe", "global")))


@pytest.mark.parametrize(
    "name", ["us-six-grids-50.yaml", "us-mixed-fleet.yaml", "global-50ms.yaml"]
)
def test_its_bound_serves_everything(name: str, tmp_path: Path) -> None:
    found = shortened(name, tmp_path, "8m").simulation
    least = bound(found, found.policies[0])
    assert least.impossible == 0 and least.overloaded_slots == 0
    assert 0.0 < least.busy_g < least.fleet_g
    assert sum(least.share.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("name", [one for one in NAMES if one.startswith(("europe", "global"))])
def test_what_is_not_in_a_clone_is_said_to_be_had_where(name: str, tmp_path: Path) -> None:
    shutil.copy(SCENARIOS / name, tmp_path)
    with pytest.raises(ConfigError, match=r"carbon.file: .*electricity_maps_2022") as caught:
        load(tmp_path / name)
    assert "tools/fetch_grids.py" in str(caught.value)


def fetching() -> Any:
    path = ROOT / "tools" / "fetch_grids.py"
    if not path.exists():
        pytest.skip("FETCHING NOT TRIED: tools/ is not part of this distribution")
    spec = importlib.util.spec_from_file_location("fetch_grids", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_clone_of_the_source_gives_the_table_that_the_scenarios_read(tmp_path: Path) -> None:
    module = fetching()
    folder = tmp_path / module.FOLDER
    folder.mkdir(parents=True)
    zones = module.zones()
    for place, zone in enumerate(zones):
        rows = [f"{100 + place}.5,9" for _ in range(module.HOURS)]
        (folder / f"{zone}.csv").write_text("\n".join(["0,20", *rows]) + "\n", "utf-8")
    shutil.copytree(SCENARIOS, tmp_path / "there")
    target = tmp_path / "there" / FETCHED
    assert module.main(["--from", str(tmp_path), "--to", str(target)]) == 0
    found = load(tmp_path / "there" / "europe.yaml").simulation.actual
    shown = dict(zip(found.grid_zones, found.g_per_kwh[0].tolist(), strict=True))
    assert shown["DE"] == 100.5 + zones.index("DE")


def test_a_source_of_another_shape_writes_nothing(tmp_path: Path) -> None:
    module = fetching()
    target = tmp_path / "out.csv.gz"
    assert module.main(["--from", str(tmp_path), "--to", str(target)]) == 1
    assert not target.exists()


@pytest.mark.parametrize("tool", ["build_workloads", "build_scenarios"])
def test_the_tables_are_what_their_sources_give(tool: str) -> None:
    path = ROOT / "tools" / f"{tool}.py"
    if not path.exists() or not (SHARED / "data").is_dir():
        pytest.skip(f"{tool}: TABLES NOT RECOMPUTED: sources are not beside the repository")
    spec = importlib.util.spec_from_file_location(tool, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if tool == "build_workloads":
        assert module.differing(SHARED) == {}
    else:
        for name, text in module.tables(SHARED).items():
            assert module.checked_in(name) == text, name
