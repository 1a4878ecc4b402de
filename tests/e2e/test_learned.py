"""What a gateway learned, from one process to the next: a rollout, a kill, a file that is none."""

import json
import signal

import pytest

from tests.e2e.harness import Gateway, ask, base, emulator, pair

TAKEN_UP = "what was learned before is taken up"


@pytest.fixture
def config(spawn):
    config = base(pair(), state={"file": "learned.json"})
    spawn(emulator, config)
    return config


async def served(gateway, count=30):
    async with gateway.client() as client:
        for _ in range(count):
            await client.receipt(ask(), x_tenant="acme")


def all_serve(gateway, workers):
    """Whoever is told to stop before it serves has nothing to add, and leaves what was there."""
    gateway.wait_for(lambda: len(gateway.events("serving")) == workers)


def kept_by(gateway):
    """What its processes wrote, and who may read it."""
    files = sorted(gateway.path.parent.glob("learned.json*"))
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    return [json.loads(file.read_bytes()) for file in files]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_restart_goes_on_from_what_was_kept(spawn, config, workers):
    first = spawn(Gateway, config, "--workers", str(workers))
    assert not first.events(TAKEN_UP)
    all_serve(first, workers)
    # All over one connection, so that one of the workers has them all, whichever that is.
    await served(first)
    first.tell(signal.SIGTERM)
    assert first.wait() == 0
    kept = kept_by(first)
    assert [one["format"] for one in kept] == workers * [1]
    (taught,) = (one["learned"]["margins"] for one in kept if one["learned"]["margins"])
    again = spawn(Gateway, config, "--workers", str(workers))
    again.wait_for(lambda: len(again.events(TAKEN_UP)) == workers)
    all_serve(again, workers)
    assert again.stop() == 0
    for one in kept_by(again):
        # Of a process alone all is its own.
        assert one["learned" if workers == 1 else "taken_up"]["margins"] == taught


async def test_a_file_that_is_none_is_a_warning_and_replaced(spawn, config):
    one = spawn(Gateway, config)
    file = one.path.parent / "learned.json"
    assert one.stop() == 0
    file.write_bytes(b'{"format":1,"lear')
    again = spawn(Gateway, config)
    assert "nothing is known from before" in again.tail
    await served(again, 3)
    assert again.stop() == 0
    assert json.loads(file.read_bytes())["learned"]["lengths"]
