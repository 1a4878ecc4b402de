"""Names that move: when connections follow them, and what becomes of the calls under way."""

import asyncio
import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.backends import names as module
from router.backends.names import NameWatch, SystemResolver, has_moved, is_name
from router.backends.oip.backend import GrpcBackend, _target
from router.errors import UpstreamLostError
from tests.backends.oip.upstreams import soon, upstream
from tests.director.support import Hands

HOSTS = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), min_size=1, unique=True)


class Names:
    """A resolver and what it is asked; an exception is raised instead of an answer."""

    def __init__(self, **hosts):
        self.hosts = hosts
        self.asked = []
        self.clock = Hands()
        self.redirected = []
        self.watch = NameWatch(self.resolve, [self], self.clock)

    async def resolve(self, host):
        self.asked.append(host)
        answer = self.hosts[host]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def redirect(self, address, hosts):
        self.redirected.append((address, hosts))

    async def look(self, *addresses):
        self.clock.advance(3.0)
        return await self.watch.look(addresses)


async def test_a_name_that_moves_is_told_once():
    names = Names(west=["10.0.0.1"])
    assert await names.look("west:8001") == []
    names.hosts["west"] = ["10.0.0.2"]
    assert await names.look("west:8001") == [("west:8001", ("10.0.0.2",))]
    assert await names.look("west:8001") == []


async def test_a_name_of_several_endpoints_is_asked_for_once_and_moves_for_all():
    names = Names(west=["10.0.0.1"])
    await names.look("west:8001", "west:8002")
    names.hosts["west"] = ["10.0.0.2"]
    moved = await names.look("west:8001", "west:8002")
    assert [address for address, _ in moved] == ["west:8001", "west:8002"]
    assert names.asked == ["west", "west"]


@pytest.mark.parametrize("failure", [OSError("no such name"), TimeoutError(), [], UnicodeError()])
async def test_a_name_that_cannot_be_resolved_has_not_moved(failure):
    names = Names(west=["10.0.0.1"])
    await names.look("west:8001")
    names.hosts["west"] = failure
    assert await names.look("west:8001") == []
    names.hosts["west"] = ["10.0.0.1"]
    assert await names.look("west:8001") == []


async def test_what_left_the_fleet_is_forgotten():
    names = Names(west=["10.0.0.1"], east=["10.0.0.9"])
    await names.look("west:8001")
    await names.look("east:8001")
    assert list(names.watch._known) == ["east:8001"]


async def test_it_goes_on_for_ever_and_does_not_wait_for_old_calls(monkeypatch):
    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    names = Names(west=["10.0.0.1"])
    never = asyncio.Event()

    async def redirect(address, hosts):
        names.redirected.append(hosts)
        await never.wait()

    names.redirect = redirect
    async with asyncio.timeout(20.0), asyncio.TaskGroup() as group:
        running = group.create_task(names.watch.run(lambda: ["west:8001", "10.0.0.7:8001"]))
        for number in range(3):
            names.hosts["west"] = [f"10.0.1.{number}"]
            while len(names.redirected) < number:
                await asyncio.sleep(0)
            seen = len(names.asked)
            while len(names.asked) < seen + 3:
                await asyncio.sleep(0)
        running.cancel()
    assert names.redirected == [("10.0.1.1",), ("10.0.1.2",)]
    assert set(names.asked) == {"west"}


@given(known=HOSTS, found=HOSTS, since_s=st.floats(0.0, 1e6))
def test_connections_follow_at_once_only_when_no_address_is_left(known, found, since_s):
    moved = has_moved(known, found, since_s)
    if set(known) <= set(found):
        assert not moved
    if not set(known) & set(found):
        assert moved
    if since_s < 30.0 and set(known) & set(found):
        assert not moved
    assert has_moved(known, found, 30.0) == (not set(known) <= set(found))


@pytest.mark.parametrize(
    ("address", "name"),
    [("west:1", True), ("localhost:1", True), ("10.0.0.1:1", False), ("[::1]:1", False)],
)
def test_only_names_can_move(address, name):
    assert is_name(address) == name


@pytest.mark.parametrize(
    ("hosts", "target"),
    [
        (["10.0.0.1"], "ipv4:10.0.0.1:8001"),
        (["10.0.0.1", "10.0.0.2"], "ipv4:10.0.0.1:8001,10.0.0.2:8001"),
        (["fd00::1"], "ipv6:[fd00::1]:8001"),
        (["10.0.0.1", "fd00::1"], "west:8001"),
    ],
)
def test_addresses_of_one_family_are_a_target(hosts, target):
    assert _target("west:8001", hosts) == target


async def test_the_host_resolves_its_own_names():
    resolver = SystemResolver()
    assert "127.0.0.1" in await soon(resolver("localhost"))
    with pytest.raises(OSError):
        await soon(resolver("no-such-host.invalid"))
    resolver.close()


# Connections that follow


@pytest.fixture
async def backend():
    made = GrpcBackend()
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def two_servers():
    """Two servers on one port of two loopback addresses, and the name that stands for the first."""
    async with upstream("127.0.0.1") as first:
        port = int(first.endpoint.address.rpartition(":")[2])
        async with upstream("127.0.0.2", port) as second:
            yield first, second, dataclasses.replace(first.endpoint, address=f"localhost:{port}")


async def answer(payload, _):
    return b"\x08\x01"


async def test_new_calls_go_where_a_name_has_moved_though_the_old_server_lives(backend):
    async with two_servers() as (first, second, named):
        first.unary = second.unary = answer
        await soon(backend.unary(named, b"1", (), 15.0))
        await soon(backend.redirect(named.address, ["127.0.0.2"]))
        await soon(backend.unary(named, b"2", (), 15.0))
        assert [payload for payload, *_ in first.seen] == [b"1"]
        assert [payload for payload, *_ in second.seen] == [b"2"]


async def test_calls_under_way_finish_where_they_are(backend):
    async with two_servers() as (first, second, named):
        go = asyncio.Event()

        async def slow(payload, _):
            first.started.set()
            await go.wait()
            return b"slow"

        async def slow_stream(payloads, context):
            await context.write(b"one")
            await go.wait()
            await context.write(b"two")

        first.unary, first.stream = slow, slow_stream
        second.unary = answer
        async with asyncio.timeout(20.0), asyncio.TaskGroup() as group:
            stream = backend.stream(named, b"", (), 15.0)
            messages = aiter(stream)
            assert await anext(messages) == b"one"
            unary = group.create_task(backend.unary(named, b"1", (), 15.0))
            await first.started.wait()
            moving = group.create_task(backend.redirect(named.address, ["127.0.0.2"]))
            await asyncio.sleep(0)  # it begins
            await backend.unary(named, b"2", (), 15.0)
            assert not moving.done()
            go.set()
            assert [message async for message in messages] == [b"two"]
        assert unary.result().payload == b"slow"
        assert [payload for payload, *_ in second.seen] == [b"2"]
        assert not backend._leaving


async def test_a_move_that_still_waits_does_not_outlive_the_gateway(backend):
    async with two_servers() as (first, _, named):
        first.unary = first.hang
        async with asyncio.timeout(20.0), asyncio.TaskGroup() as group:
            unary = group.create_task(fails(backend.unary(named, b"1", (), 15.0)))
            await first.started.wait()
            moving = group.create_task(backend.redirect(named.address, ["127.0.0.2"]))
            await asyncio.sleep(0)
            moving.cancel()
            await backend.close()
        assert "connection was given up" in str(unary.result())


@pytest.mark.parametrize("give_up", ["reset", "prune"])
async def test_calls_that_hang_where_a_name_was_before_are_given_up_with_the_rest(backend, give_up):
    async with two_servers() as (first, _, named):
        first.unary = first.hang
        async with asyncio.timeout(20.0), asyncio.TaskGroup() as group:
            unary = group.create_task(fails(backend.unary(named, b"1", (), 15.0)))
            await first.started.wait()
            group.create_task(backend.redirect(named.address, ["127.0.0.2"]))
            await asyncio.sleep(0)  # it begins
            await (backend.reset(named) if give_up == "reset" else backend.prune(()))
        assert type(unary.result()) is UpstreamLostError
    assert not backend._leaving


async def fails(awaitable):
    with pytest.raises(Exception) as failure:
        await awaitable
    return failure.value


async def test_pruning_forgets_where_a_name_had_moved(backend):
    async with two_servers() as (first, second, named):
        first.unary = second.unary = answer
        await soon(backend.redirect(named.address, ["127.0.0.2"]))
        await soon(backend.unary(named, b"1", (), 15.0))
        await soon(backend.prune(()))
        await soon(backend.unary(named, b"2", (), 15.0))
        assert [payload for payload, *_ in second.seen] == [b"1"]
        assert [payload for payload, *_ in first.seen] == [b"2"]
