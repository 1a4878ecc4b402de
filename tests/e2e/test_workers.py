"""``--workers 2``: both serve, a killed one is replaced, and metrics are of all of them."""

import asyncio
import os
import signal

from tests.e2e.harness import GREEN, Gateway, base, emulator, pair, until

LOOKS = 60  # connections until both workers were seen: a fair coin fails once in 10^18


def worker_of(receipt):
    """Process id in a decision id: hex, before six random digits and the request's number."""
    return int(receipt["decision-id"].partition("-")[0][:-6], 16)


async def ask_around(gateway, looks=LOOKS):
    """Policy by worker, of those that answer; each connection is to whichever the kernel picks."""
    seen, answered = {}, 0
    while len(seen) < 2 and answered < looks:
        async with gateway.client() as client:
            receipt = await client.receipt()
        seen[worker_of(receipt)] = receipt["policy"]
        answered += 1
    return seen, answered


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_two_workers(spawn):
    config = base(pair(), health={"probe_s": 0.5})
    spawn(emulator, config)
    gateway = spawn(Gateway, config, "--workers", "2")
    both, answered = await ask_around(gateway)
    assert len(both) == 2
    assert gateway.pid not in both

    async def counted():
        return await gateway.total("requests_total", code="OK") == answered

    await until(counted, "every answer of both workers being counted")

    victim, survivor = both
    os.kill(victim, signal.SIGKILL)

    async def buried():
        return not alive(victim)

    await until(buried, "the dead worker being taken away")

    async def replaced():
        # While one is missing the other one serves.
        nonlocal answered
        workers, more = await ask_around(gateway, 5)
        answered += more
        return workers.keys() - both.keys()

    (successor,) = await until(replaced, "a new worker answering")
    assert alive(survivor)
    # The dead worker's answers stay in the totals; its gauges must not.
    await until(counted, "every answer of all three workers being counted")
    assert await gateway.total("endpoint_state", endpoint=GREEN) == 2.0

    gateway.write(policy="latency-first")
    gateway.tell(signal.SIGHUP)

    async def everywhere():
        policies, _ = await ask_around(gateway)
        return policies == dict.fromkeys((survivor, successor), "latency-first")

    await until(everywhere, "both workers having reloaded")

    gateway.tell(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait) == 0
    assert not alive(survivor)
    assert not alive(successor)
