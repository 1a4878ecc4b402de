"""SIGTERM: what is under way finishes, nothing new begins, and it all ends in bounded time."""

import asyncio
import signal

import grpc
import pytest

from tests.e2e.harness import Gateway, ask, base, emulator, pair, until

LONG = {"output_tokens": 700}  # tokens of a millisecond each


@pytest.fixture
def gateway(spawn):
    config = base(pair())
    config["server"]["drain_s"] = 20
    spawn(emulator, config)
    return spawn(Gateway, config)


async def under_way(gateway, count):
    async def there():
        return await gateway.in_flight() == count

    await until(there, f"{count} requests being under way")


async def test_a_shutdown_loses_nothing_and_takes_nothing_new(gateway):
    async with gateway.client() as client, gateway.client() as idle:
        await idle.receipt()
        quiet = idle.stream_kept_open()
        stream = client.stream(ask(**LONG))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(client.receipt(ask(**LONG))) for _ in range(5)]
            streamed = group.create_task(collected(stream))
            await under_way(gateway, 6)
            gateway.tell(signal.SIGTERM)

            async def draining():
                return (await gateway.readiness())[0] == 503

            await until(draining, "readiness turning")
            _, state = await gateway.readiness()
            assert [reason["reason"] for reason in state["reasons"]] == ["draining"]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async with gateway.client() as late:
                    await late.infer(ask(), timeout=5.0)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await idle.infer(ask(), timeout=5.0)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await gateway.in_flight() > 0, "it was too quick to see it drain"
        assert len(streamed.result()) == LONG["output_tokens"]
        assert all(float(one.result()["gco2e"]) > 0.0 for one in asked)
        # A stream on which nothing runs does not hold it up.
        assert await quiet.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)
    assert await asyncio.to_thread(gateway.wait) == 0
    assert gateway.events("draining")


async def collected(call):
    return [message async for message in call]


async def test_what_does_not_end_is_cut_off_in_time(spawn):
    """Requests that hang and have no deadline, unary and streamed."""
    config = base(pair())
    config["server"]["drain_s"] = 0.5
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    hang = (("x-emulate-fault", "hang"),)
    async with gateway.client() as client:
        stuck = [client.infer(ask(), hang, None) for _ in range(3)]
        streams = [client.stream(ask(), metadata=hang, timeout=None) for _ in range(3)]
        await under_way(gateway, 6)
        gateway.tell(signal.SIGTERM)
        # Ten times what it may take: a hang would be 900 s.
        assert await asyncio.to_thread(gateway.wait, 10.0) == 0
        for call in (*stuck, *streams):
            code = await call.code()
            assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert "Traceback" not in gateway.log.read_text()


async def test_an_idle_gateway_ends_at_once_on_either_signal(spawn):
    config = base(pair())
    gateway = spawn(Gateway, config)
    gateway.tell(signal.SIGINT)
    assert await asyncio.to_thread(gateway.wait, 10.0) == 0
