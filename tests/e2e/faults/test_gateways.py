"""A gateway that is killed, told to stop or to reload, or loses a worker, under load."""

import asyncio
import contextlib
import os
import signal
import struct
from pathlib import Path

import pytest

from tests.e2e.faults.fleet import FRONTS, How, Pair, brown, green
from tests.e2e.faults.fronts import OK, TORN, Seen, caller, callers
from tests.e2e.faults.loads import answered, beside, under_load
from tests.e2e.faults.promises import within
from tests.e2e.harness import SERVICE, Gateway, until
from tests.gateway.oip.raw_http2 import (
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    literal,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = {"calm": Pair(How.CALM), "held": Pair(How.SERVED)}


async def test_a_gateway_that_is_killed_takes_its_own_requests_with_it_and_no_others(
    running, gateway, record_property
):
    """Servers are free at once of what it had there, and one that starts anew serves."""
    loop = asyncio.get_running_loop()
    servers = [running.servers[green("held", front)] for front in FRONTS]
    for server in servers:
        server.does = "hang"
    async with beside(running, "killed") as victim:
        async with under_load(gateway, victim) as (survivors, victims), callers(victim) as both:
            await answered([*survivors, *victims])
            held = [asyncio.ensure_future(one.whole("held")) for one in both for _ in range(10)]
            await until(lambda: live(servers, 10), "requests hanging at servers")
            victim.process.kill()
            killed_at = loop.time()
            await until(lambda: live(servers, 0), "the servers being free")
            freed_at = loop.time()
            await answered(survivors)
        ended = await asyncio.gather(*held)
        assert {one.status for one in ended} == {TORN}
        for load in survivors:
            assert not load.lost
        for load in victims:
            assert {one.status for one in load.lost} == {TORN}
            assert all(one.ended_at >= killed_at - 0.1 for one in load.lost)
    within(record_property, "gateway killed: servers are free of it", freed_at - killed_at, 0.5)
    for server in servers:
        server.does = "answer"
    successor = await asyncio.to_thread(Gateway, victim.path.parent, victim.config)
    try:
        for front in FRONTS:
            async with caller(successor, front) as one:
                assert (await one.whole("calm")).place == green("calm", front)
    finally:
        assert await asyncio.to_thread(successor.stop) == 0


async def live(servers, count):
    return all(server.live == count for server in servers)


async def test_a_gateway_that_is_told_to_stop_answers_all_that_it_took(running, gateway):
    loop = asyncio.get_running_loop()
    async with beside(running, "stopped") as leaving:
        async with under_load(gateway, leaving) as (others, loads), callers(leaving) as both:
            await answered([*others, *loads])
            seen = [Seen() for _ in both]
            streams = [
                asyncio.ensure_future(one.stream("calm", so_far, tokens=1000))
                for one, so_far in zip(both, seen, strict=True)
            ]

            async def begun():
                return all(so_far.messages for so_far in seen)

            await until(begun, "streams being under way")
            told_at = loop.time()
            leaving.tell(signal.SIGTERM)
            assert await asyncio.to_thread(leaving.wait) == 0
            await answered(others)
        for stream in await asyncio.gather(*streams):
            assert stream.status == OK
            assert stream.messages >= 1000
        for load in others:
            assert not load.lost
        for load in loads:
            # Told, or not taken: never half.
            assert not [one for one in load.lost if one.sent_at < told_at - 0.05]
            told = {(one.status, one.reason, one.told) for one in load.lost if one.status != TORN}
            assert {reason for _, reason, _ in told} <= {"draining"}, told


async def test_reloads_and_files_that_are_refused_cost_no_request_over_either_front(
    running, gateway
):
    retried = await gateway.total("retries_total")
    endpoints = gateway.config["endpoints"]
    without = [one for one in endpoints if not one["name"].startswith("calm")]
    async with under_load(gateway) as (loads,):
        await answered(loads)
        for changes, places in (
            ({"policy": "latency-first"}, brown),
            ({}, lambda front: green("calm", front)),
            ({"endpoints": without}, brown),
            ({}, lambda front: green("calm", front)),
        ):
            gateway.write(**changes)
            await reloaded(gateway)
            await until(lambda p=places: all_at(loads, p), "traffic going where it should")
        gateway.path.write_text("nonsense: {")
        await reloaded(gateway, "refused")
        await answered(loads)
        gateway.write()
        await reloaded(gateway)
        await answered(loads)
    for load in loads:
        assert not load.lost
    assert await gateway.total("retries_total") == retried


async def reloaded(gateway, outcome="applied"):
    before = await gateway.total("reloads_total", outcome=outcome)
    gateway.tell(signal.SIGHUP)

    async def done():
        return await gateway.total("reloads_total", outcome=outcome) > before

    await until(done, "the reload")


async def all_at(loads, places):
    mark = asyncio.get_running_loop().time()
    await answered(loads, 10)
    return all(
        {one.place for one in load.sent_after(mark)} <= {places(load.front)} for load in loads
    )


HALF_HEADS = [
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n{",
]


def half_calls():
    """What begins a call over gRPC and does not end: within its headers, and within its message."""
    path = SERVICE.encode() + b"ModelInfer"
    fields = (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    )  # fmt: skip
    head = frame(HEADERS, END_HEADERS, 1, b"".join(literal(*field) for field in fields))
    begun = PREFACE + frame(SETTINGS, 0, 0)
    message = b"\x00" + struct.pack(">I", 90_000) + b"x"
    return [begun + head[:20], begun + head + frame(DATA, 0, 1, message)]


async def test_callers_that_never_finish_what_they_begin_hold_up_nobody(
    running, gateway, record_property
):
    """A hundred over each front, a byte each now and then; nothing of them reaches a server."""
    loop = asyncio.get_running_loop()
    places = ((gateway.address, half_calls()), (gateway.config["server"]["http"], HALF_HEADS))
    stop = asyncio.Event()

    async def trickle(writer):
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while not stop.is_set():
                writer.write(b"x")
                await asyncio.sleep(0.2)

    async with under_load(gateway) as (loads,), asyncio.TaskGroup() as group:
        await answered(loads, 30)
        begun_at = loop.time()
        for address, begins in places:
            for number in range(100):
                host, _, port = address.rpartition(":")
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(begins[number % 2])
                group.create_task(trickle(writer))
        await answered(loads, 50)
        busy = [one for one in (await gateway.endpoints()).values() if one["in_flight"] > 20]
        stop.set()
    assert not busy
    for load in loads:
        assert not load.lost
        before_s = load.quantile_s(0.5, before=begun_at)
        what = f"beside callers that trickle, half over {load.front} take"
        within(record_property, what, load.quantile_s(0.5, after=begun_at), before_s + 0.2)


async def test_a_worker_that_is_killed_under_load_takes_what_it_had_and_no_more(running, gateway):
    loop = asyncio.get_running_loop()
    async with beside(running, "workers", "--workers", "2") as shared:
        async with under_load(shared, each=4) as (loads,):
            await answered(loads)
            before = await workers(shared)
            assert len(before) == 2
            killed_at = loop.time()
            os.kill(before[0], signal.SIGKILL)

            async def replaced():
                now = await workers(shared)
                return len(now) == 2 and before[0] not in now

            await until(replaced, "a new worker")
            await until(lambda: quiet(shared), "all being well")
            well_at = loop.time()
            await answered(loads)
        lost = [one for load in loads for one in load.lost]
        # Its connections break once; whoever connects anew is served by the other one.
        assert {one.status for one in lost} <= {TORN}
        assert not [one for one in lost if one.sent_at > well_at]
        assert not [one for one in lost if one.sent_at > killed_at + 0.5], lost
        await until(shared.idle, "in-flight back to zero")


async def workers(gateway):
    """Process ids of the gateway's workers, by the kernel."""
    children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children")
    found = []
    for child in map(int, children.read_text().split()):
        with contextlib.suppress(OSError):
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                found.append(child)
    return found


async def quiet(gateway):
    states = [(await gateway.readiness())[1]["status"] for _ in range(6)]
    return states == ["ready"] * 6
