"""A report's manifest, run and checked by the Green Software Foundation's Impact Framework."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from router.ledger.month import Month
from router.operator.reporting.gather import ReportQuestion, gather
from router.operator.reporting.impact_framework import manifest
from tests.ledger.receipts import ledger_of, receipts

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
FOLDER = HERE.parent.parent / ".venv-if"
LOCK = HERE / "impact_framework" / "package-lock.json"


@pytest.fixture(scope="module")
def framework() -> Path:
    """Its folder. Where npm is missing it cannot be there, in CI neither: that is said, loudly."""
    stamp = FOLDER / "stamp"
    expected = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not (stamp.is_file() and stamp.read_text().strip() == expected and shutil.which("node")):
        pytest.skip(
            "REAL PARTS NOT TESTED: the Impact Framework is missing or out of date; run "
            "tests/real/install where npm is"
        )
    return FOLDER


def run(framework: Path, folder: Path, command: str, *arguments: str) -> str:
    done = subprocess.run(
        ["node", f"node_modules/.bin/{command}", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_framework_comes_to_our_sums_and_checks_them(framework: Path, tmp_path: Path) -> None:
    ledger = ledger_of(receipts(5_000, hours=48.0), tmp_path / "ledger")
    report = gather(ReportQuestion(ledger, Month(2026, 11)))
    folder = tmp_path / "framework"
    folder.mkdir()
    (folder / "node_modules").symlink_to(framework / "node_modules")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(framework / name, folder)
    (folder / "month.yaml").write_text(manifest(report))
    run(framework, folder, "if-run", "-m", "month.yaml", "-o", "told")
    told = yaml.load((folder / "told.yaml").read_text(), yaml.CSafeLoader)
    assert told["execution"]["status"] == "success"
    sums = told["tree"]["aggregated"]
    assert sums["carbon"] == pytest.approx(report.total.mass("total_g").g, rel=1e-12)
    assert sums["energy"] == pytest.approx(report.total.energy("facility_q").kwh, rel=1e-12)
    assert sums["requests"] == report.total.count("answered")
    # It is of what the manifest names, and of no more: if-check installs nothing.
    named = json.loads((folder / "package.json").read_text())["dependencies"]
    assert set(named) == {"@grnsft/if"}
    assert "Files match" in run(framework, folder, "if-check", "-m", "told.yaml")
