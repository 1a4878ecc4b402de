"""`demo --openai` as a whole: real llama.cpp servers, one of them killed, nothing left running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from router.lab.loopback.ending import TERMINATED
from tests.lab.loopback.processes import processes_of
from tests.long import LONG
from tests.real.processes import POLL_S, POLLS, http_get

pytestmark = pytest.mark.real

LONG_S = 200.0
SCENE = """
import sys
from pathlib import Path
from router.lab.demo.openai import run
out, seconds, model, python = sys.argv[1:]
sys.exit(run(Path(out), float(seconds), Path(model), Path(python)))
"""


def scene(out: Path, seconds: str, llm_python: Path) -> list[str]:
    """Its processes all have ``out`` in their command lines: the model is linked into it."""
    (model,) = (llm_python.parent.parent / "models").glob("*.gguf")
    linked = out / "model.gguf"
    linked.symlink_to(model)
    return [sys.executable, "-c", SCENE, str(out), seconds, str(linked), str(llm_python)]


def test_the_scene_loses_nothing_though_the_greenest_is_killed(
    llm_python: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        scene(tmp_path, "9", llm_python), capture_output=True, text=True, timeout=LONG_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "results.json").read_text())
    figures = told["figures"]
    assert figures["endings"].get("lost", 0) == 0
    assert sum(figures["endings"].values()) == len(told["questions"]) > 4
    assert told["killed"] in figures["by_region"]
    assert told["energy_kind"] == "estimated"
    assert all(
        one["receipt"]["gco2e"] > 0.0 and one["answer"]
        for one in told["questions"]
        if one["ending"] == "answered"
    )
    assert "Lost: 0." in done.stdout
    assert "usage.energy" in done.stdout
    assert processes_of(tmp_path) == []


@LONG
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_scene_that_is_ended_leaves_nothing_running(
    llm_python: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        scene(tmp_path, "24", llm_python),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    address = ""
    try:
        for line in process.stdout:
            if "in a browser" in line:
                _, _, address = line.strip().removesuffix("/").rpartition("//")
                assert http_get(address, "/")[0] == 200
            if "answered" in line:
                break
        assert address
        # Itself, three servers, the gateway.
        assert len(processes_of(tmp_path)) == 5
        process.send_signal(number)
        rest = process.stdout.read()
        code = process.wait(LONG_S)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if number == signal.SIGTERM:
        assert (code, "Interrupted" in rest) == (TERMINATED, True), rest
    else:
        # Nobody is left who would wait for the others.
        await_none_of(tmp_path)
    assert processes_of(tmp_path) == []


def await_none_of(folder: Path) -> None:
    for _ in range(POLLS):
        if not processes_of(folder):
            return
        time.sleep(POLL_S)
