"""What becomes of the store when its server does not do what it should; the servers are real."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from router.errors import ConfigError, StateStoreError
from router.state.redis import link
from router.state.redis.clients import MAX_CONNECTIONS, Passwords
from router.state.redis.store import RedisStore
from tests.state.redis.servers import DEADLINE_S, PROGRAMS, Server, cluster, server
from tests.state.redis.support import eventually, failure_of, store_at

# As shipped: what is asked of a server that hangs takes so long.
SHIPPED_MS = 50.0


@pytest.fixture(params=sorted(PROGRAMS))
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(request.param) as made:
        yield made


async def test_a_server_that_hangs_is_a_failure_and_then_an_answer(running: Server) -> None:
    async with store_at(running.url, timeout_ms=SHIPPED_MS) as store:
        await eventually(lambda: store.put("a", b"1", 60.0, 0.0))
        running.pause()
        try:
            # The first breaks the connection, the second finds none to be had.
            for _ in range(3):
                assert (await failure_of(store.get("a", 0.0))).cause == "timeout"
        finally:
            running.resume()
        assert await eventually(lambda: store.get("a", 0.0)) == b"1"


async def test_a_server_that_is_gone_is_a_failure_and_comes_back_empty(running: Server) -> None:
    async with store_at(running.url) as store:
        await store.put("a", b"1", 60.0, 0.0)
        token = await store.acquire("poll", "one", 60.0, 0.0)
        running.kill()
        for _ in range(2):
            assert (await failure_of(store.get("a", 0.0))).cause == "unreachable"
        running.start()
        assert await eventually(lambda: store.get("a", 0.0)) is None
        # What an earlier holder writes is still told from what the new one does.
        assert await store.acquire("poll", "two", 60.0, 0.0) > token


async def test_a_server_that_is_flushed_knows_nothing_more(running: Server) -> None:
    async with store_at(running.url) as store:
        await store.exchange("load", "one", b"1", 60.0, 0.0)
        tokens = [await store.acquire("poll", "one", 60.0, 0.0)]
        running.ask("FLUSHALL")
        assert await store.exchange("load", "two", b"2", 60.0, 0.0) == {"two": b"2"}
        tokens.append(await store.acquire("poll", "two", 60.0, 0.0))
        assert tokens == sorted(set(tokens))


async def test_a_replica_is_read_only(running: Server) -> None:
    async with store_at(running.url) as store:
        await store.put("a", b"1", 60.0, 0.0)
        running.ask("REPLICAOF", "127.0.0.1", "1")
        assert (await failure_of(store.put("a", b"2", 60.0, 0.0))).cause == "read_only"
        assert (await failure_of(store.add("a", 1, 60.0, 0.0))).cause == "read_only"
        room = store.exchange("load", "one", b"1", 60.0, 0.0)
        assert (await failure_of(room)).cause == "read_only"
        running.ask("REPLICAOF", "NO", "ONE")
        await eventually(lambda: store.put("a", b"3", 60.0, 0.0))


async def test_what_is_no_answer_is_a_failure_and_its_connection_is_not_used_again() -> None:
    """A connection that is a step behind would go on to give everybody somebody else's answer."""
    answers = iter([b":5\r\n", b"$2\r\n1a\r\n", b"*1\r\n:5\r\n", b"$2\r\n1b\r\n"])
    connections = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n")
                asked = await reader.read(65_536)
                hello = b"%1\r\n$5\r\nproto\r\n:3\r\n"
                writer.write(hello if b"HELLO" in asked else next(answers))
        writer.close()

    strange = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = strange.sockets[0].getsockname()[1]
    async with strange, store_at(f"redis://127.0.0.1:{port}") as store:
        for value in (b"a", b"b"):
            before = len(connections)
            assert (await failure_of(store.get("a", 0.0))).cause == "other"
            assert await store.get("a", 0.0) == value
            assert len(connections) == before + 1 + (before == 0)


async def test_a_full_server_still_answers_what_it_knows(running: Server) -> None:
    async with store_at(running.url) as store:
        await store.put("a", b"1", 60.0, 0.0)
        running.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
        assert (await failure_of(store.put("b", b"2", 60.0, 0.0))).cause == "full"
        room = store.exchange("load", "one", b"1", 60.0, 0.0)
        assert (await failure_of(room)).cause == "full"
        assert await store.get("a", 0.0) == b"1"
        running.ask("CONFIG", "SET", "maxmemory", "0")
        await store.put("b", b"2", 60.0, 0.0)


async def test_a_script_that_does_not_end_is_a_server_that_hangs(running: Server) -> None:
    async with store_at(running.url, timeout_ms=SHIPPED_MS) as store:
        await eventually(lambda: store.put("a", b"1", 60.0, 0.0))
        running.ask("CONFIG", "SET", "busy-reply-threshold", "1")
        with running.raw(socket_timeout=None) as other:
            script = asyncio.to_thread(other.execute_command, "EVAL", "while true do end", 0)
            async with asyncio.TaskGroup() as group:
                busy = group.create_task(_ended(script))
                while (await failure_of(_often(store))).cause != "timeout":
                    await asyncio.sleep(0.01)
                running.ask("SCRIPT", "KILL")
                await busy
        assert await eventually(lambda: store.get("a", 0.0)) == b"1"


async def _ended(script: Awaitable[object]) -> None:
    # It is killed.
    with suppress(redis.RedisError):
        await script


async def _often(store: RedisStore) -> None:
    for _ in range(1000):
        await store.get("a", 0.0)


async def test_a_password_that_changes_is_read_anew(running: Server, tmp_path: Path) -> None:
    running.ask("CONFIG", "SET", "requirepass", "first-pass")
    running.password = "first-pass"
    file = tmp_path / "password"
    file.write_text("wrong-pass")

    def passwords() -> Passwords:
        return Passwords(file.read_text())

    async with store_at(running.url, passwords) as store:
        error = await failure_of(store.get("a", 0.0))
        assert error.cause == "denied"
        assert "pass" not in str(error).replace("password", "")
        file.write_text("first-pass")
        assert await eventually(lambda: store.get("a", 0.0)) is None


async def test_without_a_password_it_is_denied(running: Server) -> None:
    running.ask("CONFIG", "SET", "requirepass", "first-pass")
    running.password = "first-pass"
    async with store_at(running.url) as store:
        assert (await failure_of(store.get("a", 0.0))).cause == "denied"


async def test_a_password_that_cannot_be_read_is_a_failure_of_the_store() -> None:
    def unreadable() -> Passwords:
        raise ConfigError("c.yaml", [("state.redis.password_file", "is empty")])

    async with store_at("unix:///nowhere", unreadable) as store:
        error = await failure_of(store.get("a", 0.0))
        assert error.cause == "denied"
        assert "password_file" in str(error)


async def test_nobody_listens() -> None:
    async with store_at("unix:///nowhere/at/all") as store:
        assert (await failure_of(store.get("a", 0.0))).cause == "unreachable"
    async with store_at("redis://127.0.0.1:1") as store:
        assert (await failure_of(store.get("a", 0.0))).cause == "unreachable"
    async with store_at("redis://no-such-host.invalid") as store:
        assert (await failure_of(store.get("a", 0.0))).cause in ("unreachable", "timeout")


async def test_a_host_that_swallows_packets_is_a_time_out() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            async with store_at(f"redis://127.0.0.1:{address[1]}", timeout_ms=SHIPPED_MS) as store:
                assert (await failure_of(store.get("a", 0.0))).cause == "timeout"
        finally:
            for one in waiting:
                one.close()


async def test_what_is_no_redis_is_a_failure() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with store_at(f"redis://127.0.0.1:{port}") as store:
            await failure_of(store.get("a", 0.0))


async def test_a_client_that_stays_stuck_is_made_anew(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a bug of the client's would do: whatever happens, it fails."""
    monkeypatch.setattr(link, "REBUILD_S", 0.0)
    async with store_at(running.url) as store:
        await store.put("a", b"1", 60.0, 0.0)
        stuck = store._link._open
        assert stuck is not None

        async def fail(*command: object) -> None:
            raise ConnectionError("no node of the cluster is known")

        monkeypatch.setattr(stuck.redis, "execute_command", fail)
        assert (await failure_of(store.get("a", 0.0))).cause == "unreachable"
        assert await store.get("a", 0.0) == b"1"
        # Nothing of it is left open.
        await clients_are(running, 1)


async def test_a_client_that_answers_now_and_then_is_kept(running: Server) -> None:
    async with store_at(running.url) as store:
        await store.get("a", 0.0)
        kept = store._link._open
        running.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
        for _ in range(3):
            await failure_of(store.put("a", b"1", 60.0, 0.0))
        assert store._link._open is kept


async def test_after_its_end_it_answers_nothing(running: Server) -> None:
    async with store_at(running.url) as store:
        await store.get("a", 0.0)
        await store.close()
        await failure_of(store.get("a", 0.0))
        await clients_are(running, 0)


async def test_calls_that_are_given_up_lose_no_connection(running: Server) -> None:
    """Of a thousand calls that end at any moment, none keeps its connection for ever."""
    async with store_at(running.url) as store:
        await _give_up_many(store, 1000)
        await store.get("a", 0.0)
        assert running.clients() <= MAX_CONNECTIONS
    await clients_are(running, 0)


async def test_nor_in_a_cluster() -> None:
    with cluster() as nodes:
        async with store_at(nodes.url) as store:
            await store.get("a", 0.0)
            await _give_up_many(store, 1000)
            await eventually(lambda: store.scan("", 0.0))
        for node in nodes.nodes:
            await clients_are(node, 0)


async def clients_are(running: Server, number: int) -> None:
    """Returns once so many are connected: a server sees late that one has gone."""
    async with asyncio.timeout(DEADLINE_S):
        while running.clients() != number:
            await asyncio.sleep(0.01)


async def _give_up_many(store: RedisStore, times: int) -> None:
    rng = random.Random(1)
    calls = (
        lambda: store.put("a", b"1", 60.0, 0.0),
        lambda: store.put_all({str(n): b"" for n in range(9)}, 60.0, 0.0),
        lambda: store.exchange("load", "one", b"1" * 9000, 60.0, 0.0),
        lambda: store.scan("", 0.0),
    )
    given_up = 0
    for _ in range(times):
        async with asyncio.TaskGroup() as group:
            call = group.create_task(_made(rng.choice(calls)))
            # Turns of the event loop, not time: a busy machine gives up no fewer.
            for _ in range(int(2 ** rng.uniform(0.0, 7.0))):
                await asyncio.sleep(0)
            given_up += call.cancel()
    assert given_up > times / 10


async def _made(call: Callable[[], Awaitable[object]]) -> None:
    with suppress(StateStoreError):
        await call()
