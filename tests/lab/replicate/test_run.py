from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import ConfigError
from router.lab.replicate import run
from router.lab.replicate.inputs import VARIABLE
from router.lab.replicate.paper import Replication
from tests.lab.replicate import made_up


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "READS_NOTHING", {"hybrid": lambda: Replication("hybrid", "H", ())})
    fake = {name: _fake(name) for name in run.READS_DATA}
    monkeypatch.setattr(run, "READS_DATA", fake)


def _fake(name: str):
    return lambda literature: Replication(name, str(literature.folder), ())


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a" / "clone"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_all_run_in_order_and_say_so(tmp_path: Path) -> None:
    made_up.write(tmp_path)
    told: list[str] = []
    rerun = run.replicate(data=tmp_path, progress=told.append)
    assert [one.name for one in rerun.replications] == list(run.STUDIES) == told
    assert rerun.not_run == {}


def test_named_ones_run_alone(tmp_path: Path) -> None:
    rerun = run.replicate(("casper", "hybrid"), None, {VARIABLE: str(tmp_path)})
    assert [one.name for one in rerun.replications] == ["casper", "hybrid"]
    assert rerun.replications[0].title == str(tmp_path)


def test_without_data_what_reads_none_runs_and_the_rest_is_told(nowhere: Path) -> None:
    rerun = run.replicate()
    assert [one.name for one in rerun.replications] == ["hybrid"]
    assert set(rerun.not_run) == {"capacity", "hours", "casper", "quality", "deferral"}
    assert "--data" in rerun.not_run["casper"]


def test_a_study_that_is_named_needs_its_data(nowhere: Path) -> None:
    with pytest.raises(ConfigError, match="casper: no folder of data"):
        run.replicate(("casper", "hybrid"))
    assert run.replicate(("hybrid",)).not_run == {}


def test_a_strange_study_is_refused() -> None:
    with pytest.raises(ConfigError, match="no study caspar; one of capacity, hours, casper"):
        run.replicate(("caspar",))
