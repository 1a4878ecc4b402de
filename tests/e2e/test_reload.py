"""SIGHUP under constant load: policy and fleet change, and no request notices."""

import asyncio
import contextlib
import signal

import pytest

from tests.e2e.harness import (
    GREEN,
    NEAR,
    WHOLE_RECEIPT,
    Gateway,
    answers,
    ask,
    base,
    emulator,
    endpoint,
    pair,
    until,
)
from tests.ports import free_ports

CALLERS = 6
THIRD = "green-1"


@pytest.fixture(scope="module")
def started(spawn_once):
    """A gateway on two of three emulated endpoints."""
    (port,) = free_ports(1)
    two = pair()
    third = endpoint(THIRD, "north", f"127.0.0.1:{port}")
    config = base(two)
    config["server"]["drain_s"] = 10
    spawn_once(emulator, {**config, "endpoints": [*two, third]})
    gateway = spawn_once(Gateway, config)
    return gateway, two, third


@pytest.fixture
async def fleet(started):
    """That gateway, which goes by the file that it was started with again afterwards."""
    yield started
    gateway, *_ = started
    await until(gateway.idle, "in-flight back to zero")
    gateway.write()
    await hang_up(gateway)


class Load:
    """Callers that never pause, unary and streamed; every answer is kept, every failure too."""

    def __init__(self, client):
        self.client = client
        self.places = []
        self.policies = []
        self.failures = []

    async def call(self, number):
        while True:
            try:
                if number % 2:
                    receipt = await self.client.receipt()
                else:
                    receipt = await self.streamed()
                self.places.append(receipt["endpoint"])
                self.policies.append(receipt["policy"])
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.failures.append(error)

    async def streamed(self):
        call = self.client.stream(ask(), metadata=WHOLE_RECEIPT)
        messages = answers([message async for message in call])
        if len(messages) != 4 or any(one.error_message for one in messages):
            raise AssertionError(messages)
        trailers = await call.trailing_metadata()
        return {key.removeprefix("x-carbon-"): value for key, value in trailers}

    async def sees(self, *wanted, policy="carbon-first"):
        """Return once requests are answered by ``wanted`` only, and by this policy."""
        await self.count(CALLERS)  # those that are under way

        async def there():
            mark = len(self.places)
            await self.count(2 * CALLERS)
            return {policy} == set(self.policies[mark:]) and set(self.places[mark:]) <= {*wanted}

        await until(there, f"{wanted} answering")

    async def count(self, more):
        enough = len(self.places) + more
        async with asyncio.timeout(30.0):
            while len(self.places) < enough:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def constant_load(gateway):
    async with gateway.client() as client, asyncio.TaskGroup() as group:
        load = Load(client)
        callers = [group.create_task(load.call(number)) for number in range(CALLERS)]
        yield load
        for caller in callers:
            caller.cancel()


async def hang_up(gateway, message="reloaded"):
    """Send SIGHUP and wait for its one more line in the log."""
    before = len(gateway.events(message))
    gateway.tell(signal.SIGHUP)

    async def said():
        return len(gateway.events(message)) > before

    await until(said, message)
    return gateway.events(message)[-1]


async def test_a_reload_under_load_costs_no_request(fleet):
    gateway, (green, near), third = fleet
    async with constant_load(gateway) as load:
        await load.sees(GREEN)
        gateway.write(policy="latency-first")
        assert (await hang_up(gateway))["policy"] == "latency-first"
        await load.sees(NEAR, policy="latency-first")
        gateway.write(endpoints=[green, near, third], policy="carbon-first")
        await hang_up(gateway)
        await load.sees(GREEN, THIRD)
        # Without a pause between them: the last one counts.
        for _ in range(5):
            gateway.tell(signal.SIGHUP)
        gateway.write(endpoints=[near, third])
        await hang_up(gateway)
        await load.sees(THIRD)
        gateway.write(endpoints=[near])
        await hang_up(gateway)
        await load.sees(NEAR)
        gateway.write()
        await hang_up(gateway)
        await load.sees(GREEN)
    assert load.failures == []
    assert len(load.places) > 100


async def test_requests_on_an_endpoint_that_is_removed_finish(fleet):
    """A unary call and a stream of a second each, to a server that is gone from the file."""
    gateway, (_, near), _ = fleet
    async with gateway.client() as client, asyncio.TaskGroup() as group:
        unary = group.create_task(client.receipt(ask(output_tokens=1000)))
        stream = client.stream(ask(output_tokens=1000))
        first = await anext(aiter(stream))

        async def both_there():
            return (await gateway.endpoints())[GREEN]["in_flight"] == 2

        await until(both_there, "both requests being under way")
        gateway.write(endpoints=[near])
        await hang_up(gateway)
        assert set(await gateway.endpoints()) == {NEAR}
        assert (await client.receipt())["endpoint"] == NEAR
        rest = [message async for message in stream]
        trailers = dict(await stream.trailing_metadata())
    assert unary.result()["endpoint"] == GREEN
    assert [one.error_message for one in answers([first, *rest])] == [""] * 1000
    assert f'endpoint="{GREEN}"' in trailers["x-carbon"]

    async def hung_up():
        _, upstream, _ = gateway.open_files()
        return upstream == 1

    await until(hung_up, "the connection to the removed endpoint being closed")


async def test_a_removed_endpoint_that_hangs_is_let_go_in_the_end(fleet):
    """What had no answer from it yet moves on, as after any fault."""
    gateway, (_, near), _ = fleet
    gateway.write(server={**gateway.config["server"], "drain_s": 0.3})
    await hang_up(gateway)
    async with gateway.client() as client:
        stuck = client.infer(ask(), (("x-emulate-fault", "hang"),), None)

        async def there():
            return (await gateway.endpoints())[GREEN]["in_flight"] == 1

        await until(there, "the request being under way")
        gateway.write(server={**gateway.config["server"], "drain_s": 0.3}, endpoints=[near])
        await hang_up(gateway)

        async def moved():
            return (await gateway.endpoints())[NEAR]["in_flight"] == 1

        await until(moved, "the request moving on")
        assert (await client.receipt())["endpoint"] == NEAR
        stuck.cancel()
        await until(gateway.idle)


BAD = {
    "unknown key": lambda config: {"servr": {}},
    "no endpoint": lambda config: {"endpoints": []},
    "duplicate": lambda config: {"endpoints": [config["endpoints"][0]] * 2},
    "unknown zone": lambda config: {"carbon": {"sources": [{"kind": "climatology"}]}},
    "missing trace": lambda config: {"carbon": {"sources": [{"kind": "trace", "file": "no.csv"}]}},
    "another clock": lambda config: {"clock": {"start": "2022-05-14T00:00Z"}},
}


async def test_a_bad_file_is_refused_and_the_old_one_stays_in_force(fleet):
    gateway, _, _ = fleet
    refused = "reload refused, the old configuration stays"
    async with constant_load(gateway) as load:
        await load.sees(GREEN)
        for change in BAD.values():
            gateway.write(**change(gateway.config))
            await said(gateway, refused)
        for content in (b"", b"{", b"\x00\xff\xfe", b"a: &a [*a]"):
            gateway.path.write_bytes(content)
            await said(gateway, refused)
        gateway.path.unlink()
        await said(gateway, refused)
        await load.sees(GREEN)
        gateway.write(policy="latency-first")
        await hang_up(gateway)
        await load.sees(NEAR, policy="latency-first")
    assert load.failures == []
    status, state = await gateway.readiness()
    assert (status, state["status"]) == (200, "ready")


async def said(gateway, start):
    """SIGHUP, and wait for one more line of the log that begins like this."""

    def lines():
        return gateway.log.read_text().count(f'"message": "{start}')

    before = lines()
    gateway.tell(signal.SIGHUP)

    async def more():
        return lines() > before

    await until(more, start)


async def test_what_takes_a_restart_is_said(fleet):
    gateway, _, _ = fleet
    gateway.write(server={**gateway.config["server"], "max_message_mib": 3})
    # Room for four of the largest messages, unless the file says otherwise.
    assert (await hang_up(gateway))["needs_restart"] == [
        "server.max_message_mib: takes a restart",
        "server.max_buffered_mib: takes a restart",
    ]
