from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.lab.study import command
from router.lab.study.bounding import bound_json, bound_scenario, parse_slot
from tests.lab.study.studies import short_scenario, waiting_scenario


def test_a_bound_is_the_same_in_a_summary(tmp_path: Path) -> None:
    scenario = short_scenario(tmp_path, duration="10m")
    (alone,) = bound_scenario(scenario).bounds
    done = command.simulate(scenario, folder=tmp_path / "out", rows=False, jobs=1)
    beside = done.summary["policies"]["carbon-first"]["bound"]
    assert beside["gco2e_attributional"] == alone.busy_g
    assert beside["gco2e_consequential"] == alone.fleet_g
    assert beside["whole_replicas"] is beside["plans"] is None
    assert done.summary["policies"]["carbon-first"]["over_bound"] is None


def test_plans_are_the_same_in_a_summary(tmp_path: Path) -> None:
    scenario = short_scenario(tmp_path, duration="10m")
    bounded = bound_scenario(scenario, plans=True)
    (one,) = json.loads(bound_json(bounded))["bounds"]
    done = command.simulate(scenario, folder=tmp_path / "out", rows=False, jobs=1, plans=True)
    figures = done.summary["policies"]["carbon-first"]
    beside = figures["bound"]
    assert one["plans"] == beside["plans"]
    assert one["whole_replicas"] == beside["whole_replicas"]
    limits = [beside["gco2e_consequential"], beside["whole_replicas"]["gco2e_consequential"]]
    assert limits == sorted(limits)
    for account, over in figures["over_bound"].items():
        assert math.isclose(sum(over.values()), figures["regret"][account], rel_tol=1e-9)
        assert over["whole_replicas"] > 0.0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What lies between the bound and each policy" in page


def test_slots() -> None:
    assert (parse_slot("900"), parse_slot("15m"), parse_slot("1h")) == (900.0, 900.0, 3600.0)


def test_what_may_wait_does_in_the_bound_and_in_no_plan(tmp_path: Path) -> None:
    file = waiting_scenario(tmp_path, duration="20m")
    with pytest.raises(ConfigError, match="let nothing wait"):
        bound_scenario(file, plans=True)
    found = bound_scenario(file)
    assert not any("no request is deferred" in note for note in found.loaded.notes)
    assert found.bounds[0].overloaded_slots == 0
