"""Limits of principals over the processes of one gateway: all of it where all requests come."""

import asyncio
import contextlib
import hashlib

import grpc
import pytest
import yaml

from tests.e2e.harness import Gateway, ask, base, emulator, pair, until
from tests.state.redis.servers import Server

PER_S = 20.0
KEY = "crk_limitedaaaaa_" + "Zq7Xw1Vb" * 5 + "abc"
WATCHED_S = 4.0
AT_ONCE = 6
KEYS = {
    "version": 1,
    "principals": [
        {
            "name": "limited",
            "limits": {"requests_per_s": PER_S},
            "keys": [{"id": KEY[4:16], "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
        }
    ],
}
HEADERS = (("authorization", f"Bearer {KEY}"),)


@pytest.fixture
def gateway(spawn, tmp_path):
    config = base(pair(), identity={"keys_file": "keys.yaml"})
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(KEYS))
    spawn(emulator, config)
    return spawn(Gateway, config, "--workers", "2")


async def asked(client):
    """The worker that answered; None where the limit was used up, or nothing can be had yet."""
    call = client.infer(ask(), HEADERS)
    try:
        await call
    except grpc.aio.AioRpcError:
        return None
    trailers = dict(await call.trailing_metadata())
    return trailers["x-carbon"].removeprefix('id="').partition("-")[0][:-10]


async def let_in(clients):
    """(how many, in how many seconds) while each asks for more than all may have."""
    loop = asyncio.get_running_loop()
    began, count = loop.time(), 0

    async def ask_on(client):
        nonlocal count
        while loop.time() - began < WATCHED_S:
            is_let_in = await asked(client) is not None
            count += is_let_in
            await asyncio.sleep(0.02)

    await asyncio.gather(*(ask_on(client) for client in clients for _ in range(AT_ONCE)))
    return count, loop.time() - began


async def of_another(stack, gateway, worker):
    """A client whose connection another worker than ``worker`` has."""

    async def connected():
        client = await stack.enter_async_context(gateway.client())

        async def answered():
            return await asked(client)

        return client if await until(answered, "an answer") != worker else None

    return await until(connected, "a connection to the other worker")


async def test_one_connection_has_most_of_a_limit_and_two_no_more_than_all_of_it(gateway):
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(gateway.client())

        async def answered():
            return await asked(client)

        worker = await until(answered, "an answer")

        async def has_most():
            count, seconds = await let_in([client])
            # An even part would be half, and half a second's burst.
            return count - PER_S / 2.0 > 0.6 * PER_S * seconds

        await until(has_most, "one connection having more than half of the limit")
        clients = [client, await of_another(stack, gateway, worker)]
        count, seconds = await let_in(clients)
        # A second's burst, one request in each bucket at least, and a round of an even part.
        assert count <= PER_S * seconds + PER_S + 2 + PER_S / 2.0
        # Both together are not worse off than one.

        async def have_most():
            count, seconds = await let_in(clients)
            assert count <= PER_S * seconds + PER_S + 2 + PER_S / 2.0
            return count - PER_S / 2.0 > 0.6 * PER_S * seconds

        await until(have_most, "two connections having more than half of the limit")


@pytest.fixture
def two(spawn, tmp_path):
    """Two gateways on one store."""
    store = Server().start()
    changes = {"identity": {"keys_file": "keys.yaml"}, "state": {"redis": {"url": store.url}}}
    config = base(pair(), **changes)
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(KEYS))
    spawn(emulator, config)
    made = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "keys.yaml").write_text(yaml.safe_dump(KEYS))
        own = {**config, "server": base([])["server"]}
        made.append(spawn(lambda _, own=own, folder=folder: Gateway(folder, own)))
    yield made
    store.close()


async def test_at_one_of_two_gateways_on_a_store_a_connection_has_most_of_a_limit(two):
    async def together():
        return all([await one.total("gateway_processes") == 2.0 for one in two])

    await until(together, "both seeing each other")
    async with two[0].client() as client:

        async def has_most():
            count, seconds = await let_in([client])
            assert count <= PER_S * seconds + PER_S + 2 + PER_S / 2.0
            return count - PER_S / 2.0 > 0.6 * PER_S * seconds

        await until(has_most, "one connection having more than half of the limit")
