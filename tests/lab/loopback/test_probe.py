import asyncio
from dataclasses import replace

from router.lab.loopback import probe as module
from router.lab.loopback.probe import PathProbe
from router.model import ServedModel
from tests.lab.emulator.fleets import FAST, TASK, endpoint, fleet, serving

LONG_S = 30.0  # of any wait that should end at once: only a defect reaches it


def served(profile, address="127.0.0.1:0"):
    return replace(endpoint(address=address), models=(ServedModel("llama", "", profile, 8192.0),))


async def test_a_probe_tells_what_is_beyond_its_emulated_time(monkeypatch):
    """Servers 40 ms farther than the table says, as a wrong table would have it."""
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    async with serving(fleet(served(FAST), rtt_ms=40.0)) as (emulated, _), asyncio.timeout(LONG_S):
        probe = PathProbe(fleet(served(FAST, emulated.address)), ["home", "far"])
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(probe.run())
            while len(probe.added_ms) < 4 and not running.done():
                await asyncio.sleep(0.005)
            running.cancel()
    # Nothing comes early; how late it comes is this machine's.
    assert min(probe.added_ms) > 39.0


async def test_only_models_of_tokens_are_probed():
    async with asyncio.timeout(LONG_S):
        probe = PathProbe(fleet(served(TASK)), ["home"])
        await probe.run()
    assert probe.added_ms == []
