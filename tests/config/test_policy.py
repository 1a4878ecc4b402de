from __future__ import annotations

from pathlib import Path

from router.config.policy import PolicySchema, WeightsSchema
from router.model import Basis, Factors, Signal
from tests.config.samples import loaded
from tests.factories import SIGNAL, shipped_policy


def test_a_policy_takes_the_signal_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "grid.csv").write_text("datetime,X\n")
    changes = {
        "carbon/basis": "marginal",
        "carbon/factors": "none",
        "carbon/sources": [{"kind": "trace", "file": "grid.csv"}],
    }
    assert loaded(tmp_path, changes).policy.signal == Signal(Basis.MARGINAL, Factors.NONE)


def test_the_defaults_are_those_of_carbon_first() -> None:
    bare = PolicySchema(weights=WeightsSchema(per_gco2e=1.0)).build("carbon-first", SIGNAL)
    assert bare == shipped_policy("carbon-first")
