import json
import signal
import subprocess
import sys

import pytest

from router.lab.loopback.ending import INTERRUPTED, TERMINATED
from tests.lab.loopback.processes import processes_of
from tests.long import LONG

LONG_S = 240.0
# A demo more is a dozen processes more.


def demo(out, seconds):
    return [sys.executable, "-m", "router.cli", "demo", "--out", str(out), "--seconds", seconds]


QUIET = """
import sys
from pathlib import Path
from router.lab.demo import fleet, run
fleet.MEAN_RPS = 15.0  # other tests share the machine
sys.exit(run(Path(sys.argv[1]), 6.0))
"""


def test_the_demo_ends_by_itself_with_everything_answered(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "emulated" in done.stdout
    figures = json.loads((tmp_path / "results.json").read_text())
    live, product = figures["runs"][0], figures["runs"][1]
    assert live["offered"] == product["offered"] > 150
    assert live["completed"] >= 0.95 * live["offered"]
    # The same requests live and replayed: the machines are the same, only the clock differs.
    assert live["energy_j"] == pytest.approx(product["energy_j"], rel=0.4)
    assert live["fleet"]["busy_g"] == pytest.approx(product["fleet"]["busy_g"], rel=0.4)
    assert (tmp_path / "demo.png").is_file()
    assert str(tmp_path / "demo.png") in done.stdout.replace("\n", "")
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGTERM, TERMINATED, marks=LONG), (signal.SIGINT, INTERRUPTED)],
)
def test_an_interrupted_demo_leaves_nothing_running(tmp_path, number, code):
    process = subprocess.Popen(
        demo(tmp_path, "20"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        for line in process.stdout:
            if "answered" in line:
                break
        assert processes_of(tmp_path)
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(LONG_S) == code, rest
        assert "Interrupted" in rest
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert processes_of(tmp_path) == []
