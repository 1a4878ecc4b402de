"""One fleet and one gateway that most of these tests share, and what they leave is looked at."""

import contextlib
import gc
import subprocess

import pytest

from tests.e2e.harness import (
    CLEAN,
    GREEN,
    NEAR,
    OLD,
    REGIONS,
    RTT_MS,
    Gateway,
    base,
    emulator,
    endpoint,
    until,
)
from tests.ports import free_ports


@contextlib.contextmanager
def closing_children():
    """A list of processes; on leaving they are ended, and none may have died before."""
    made = []
    try:
        yield made
        for child in made:
            assert child.process.poll() in (None, 0), child.tail
    finally:
        for child in reversed(made):
            child.stop()


def old_grid(folder):
    """Hourly values of the zone STALE that end five hours before the replayed noon."""
    rows = [f"2022-05-14T{hour:02d}:00:00Z,{900 + hour}" for hour in range(7)]
    (folder / "old.csv").write_text("\n".join(["datetime,STALE", *rows]) + "\n")
    return {"kind": "trace", "file": "old.csv"}


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """The gateway of all files that leave nothing in it."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as gateway:
        yield gateway


class FreshGateway(Gateway):
    """The one that most tests ask starts as a user's does."""

    fresh = True


@contextlib.contextmanager
def running_fleet(folder):
    """A gateway before three emulated endpoints: green, near, and one whose grid's data are old."""
    *ports, metrics = free_ports(4)
    where = {GREEN: "north", NEAR: "here", OLD: "yonder"}
    endpoints = [
        endpoint(
            name, region, f"127.0.0.1:{port}",
            metrics={"url": f"http://127.0.0.1:{metrics}/{name}", "engine": "vllm"},
        )
        for (name, region), port in zip(where.items(), ports, strict=True)
    ]  # fmt: skip
    config = base(
        endpoints,
        clock={"start": "2022-05-14T12:00Z"},
        carbon={"sources": [old_grid(folder), {"kind": "static", "g_per_kwh": CLEAN}]},
        origins={
            "home": {"rtt_ms": {**RTT_MS, "yonder": 90}},
            # From here a budget tells green and near apart however busy the machine is.
            "far": {"rtt_ms": {"north": 8000, "here": 2, "yonder": 8000}},
        },
        regions={**REGIONS, "yonder": {"grid_zone": "STALE", "pue": 1.0, "residency": ["old"]}},
        load={"scrape_s": 0.1},
    )
    config["server"] |= {"max_message_mib": 1, "deadline_margin_ms": 400, "drain_s": 5}
    with closing_children() as children:
        children.append(emulator(folder, config))
        gateway = FreshGateway(folder, config)
        children.append(gateway)
        yield gateway
        assert gateway.stop() == 0
        # gRPC itself complains of metadata that it cannot decode.
        said = [one for one in gateway.log.read_text().splitlines() if "Invalid enc" not in one]
        for trouble in ("Traceback", "never retrieved", "was destroyed", "background task died"):
            assert trouble not in "\n".join(said), gateway.tail


@contextlib.contextmanager
def new_garbage_collected():
    """A client's call that was left half-way holds its connection until it is collected.

    What is older than the test is not looked through for it, which takes most of a second.
    """
    gc.freeze()
    try:
        yield
        gc.collect()
    finally:
        gc.unfreeze()


@pytest.fixture
async def gateway(fleet):
    """The shared gateway; afterwards nothing of the test may be left in it."""
    async with fleet.client() as client:
        await until(lambda: healthy(client), "both endpoints answering")
    _, _, others = fleet.open_files()
    threads = fleet.threads()
    with new_garbage_collected():
        yield fleet
        await until(fleet.idle, "in-flight back to zero")

    async def nothing_left():
        clients, upstream, now_others = fleet.open_files()
        return clients == 0 and upstream <= len(fleet.config["endpoints"]) and now_others <= others

    await until(nothing_left, "every connection of the test being closed")
    # Threads belong to gRPC's pool, which may grow a little; a leak a request would be dozens.
    assert fleet.threads() <= threads + 8

    async def ready():
        return (await fleet.readiness())[1]["status"] == "ready"

    await until(ready, "readiness")  # an endpoint that said busy rests for a moment


@pytest.fixture
async def client(gateway):
    async with gateway.client() as made:
        yield made


async def healthy(client):
    """Whether both endpoints answer: a reset fault takes them down for a moment."""
    try:
        for residency in ("eu", "us"):
            await client.receipt(x_residency=residency)
    except Exception:
        return False
    return True


@pytest.fixture
def spawn(tmp_path):
    """Starts further processes, of several threads at once too; they are ended with the test."""
    with closing_children() as children:

        def start(make, *arguments):
            made = make(tmp_path, *arguments)
            children.append(made)
            return made

        yield start


@pytest.fixture(scope="module")
def spawn_once(tmp_path_factory):
    """As `spawn`, for what all tests of a file share: they are ended with the last of it."""
    folder = tmp_path_factory.mktemp("shared")
    with closing_children() as children:

        def start(make, *arguments):
            made = make(folder, *arguments)
            children.append(made)
            return made

        yield start


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB, for temporary files."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("LOUD: file systems cannot be mounted here, full disks were not tried")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
