"""A gateway and the Redis that it shares with others, both as processes."""

import pytest

from tests.e2e.harness import Gateway, ask, base, emulator, pair, until
from tests.long import LONG
from tests.state.redis.servers import Server


@pytest.fixture
def redis():
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=LONG)])
async def test_it_serves_without_redis_says_so_and_is_whole_again(spawn, redis, workers):
    config = base(pair(), state={"redis": {"url": redis.url}})
    spawn(emulator, config)
    # Nobody listens yet.
    gateway = spawn(Gateway, config, "--workers", str(workers))

    async def failing():
        status, readiness = await gateway.readiness()
        reasons = {reason["reason"] for reason in readiness["reasons"]}
        assert status == 200
        return "state_store_failing" in reasons

    async def answering():
        answered = await gateway.total("state_store_calls_total", outcome="answered")
        return answered > 0 and not await failing()

    async def whole():
        return not await failing()

    await until(failing, "it says that the store fails")
    async with gateway.client() as client:
        assert "state_store_failing" in (await client.receipt(ask()))["flags"]
    assert await gateway.total("state_store_calls_total", outcome="unreachable") > 0
    redis.start()
    await until(answering, "it finds the store")
    redis.pause()
    try:
        await until(failing, "it says that the store hangs")
        async with gateway.client() as client:
            await client.receipt(ask())
    finally:
        redis.resume()
    await until(whole, "it goes on with the store")
    async with gateway.client() as client:
        assert "state_store_failing" not in (await client.receipt(ask())).get("flags", "")
    # Told once a change, by each process.
    assert len(gateway.events("state store: it answers again")) <= 2 * workers
    assert gateway.stop() == 0
    assert redis.clients() == 0
