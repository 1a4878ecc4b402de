"""Several processes and the parent that keeps them: real processes, real signals, no sockets."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE_S = 30.0
ROOT = Path(__file__).parents[2]


class Parent:
    """``run_workers`` over one of the works, in a process of its own."""

    def __init__(self, kind, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.app.work", kind, str(folder)],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def pids(self, what="ready"):
        return {int(path.stem) for path in self.folder.glob(f"*.{what}")}

    def wait_for(self, what, count):
        """Process ids of at least ``count`` workers that said ``what``."""
        for _ in range(int(PATIENCE_S / 0.01)):
            found = self.pids(what)
            if len(found) >= count:
                return found
            assert self.process.poll() in (None, -signal.SIGKILL), self.process.stderr.read()
            time.sleep(0.01)
        raise AssertionError(f"{len(self.pids(what))} workers are {what}, not {count}")

    def tell(self, number):
        self.process.send_signal(number)

    def end(self):
        """Exit code and what was said."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


@pytest.fixture
def parent(tmp_path):
    made = []

    def start(kind):
        made.append(Parent(kind, tmp_path))
        return made[-1]

    yield start
    for one in made:
        for pid in one.pids() - one.pids("ended"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        one.process.kill()
        one.process.communicate()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_live_together_are_told_together_and_end_well(parent):
    running = parent("steady")
    pids = running.wait_for("ready", 2)
    assert len(pids) == 2
    (room,) = {path.read_text() for path in running.folder.glob("*.ready")}
    assert Path(room).is_dir()  # where they share their metrics
    running.tell(signal.SIGHUP)
    assert running.wait_for("hangup", 2) == pids
    running.tell(signal.SIGTERM)
    assert running.end() == (0, "")
    assert running.pids("ended") == pids
    assert not Path(room).exists()


def test_a_worker_that_ends_badly_when_told_to_stop_is_told_in_the_exit_code(parent):
    running = parent("stubborn")
    running.wait_for("ready", 2)
    running.tell(signal.SIGTERM)
    assert running.end()[0] == 1


def test_a_hangup_during_the_start_waits_until_the_worker_can_hear_it(parent):
    running = parent("slow_start")
    pids = running.wait_for("starting", 2)
    running.tell(signal.SIGHUP)
    assert running.wait_for("hangup", 2) == pids
    running.tell(signal.SIGINT)
    assert running.end()[0] == 0


def test_a_worker_that_is_killed_is_replaced_and_forgiven(parent):
    running = parent("steady")
    first = running.wait_for("ready", 2)
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    everybody = running.wait_for("ready", 3)
    (successor,) = everybody - first
    assert not alive(victim)
    running.tell(signal.SIGTERM)
    code, said = running.end()
    assert code == 0
    assert "a worker ended" in said
    assert running.pids("ended") == {max(first), successor}


def test_a_worker_that_ends_by_itself_is_replaced_too(parent):
    running = parent("steady")
    first = running.wait_for("ready", 2)
    os.kill(min(first), signal.SIGTERM)
    assert len(running.wait_for("ready", 3)) == 3
    running.tell(signal.SIGTERM)
    assert running.end()[0] == 0


def test_a_worker_that_stands_still_is_killed_and_replaced(parent):
    running = parent("frozen")
    everybody = running.wait_for("ready", 3)
    assert len([pid for pid in everybody if alive(pid)]) == 2
    running.tell(signal.SIGTERM)
    code, said = running.end()
    assert code == 0
    assert "a worker stands still: killed" in said


def test_a_worker_that_is_stopped_is_replaced_too(parent):
    running = parent("stopped")
    first = running.wait_for("ready", 2)
    os.kill(min(first), signal.SIGSTOP)
    running.wait_for("ready", 3)
    assert not alive(min(first))


def test_a_slow_worker_that_turns_is_left_alone(parent):
    running = parent("slow")
    first = running.wait_for("ready", 2)
    # Five beats take it longer than a frozen one lives.
    assert running.wait_for("beaten_5", 2) == first
    assert running.pids() == first


def test_workers_end_with_a_parent_that_is_killed(parent):
    running = parent("steady")
    pids = running.wait_for("ready", 2)
    running.process.kill()
    assert running.wait_for("ended", 2) == pids


def test_a_stop_during_the_start_is_heard(parent):
    running = parent("slow_start")
    running.wait_for("starting", 1)
    running.tell(signal.SIGTERM)
    assert running.end()[0] == 0
    assert not any(alive(pid) for pid in running.pids("starting"))


def test_workers_that_cannot_start_are_given_up_with_the_reason(parent):
    running = parent("failing")
    code, said = running.end()
    assert code == 1
    assert len(running.pids("tried")) == 4  # two, and as many again
    assert "trace_invalid:\ngrid.csv: row 3: unusable" in said
    assert "Traceback" not in said


def test_one_worker_that_can_is_enough_to_go_on(parent):
    running = parent("crowded")
    running.wait_for("ready", 1)
    running.wait_for("tried", 3)
    assert running.process.poll() is None
    running.tell(signal.SIGTERM)
    assert running.end()[0] == 0
