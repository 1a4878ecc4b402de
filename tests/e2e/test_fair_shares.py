"""Emulated servers that are asked ten times what they can answer by one tenant, beside another."""

import asyncio
import hashlib

import grpc
import yaml

from tests.e2e.harness import Gateway, ask, base, emulator, pair, until

SECRET = "Rk3nPq8s" * 5 + "xyz"
FLOOD, QUIET = f"crk_floodaaaaaaa_{SECRET}", f"crk_quietaaaaaaa_{SECRET}"
PLACES = 8
ASKED = 20
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


def principal(text, tenant):
    key = {"id": text[4:16], "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return {"name": tenant, "tenant": tenant, "keys": [key]}


def bearer(text):
    return (("authorization", f"Bearer {text}"),)


async def had(client, key, length=150):
    """Whether one request is answered rather than shed."""
    try:
        await client.infer(ask(output_tokens=length), bearer(key))
    except grpc.aio.AioRpcError as error:
        assert error.code() is FULL, error.details()
        return False
    return True


async def flood(client, answered):
    """Ask again and again, whatever is said."""
    while True:
        answered.append(await had(client, FLOOD))
        await asyncio.sleep(0.02)


async def test_a_tenant_that_floods_is_shed_before_its_neighbour(spawn, tmp_path):
    config = base(pair(max_in_flight=PLACES // 2), identity={"keys_file": "keys.yaml"})
    listed = [principal(FLOOD, "flood"), principal(QUIET, "quiet")]
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"version": 1, "principals": listed}))
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    async with gateway.client() as client, gateway.client() as other:
        await until(lambda: had(client, QUIET), "an answer")
        answered = []
        async with asyncio.TaskGroup() as group:
            flooding = [group.create_task(flood(other, answered)) for _ in range(10 * PLACES)]
            await until(_any_shed(answered), "the fleet being full")
            # The first that comes may have to ask again; whoever is there has its share.
            await until(lambda: had(client, QUIET), "a place for who comes for the first time")
            quiet = [await had(client, QUIET) for _ in range(ASKED)]
            before = len(answered)
            # The same by the one that floods already: the fleet is as full as it looks.
            same = [await had(client, FLOOD) for _ in range(ASKED)]
            flooded = answered[before:]
            for task in flooding:
                task.cancel()
        assert sum(quiet) >= ASKED - 1
        assert sum(same) <= ASKED // 2
        # What the others leave is used.
        assert any(flooded) and not all(flooded)
        await until(gateway.idle, "in-flight back to zero")


def _any_shed(answered):
    async def look():
        return answered.count(False) > 5 * PLACES

    return look
