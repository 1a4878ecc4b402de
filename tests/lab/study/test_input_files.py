from __future__ import annotations

import hashlib
import math
from pathlib import Path

import yaml

from router.lab.sim.scenario.loading import load
from router.lab.study.input_files import policy_values, profiles, read_inputs
from router.model import Budget, Relax
from tests.factories import policy
from tests.lab.sim.scenarios import grid_csv, scenario

HEADER = "arrival_s,origin,model,input_tokens,output_tokens\n"


def written(folder: Path) -> Path:
    folder.mkdir()
    (folder / "w.csv").write_text(HEADER + "0.5,x,m,10,20\n")
    return scenario(folder, {"workload": {"file": "w.csv"}})


def test_every_file_that_is_named_is_an_input(tmp_path: Path) -> None:
    found = read_inputs(written(tmp_path / "one"))
    assert [(one.role, one.file) for one in found.sources] == [
        ("scenario", "scenario.yaml"), ("carbon.file", "grid.csv"), ("workload.file", "w.csv"),
    ]  # fmt: skip
    assert found.sources[1].digest == hashlib.sha256(grid_csv().encode()).hexdigest()


def test_the_digest_follows_bytes_and_not_folders(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    digest = read_inputs(one).digest
    assert read_inputs(other).digest == digest
    for name in ("w.csv", "grid.csv", "scenario.yaml"):
        file = other.parent / name
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        assert read_inputs(other).digest != digest, name
        file.write_bytes(before)


def test_a_policy_as_plain_values_has_no_limit_that_it_does_not_set() -> None:
    given = policy(
        budget=Budget(ttft_ms=300.0, explicit=True), ladder=(Relax.CARBON,), max_g_per_kwh=500.0
    )
    found = policy_values(given)
    assert found["budget"] == {"ttft_ms": 300.0}
    assert found["max_g_per_kwh"] == 500.0 and "max_gco2e" not in found
    assert (found["ladder"], found["signal"]) == (["carbon"], "average, lifecycle")
    assert math.inf not in found.values()
    assert yaml.safe_load(yaml.safe_dump(found)) == found


def test_profiles_are_named_once(tmp_path: Path) -> None:
    (one,) = profiles(load(scenario(tmp_path)).simulation)
    assert one.name == "llama-3.1-70b@4xh100"


def test_a_ledger_has_the_digest_of_its_files(tmp_path):
    from router.lab.study.input_files import _sha256

    folder = tmp_path / "receipts" / "date=2026-11-30" / "hour=07"
    folder.mkdir(parents=True)
    (folder / "gw-1.parquet").write_bytes(b"one")
    first = _sha256(tmp_path)
    (folder / ".aside").write_bytes(b"no file of it")
    assert _sha256(tmp_path) == first
    (folder / "gw-2.parquet").write_bytes(b"two")
    assert _sha256(tmp_path) != first
