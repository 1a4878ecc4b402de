"""The scenarios in docs/scenarios load, and their bound is what their description promises."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from router.sim.bound import bound
from router.sim.loading import Loaded, load

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "docs" / "scenarios"
SHARED = ROOT.parent / "shared"
NAMES = sorted(file.name for file in SCENARIOS.glob("*.yaml"))

pytest.importorskip("scipy")
if not NAMES:
    pytest.skip(
        "SCENARIOS NOT TRIED: docs/ is not part of this distribution", allow_module_level=True
    )


def shortened(name: str, folder: Path, duration: str) -> Loaded:
    """The scenario with a shorter duration; where its data are not at hand, skipped."""
    text = (SCENARIOS / name).read_text("utf-8")
    if "../shared/" in text and not (SHARED / "data").is_dir():
        pytest.skip(f"{name} NOT TRIED: its ODbL data set is not beside the repository")
    shutil.copytree(SCENARIOS / "data", folder / "data")
    lines = [f"duration: {duration}" if s.startswith("duration:") else s for s in text.splitlines()]
    there = (SCENARIOS / "../../../shared").resolve().as_posix()
    (folder / name).write_text("\n".join(lines).replace("../../../shared", there), "utf-8")
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


def test_every_field_is_documented() -> None:
    path = ROOT / "tools" / "scenario_reference.py"
    if not path.exists():
        pytest.skip("FIELD TABLES NOT CHECKED: tools/ is not part of this distribution")
    spec = importlib.util.spec_from_file_location("scenario_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "scenarios.md").read_text("utf-8")
    assert module.fill(text) == text, "run tools/scenario_reference.py"
    assert module.undocumented(text) == set()
