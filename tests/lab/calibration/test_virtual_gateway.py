"""The gateway decides and waits as the simulation does: on virtual time no machine is to blame."""

from pathlib import Path

import pytest
import yaml

from router.lab.calibration.figures import figures
from router.lab.sim.scenario.loading import load
from tests.lab.calibration.virtual_gateway import played

SCENARIOS = Path(__file__).parents[3] / "docs" / "scenarios"
SECONDS = 16.0


@pytest.fixture
def scenario(tmp_path):
    """Three models in six regions, with prompts that queue, and a signal that costs nothing."""
    told = yaml.safe_load((SCENARIOS / "us-mixed-fleet.yaml").read_text())
    told["signal"] = {"kind": "persistence", "publication_lag": "1h"}
    (tmp_path / "data").symlink_to(SCENARIOS / "data")
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


@pytest.mark.parametrize("policy", ["latency-first", "carbon-first"])
def test_first_tokens_come_and_requests_go_as_simulated(policy, scenario, tmp_path, monkeypatch):
    """The carbon clock runs 1,800 times as fast as requests do, and takes no queue along."""
    simulation = load(scenario, (policy,)).simulation
    live, simulated, regions = played(simulation, SECONDS, tmp_path, monkeypatch)
    ours, theirs = figures(live), figures(simulated)
    assert theirs.answered > 1000
    assert ours.answered >= 0.995 * theirs.answered, live.refused
    assert ours.ttft_p50_ms == pytest.approx(theirs.ttft_p50_ms, rel=0.1)
    assert ours.ttft_p95_ms == pytest.approx(theirs.ttft_p95_ms, rel=0.2)
    assert ours.e2e_p95_ms == pytest.approx(theirs.e2e_p95_ms, rel=0.1)
    # At known grids: what they really emitted is not on the receipts.
    assert ours.energy_j == pytest.approx(theirs.energy_j, rel=0.08)
    for place, region in enumerate(regions):
        share = figures(simulated, place).share
        assert figures(live, place).share == pytest.approx(share, abs=0.05), region
