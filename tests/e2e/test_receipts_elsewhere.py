"""Receipts by id, whichever worker or gateway is asked: as processes, with shipped defaults."""

import asyncio
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.e2e.harness import Gateway, base, emulator, get, pair, until
from tests.e2e.test_http import Http
from tests.ports import free_ports
from tests.state.redis.servers import Server

ANSWERS = 12


@pytest.fixture
def redis():
    made = Server().start()
    yield made
    made.close()


@pytest.fixture
def start(spawn, tmp_path):
    """Starts gateways of one fleet, each in a folder of its own, beside the event loop."""
    fleet = pair(protocol="openai")

    def configured(**changes):
        config = base(fleet, **changes)
        (http,) = free_ports(1)
        config["server"]["http"] = f"127.0.0.1:{http}"
        return config

    def one(name, state, workers):
        folder = tmp_path / name
        folder.mkdir()
        config = configured(state=state)
        return spawn(lambda _: Gateway(folder, config, "--workers", str(workers)))

    spawn(emulator, configured())

    async def started(name, state, workers=1):
        gateway = await asyncio.to_thread(one, name, state, workers)

        async def ready():
            return (await gateway.readiness())[1]["status"] == "ready"

        await until(ready, f"{name} is ready")
        return gateway

    return started


async def answered(gateway, **headers):
    """Decision ids of answers, each on a connection of its own, so that all workers answer."""
    found = []
    for _ in range(ANSWERS):
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            client = Http(session, gateway.config["server"]["http"])
            found.append((await client.carbon(**headers))["id"])
    return found


async def asked(gateway, decision_id):
    """(status, what is told, or the error), on a connection of its own."""
    status, body = await get(gateway.config["server"]["http"], f"/v1/carbon/receipts/{decision_id}")
    told = json.loads(body)
    return status, told if status == 200 else told["error"]


async def test_whichever_worker_is_asked_tells(start):
    gateway = await start("a", {}, workers=3)
    ids = await answered(gateway)
    # Of more than one of them.
    assert len({decision_id.partition("-")[0] for decision_id in ids}) > 1
    for decision_id in ids:
        for _ in range(6):
            status, told = await asked(gateway, decision_id)
            assert (status, told["decision_id"]) == (200, decision_id), told
    assert (await asked(gateway, ids[0] + "0"))[0] == 404
    assert gateway.stop() == 0


async def test_whichever_gateway_is_asked_tells_and_says_so_when_it_cannot(start, redis):
    state = {"redis": {"url": redis.url}}
    fleet = [await start("a", state), await start("b", state, workers=2), await start("c", state)]
    ids = [decision_id for gateway in fleet for decision_id in await answered(gateway)]
    for decision_id in ids:
        seen = []
        for gateway in fleet:
            status, told = await asked(gateway, decision_id)
            assert status == 200, told
            seen.append(told)
        # The same to the last digit, whoever tells it.
        assert seen == [seen[0]] * len(fleet)
    of_a_tenant = (await answered(fleet[0], x_tenant="acme"))[0]
    for gateway in fleet:
        status, error = await asked(gateway, of_a_tenant)
        assert (status, error["code"]) == (404, "receipt_unknown")

    async def counted():
        stored = await fleet[0].total("receipts_shared_total", outcome="stored")
        return stored == 2 * ANSWERS

    await until(counted, "all are stored")
    redis.pause()
    try:
        (own, *_), other = await answered(fleet[0]), ids[-1]
        status, error = await asked(fleet[0], other)
        assert (status, error["code"]) == (503, "receipts_unreachable")
        assert "may exist there" in error["message"]
        assert (await asked(fleet[0], own))[0] == 200
    finally:
        redis.resume()

    async def elsewhere():
        return (await asked(fleet[2], own))[0] == 200

    # What could not be sent then is sent now.
    await until(elsewhere, "the receipt of while the store hung")
    assert all(gateway.stop() == 0 for gateway in fleet)
