"""The comparison end to end: real sockets, real processes, a few seconds of an easy load."""

import json

import pytest

from router.lab.calibration import compare_live
from tests.lab.calibration.scenarios import small
from tests.lab.loopback.processes import processes_of

SECONDS = 7.0


def test_live_and_simulated_agree(tmp_path):
    # Budgets that a machine can keep which other tests use as well.
    simulation = small(ttft_ms=1500, tpot_ms=60)
    told = []
    one = compare_live(simulation, simulation.policies[0], tmp_path, SECONDS, 1, told.append)
    live, simulated = one.rows[-1].live, one.rows[-1].simulated
    assert one.offered > 150 and one.draws > 1
    assert simulated.answered > 0.9 * one.offered
    assert live.answered == pytest.approx(simulated.answered, abs=0.05 * one.offered)
    # Wider than what is reported on: a few hundred requests, on a machine that tests share.
    for row in one.rows[:-1]:
        assert row.live.share == pytest.approx(row.simulated.share, abs=0.1)
    assert live.energy_j == pytest.approx(simulated.energy_j, rel=0.2)
    assert live.gco2e == pytest.approx(simulated.gco2e, rel=0.2)
    assert one.live.fleet.idle_j == pytest.approx(one.simulated.fleet.idle_j, rel=0.25)
    # More than one region is at work, or shares would agree whatever was simulated.
    assert sum(row.simulated.share > 0.15 for row in one.rows[:-1]) >= 2
    assert one.known_off_g_per_kwh < 200.0
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["offered"] == one.offered and written["verdict"] == one.verdict
    assert "Starting 6 emulated model servers" in told[1]
    assert processes_of(tmp_path) == []
