from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.lab.study.deferring import (
    AT_ONCE,
    SCHEDULES,
    defer_scenario,
    deferring_json,
    render_deferring,
)
from tests.lab.study.studies import short_scenario, waiting_scenario


def test_what_may_wait_is_in_time_and_whatever_may_not_keeps_its_budgets(tmp_path: Path) -> None:
    found = defer_scenario(waiting_scenario(tmp_path))
    assert [run.schedule for run in found.runs] == [AT_ONCE, *SCHEDULES]
    assert found.share == pytest.approx(0.3, abs=0.02)
    at_once, *others = found.runs
    assert at_once.mean_wait_h == 0.0
    for run in others:
        assert run.in_time >= 0.999
        assert run.slo >= at_once.slo - 0.001
        assert run.mean_wait_h > 0.0
    known = [
        run._replace(deferred_g=g) for run, g in zip(found.runs, (100, 92, 96, 90), strict=True)
    ]
    told = replace(found, runs=tuple(known))
    assert [told.saving(run, "deferred_g") for run in known] == pytest.approx([0, 0.08, 0.04, 0.1])
    assert told.reached(known[1], "deferred_g") == pytest.approx(0.8)
    whole = json.loads(deferring_json(found))
    assert whole["kind"] == "estimated"
    assert whole["schedules"][0]["when_fleet_g"] == 0.0
    assert not any("deferred" in note for note in whole["notes"])
    assert render_deferring(found) is not None


def test_a_scenario_in_which_nothing_may_wait_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing may wait"):
        defer_scenario(short_scenario(tmp_path))
