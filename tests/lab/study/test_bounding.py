from __future__ import annotations

from pathlib import Path

from router.lab.study import command
from router.lab.study.bounding import bound_scenario, parse_slot
from tests.lab.study.studies import short_scenario


def test_a_bound_is_the_same_in_a_summary(tmp_path: Path) -> None:
    scenario = short_scenario(tmp_path, duration="10m")
    (alone,) = bound_scenario(scenario).bounds
    done = command.simulate(scenario, folder=tmp_path / "out", rows=False, jobs=1)
    beside = done.summary["policies"]["carbon-first"]["bound"]
    assert beside["gco2e_attributional"] == alone.busy_g
    assert beside["gco2e_consequential"] == alone.fleet_g


def test_slots() -> None:
    assert (parse_slot("900"), parse_slot("15m"), parse_slot("1h")) == (900.0, 900.0, 3600.0)
