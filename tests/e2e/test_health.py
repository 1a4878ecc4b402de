"""An endpoint that goes away is taken out, and taken back when it returns."""

import asyncio
import contextlib

import pytest

from router.app.loading import load
from router.lab.emulator.server import EmulatedEndpoint
from tests.e2e.harness import GREEN, NEAR, Gateway, base, pair, until

HEALTH = {
    "probe_s": 0.2, "base_ejection_s": 0.3, "consecutive_failures": 3, "busy_s": 0.1,
}  # fmt: skip


@contextlib.asynccontextmanager
async def emulated(gateway, name):
    """One endpoint of the gateway's file, served by this process while the block runs."""
    fleet = load(gateway.path).fleet
    (wanted,) = (one for one in fleet.endpoints if one.name == name)
    server = EmulatedEndpoint(wanted, fleet)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.serve())
        await server.ready.wait()
        yield
        task.cancel()


async def state(gateway, name):
    return (await gateway.endpoints())[name]["state"]


def becomes(gateway, name, *wanted):
    async def there():
        return await state(gateway, name) in wanted

    return until(there, f"{name} becoming {wanted}")


@pytest.fixture
def gateway(spawn, tmp_path):
    """A gateway that starts with nothing behind it."""
    config = base(pair(), health=HEALTH)
    config["server"]["drain_s"] = 1

    class Early(Gateway):
        def _is_ready(self):
            return bool(self.events("serving"))

    return spawn(Early, config)


async def test_an_endpoint_that_dies_is_taken_out_and_taken_back(gateway):
    async with emulated(gateway, NEAR), gateway.client() as client:
        async with emulated(gateway, GREEN):
            await becomes(gateway, GREEN, "healthy", "probing")
            await becomes(gateway, NEAR, "healthy", "probing")
            await until(lambda: answered_by(client, GREEN), "the greener one answering")
            await becomes(gateway, GREEN, "healthy")
        # It is gone: requests move on by themselves until it is out.
        receipts = [await client.receipt() for _ in range(5)]
        assert {receipt["endpoint"] for receipt in receipts} == {NEAR}
        await becomes(gateway, GREEN, "ejected")
        assert await gateway.total("ejections_total", endpoint=GREEN) >= 1.0
        assert (await client.receipt())["endpoint"] == NEAR
        async with emulated(gateway, GREEN):
            await until(lambda: answered_by(client, GREEN), "the greener one answering again")
            await becomes(gateway, GREEN, "healthy")


async def answered_by(client, name):
    try:
        return (await client.receipt())["endpoint"] == name
    except Exception:
        return False


async def test_a_model_that_nobody_serves_is_refused_until_somebody_does(gateway):
    async with gateway.client() as client:
        await becomes(gateway, GREEN, "ejected")
        told = await client.refusal()
        assert told[0] == "UNAVAILABLE"
        assert told[1] in ("no_feasible_endpoint", "upstream_fault")
        async with emulated(gateway, GREEN), emulated(gateway, NEAR):
            await until(lambda: answered_by(client, GREEN), "an answer")

            async def ready():
                return (await gateway.readiness())[0] == 200

            await until(ready, "readiness")
    await until(gateway.idle)
