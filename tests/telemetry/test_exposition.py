"""One process alone, and several workers that share their figures through files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.telemetry.exposition import (
    DIRECTORY_VARIABLE,
    exposition,
    new_registry,
    prepare_workers,
    shares_files,
)
from router.telemetry.metrics import Metrics

WORKER = """
import sys
from router.core.health import State
from router.model import Basis, Factors, Intensity, Kind, Signal
from router.telemetry.exposition import exposition, forget_worker, new_registry
from router.telemetry.metrics import Metrics
from router.telemetry.view import EndpointView, FleetView, RegionView

role, dead = sys.argv[1], sys.argv[2]
registry = new_registry()
metrics = Metrics(registry, workers=2)
signal = Signal(Basis.AVERAGE, Factors.LIFECYCLE)

def view(kind, in_flight, age_s, names):
    known = Intensity(250.0, 250.0, 250.0, signal, kind, kind.value, 0.0, 9e9)
    endpoints = tuple(
        EndpointView(n, "west", "a:1", ("m",), State.HEALTHY, in_flight, None, age_s, False)
        for n in names
    )
    return FleetView(100.0, "p", 3, age_s, (RegionView("west", "Z", 1.1, known),), endpoints)

if role == "idle":
    pass
elif role == "first":
    metrics.show(view(Kind.FORECAST, 2, 9.0, ["a", "gone"]))
    metrics.refused("m", "UNAVAILABLE", "shed")
    metrics.show(view(Kind.MEASURED, 2, 9.0, ["a"]))
else:
    metrics.show(view(Kind.MEASURED, 5, 4.0, ["a"]))
    metrics.refused("m", "UNAVAILABLE", "shed")
    metrics.decided(1e-5)
    if dead:
        forget_worker(int(dead))
    sys.stdout.write(exposition(registry)[0].decode())
import os
print(f"# pid {os.getpid()}", file=sys.stderr)
"""


def run_worker(directory: Path, *arguments: str) -> tuple[str, int]:
    root = str(Path(__file__).parents[2])
    # prometheus_client keeps its files open until the process ends.
    strict = ["-W", "error", "-W", "ignore::ResourceWarning"]
    done = subprocess.run(
        [sys.executable, *strict, "-c", WORKER, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, DIRECTORY_VARIABLE: str(directory), "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, int(done.stderr.rsplit("# pid ", 1)[1])


def parsed(page: str) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            series = found.setdefault(sample.name.removeprefix("carbon_router_"), {})
            series[tuple(sample.labels.values())] = sample.value
    return found


def test_workers_add_up_and_a_series_that_ended_is_not_shown(tmp_path: Path) -> None:
    run_worker(tmp_path, "idle", "")
    run_worker(tmp_path, "first", "")
    page = parsed(run_worker(tmp_path, "second", "")[0])
    assert page["refused_total"][("shed",)] == 2.0
    assert page["endpoint_in_flight"] == {("a",): 7.0}
    assert page["endpoint_state"][("a", "healthy")] == 2.0
    assert page["load_age_seconds"] == {("a",): 9.0}
    assert page["snapshot_age_seconds"] == {(): 9.0}
    assert page["snapshot_version"] == {(): 3.0}
    assert page["grid_intensity_g_per_kwh"] == {("Z", "measured", "measured"): 250.0}
    assert page["decision_seconds_count"] == {(): 1.0}


def test_a_worker_that_ended_leaves_its_totals_but_not_its_requests(tmp_path: Path) -> None:
    _, pid = run_worker(tmp_path, "first", "")
    page = parsed(run_worker(tmp_path, "second", str(pid))[0])
    assert page["refused_total"][("shed",)] == 2.0
    assert page["endpoint_in_flight"] == {("a",): 5.0}
    assert page["load_age_seconds"] == {("a",): 4.0}


def test_preparing_the_room_removes_what_an_earlier_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "to be restored")
    room = tmp_path / "deep" / "room"
    prepare_workers(room)
    assert os.environ[DIRECTORY_VARIABLE] == str(room)
    (room / "counter_1.db").write_bytes(b"old")
    (room / "keep.txt").write_bytes(b"not ours")
    prepare_workers(room)
    assert [file.name for file in room.iterdir()] == ["keep.txt"]


def test_a_single_process_shows_its_own_registry_and_resources() -> None:
    assert not shares_files()
    registry = new_registry()
    Metrics(registry).decided(1e-5)
    page, content_type = exposition(registry)
    assert content_type.startswith("text/plain; version=0.0.4")
    found = parsed(page.decode())
    assert found["decision_seconds_count"] == {(): 1.0}
    assert found["process_resident_memory_bytes"][()] > 0.0
    assert not [name for name in found if name.endswith("_created")]
