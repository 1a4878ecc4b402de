"""`tune --engine ray` on a real local Ray finds what the processes of one machine find."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from router.lab.study.tune import run_tune
from tests.lab.study.tuning import turning
from tests.long import LONG

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240.0

# The command, with a worker that dies in its first trial, as a lost node would have it.
LOST_WORKER = """
import os, signal, sys
from pathlib import Path
from router import cli
from router.lab.sim.tune import engines

whole, mark = engines._measure_there, sys.argv[1]

def dies_once(spans, task, version):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(spans, task, version)

engines._measure_there = dies_once
cli.main(sys.argv[2:])
"""


def run(ray_python: Path, *arguments: str | Path) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RAY_"))}
    done = subprocess.Popen(
        [ray_python, *arguments],
        # Workers import the product from the checkout, and may need to find it from anywhere.
        env={**kept, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        shown, _ = done.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # Ray's own processes are of its session.
        os.killpg(done.pid, signal.SIGKILL)
        raise
    assert done.returncode == 0, shown[-4000:]
    return shown


@LONG
def test_a_cluster_that_loses_a_worker_finds_the_same_policy(
    ray_python: Path, tmp_path: Path
) -> None:
    file, policy = turning(tmp_path), tmp_path / "ours.yaml"
    run_tune(file, str(policy), trials=6, train_share=0.5, out=tmp_path / "local")
    mark = tmp_path / "died"
    shown = run(
        ray_python, "-c", LOST_WORKER, mark, "tune", file, "--policy", policy, "--trials", "6",
        "--train-share", "0.5", "--out", tmp_path / "cluster", "--engine", "ray", "--jobs", "2",
    )  # fmt: skip
    assert mark.exists()
    assert "later span" in shown
    for name in ("ours-tuned.yaml", "trials.csv"):
        ours = (tmp_path / "local" / name).read_bytes()
        assert (tmp_path / "cluster" / name).read_bytes() == ours
