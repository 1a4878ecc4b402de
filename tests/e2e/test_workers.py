"""``--workers 2``: processes that are one gateway, whatever becomes of one, or of the parent."""

import asyncio
import contextlib
import os
import signal

import grpc
import pytest

from tests.e2e.harness import (
    GREEN,
    MODEL,
    Child,
    Gateway,
    ask,
    base,
    emulator,
    endpoint,
    pair,
    until,
)
from tests.ports import free_ports

SCARCE, SCARCE_MODEL = "scarce-0", "scarce"
LOOKS = 60  # connections until both workers were seen: a fair coin fails once in 10^18


def worker_of(receipt):
    """Process id in a decision id: hex, before ten random digits and the request's number."""
    return int(receipt["decision-id"].partition("-")[0][:-10], 16)


async def ask_around(gateway, looks=LOOKS, workers=2):
    """Policy by worker, of those that answer; each connection is to whichever the kernel picks."""
    seen, answered = {}, 0
    while len(seen) < workers and answered < looks:
        async with gateway.client() as client:
            receipt = await client.receipt()
        seen[worker_of(receipt)] = receipt["policy"]
        answered += 1
    return seen, answered


async def reload(gateway, **changes):
    """Have all of its workers read the file, with ``changes``."""
    gateway.write(**changes)
    gateway.tell(signal.SIGHUP)
    policy = {**gateway.config, **changes}["policy"]

    async def everywhere():
        policies, _ = await ask_around(gateway)
        return [*policies.values()] == [policy, policy]

    await until(everywhere, "both workers having reloaded")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def replaced(gateway, both, looks=LOOKS):
    """Return once a worker serves that is none of ``both``."""

    async def come():
        workers, _ = await ask_around(gateway, looks)
        return workers.keys() - both.keys()

    await until(come, "a new worker answering")


async def kill(pid):
    os.kill(pid, signal.SIGKILL)

    async def buried():
        return not alive(pid)

    await until(buried, "the dead worker being taken away")


async def told(gateway):
    """Reasons that whichever worker answers gives for not being quite ready."""
    status, body = await gateway.readiness()
    assert status == 200
    return {reason["reason"] for reason in body["reasons"]}


async def settled(gateway):
    """Both workers, once both serve."""
    await until(lambda: quiet(gateway), "both workers being ready")
    return await ask_around(gateway)


async def quiet(gateway):
    # Whichever answers each time: one of two is not heard once in 10^3.
    return not any([await told(gateway) for _ in range(10)])


@pytest.fixture(scope="module")
def gateway(spawn_once):
    """Two workers, shipped defaults; every test leaves two that serve by the first policy."""
    (port,) = free_ports(1)
    config = base(pair())
    scarce = {"name": SCARCE_MODEL, "profile": "fast@test"}
    config["endpoints"].append(
        endpoint(SCARCE, "north", f"127.0.0.1:{port}", models=[scarce], max_in_flight=2)
    )
    config["models"][SCARCE_MODEL] = config["models"][MODEL]
    spawn_once(emulator, config)
    return spawn_once(Gateway, config, "--workers", "2")


async def test_two_workers(gateway):
    # The first test of this gateway: it counts from none on.
    both, answered = await ask_around(gateway)
    assert len(both) == 2
    assert gateway.pid not in both

    async def counted():
        return await gateway.total("requests_total", code="OK") == answered

    await until(counted, "every answer of both workers being counted")
    victim, survivor = both
    await kill(victim)

    async def come():
        # While one is missing the other one serves.
        nonlocal answered
        workers, more = await ask_around(gateway, 5)
        answered += more
        return workers.keys() - both.keys()

    (successor,) = await until(come, "a new worker answering")
    assert alive(survivor)
    # The dead worker's answers stay in the totals; its gauges must not.
    await until(counted, "every answer of all three workers being counted")

    async def two_states():
        return await gateway.total("endpoint_state", endpoint=GREEN) == 2.0

    await until(two_states, "the new worker knowing the endpoint")
    await reload(gateway, policy="latency-first")
    assert (await ask_around(gateway))[0].keys() == {survivor, successor}
    await reload(gateway)


async def test_a_second_gateway_on_the_same_port_is_refused_in_clear_words(gateway):
    second = Child(gateway.path.parent, "second", "serve", str(gateway.path), "--workers", "2")
    assert await asyncio.to_thread(second.wait) == 2
    assert "server.listen: cannot listen on" in second.tail
    assert "share_port" in second.tail


async def test_the_cap_of_an_endpoint_is_that_of_all_workers(gateway):
    await settled(gateway)

    async def one():
        async with gateway.client() as client:
            try:
                return (await client.receipt(ask(SCARCE_MODEL, output_tokens=1500)))["endpoint"]
            except grpc.aio.AioRpcError as error:
                return dict(error.trailing_metadata())["x-carbon-reason"]

    ended = await asyncio.gather(*(one() for _ in range(12)))
    assert ended.count(SCARCE) == 2
    assert ended.count("shed") == 10
    await until(gateway.idle, "in-flight back to zero")


async def test_a_sequence_stays_whichever_worker_its_requests_reach(gateway):
    await settled(gateway)

    async def one(sequence):
        async with gateway.client() as client:
            receipt = await client.receipt(ask(sequence_id=sequence))
        return worker_of(receipt), receipt["endpoint"]

    for sequence in range(1, 9):
        seen = [await one(sequence) for _ in range(8)]
        assert len({endpoint for _, endpoint in seen}) == 1


async def test_a_refused_file_is_told_and_counted_by_all_until_a_good_one_comes(gateway):
    both, _ = await settled(gateway)
    good = gateway.path.read_text()
    before = {
        outcome: await gateway.total("reloads_total", outcome=outcome)
        for outcome in ("refused", "applied")
    }
    gateway.path.write_text("nonsense: {")
    gateway.tell(signal.SIGHUP)

    async def counted(outcome):
        return await gateway.total("reloads_total", outcome=outcome) == before[outcome] + 2.0

    await until(lambda: counted("refused"), "both workers refusing the file")
    assert await told(gateway) == {"reload_refused"}
    # One that is replaced meanwhile gets what is in force, not what lies on disk.
    await kill(next(iter(both)))
    await replaced(gateway, both)
    gateway.path.write_text(good)
    gateway.tell(signal.SIGHUP)
    await until(lambda: counted("applied"), "both workers taking the good file")
    await until(lambda: quiet(gateway), "nothing being amiss any more")


async def test_a_frozen_worker_is_told_of_by_the_other_and_replaced(gateway):
    both, _ = await settled(gateway)
    victim, survivor = both
    os.kill(victim, signal.SIGSTOP)

    async def gone():
        # A request may reach the frozen one; it is cut with it.
        with contextlib.suppress(grpc.aio.AioRpcError):
            async with gateway.client() as client:
                await client.receipt(timeout=1.0)
        return not alive(victim)

    await until(gone, "the frozen worker being ended")
    assert gateway.events("a worker stands still: killed")[0]["worker"] == victim
    after, _ = await settled(gateway)
    assert survivor in after
    assert len(after.keys() - both.keys()) == 1


# The last of this gateway.
async def test_workers_end_with_their_parent(gateway):
    both, _ = await settled(gateway)
    gateway.tell(signal.SIGKILL)
    gateway.wait()

    async def ended():
        return not any(alive(pid) for pid in both)

    await until(ended, "the workers ending")
    gateway.process.returncode = 0  # it was told to


async def test_a_second_gateway_may_share_the_port_when_it_says_so_and_ends_when_told(spawn):
    config = base(pair())
    config["server"]["share_port"] = True
    spawn(emulator, config)
    first = spawn(Gateway, config)
    second = spawn(Gateway, config, "--workers", "2")

    async def all_three():
        seen, _ = await ask_around(first, workers=3)
        return seen if len(seen) == 3 else None

    seen = await until(all_three, "one process and two workers answering on one port")
    assert first.pid in seen and second.pid not in seen
    second.tell(signal.SIGTERM)
    assert await asyncio.to_thread(second.wait) == 0
    assert [pid for pid in seen if alive(pid)] == [first.pid]


async def test_a_full_disk_costs_shared_metrics_and_no_worker(small_disk, spawn, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(small_disk))
    config = base(pair())
    spawn(emulator, config)
    gateway = spawn(Gateway, config, "--workers", "2")
    both, _ = await settled(gateway)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    await kill(next(iter(both)))
    await replaced(gateway, both)

    async def said():
        return "metrics_not_shared" in await told(gateway)

    await until(said, "the new worker saying what it lacks")
    assert len(gateway.events("a worker ended")) == 1
