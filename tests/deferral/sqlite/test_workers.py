import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from router.deferral.sqlite import workers
from router.deferral.sqlite.schema import prepare
from router.deferral.sqlite.workers import Worker

HOLDS = """
import sys, time
from pathlib import Path
from router.deferral.sqlite.workers import Worker
held = Worker(Path(sys.argv[1]), "other", 1e9, time.monotonic)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def database():
    made = sqlite3.connect(":memory:", isolation_level=None)
    prepare(made)
    yield made
    made.close()


def job_of(database, worker):
    database.execute("INSERT INTO kinds (batch, model, under_way) VALUES (1, 'm', 1)")
    database.execute(
        "INSERT INTO jobs (batch, line, model, state, worker) VALUES (1, 1, 'm', 1, ?)", (worker,)
    )


def state(database):
    return database.execute("SELECT state, fence FROM jobs").fetchone()


def test_one_that_is_killed_is_taken_over_at_once(database, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        mine = Worker(tmp_path, "mine", 15.0, lambda: 100.0)
        database.execute("INSERT INTO workers VALUES ('other', ?, 1e9)", (workers.boot_id(),))
        job_of(database, "other")
        assert mine.beat(database) == 0 and state(database) == (1, 0)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert mine.beat(database) == 1 and state(database) == (0, 1)
        assert not (tmp_path / "other").exists()
        mine.close()
        mine.close()
        assert list(tmp_path.iterdir()) == []
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_those_of_before_the_machine_was_started_are_no_more(database, tmp_path, monkeypatch):
    mine = Worker(tmp_path, "mine", 15.0, lambda: 100.0)
    other = Worker(tmp_path, "other", 15.0, lambda: 100.0)
    other.beat(database)
    database.execute("UPDATE workers SET boot = 'before' WHERE name = 'other'")
    job_of(database, "other")
    # Its clock began anew, so its time may be far ahead.
    assert mine.beat(database) == 1 and state(database) == (0, 1)
    mine.close()
    other.close()


def test_without_a_boot_id_time_tells(database, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_BOOT", tmp_path / "none")
    assert workers.boot_id() == ""
    now = [100.0]
    mine, other = (Worker(tmp_path, name, 15.0, lambda: now[0]) for name in ("mine", "other"))
    other.beat(database)
    job_of(database, "other")
    assert mine.beat(database) == 0
    now[0] += 15.0
    assert mine.beat(database) == 1
    mine.close()
    other.close()
