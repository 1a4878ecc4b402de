"""Fifteen minutes of a shipped scenario, which tests of flows share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from router.lab.sim.scenario.loading import load
from router.lab.sim.simulation import Simulation
from router.lab.sim.tune.train_test import window

SCENARIOS = Path(__file__).resolve().parents[4] / "docs" / "scenarios"
POLICIES = ("carbon-first", "latency-first", "least-loaded", "round-robin", "static-greenest")

if not SCENARIOS.is_dir():
    pytest.skip("FLUID NOT TRIED: docs/ is not part of this distribution", allow_module_level=True)


@cache
def scenario() -> Simulation:
    """Fifteen minutes of the six grids at 30 % load."""
    simulation = load(SCENARIOS / "us-six-grids-30.yaml", policies=POLICIES).simulation
    return replace(window(simulation, 0.0, 900.0), warm_up_s=60.0)
