"""The ways to a server: sockets, TLS, users, sentinels and clusters. All servers are real."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.contract import StateStore
from router.errors import StateStoreError
from router.lab.loopback.delay import Relay
from router.state.redis.clients import Passwords
from tests.fakes.authority import Authority
from tests.ports import free_ports
from tests.state.redis.servers import (
    PROGRAMS,
    Cluster,
    Server,
    cluster,
    free_port,
    server,
    until,
    watched,
)
from tests.state.redis.support import eventually, failure_of, store_at

DOCS = Path(__file__).resolve().parents[3] / "docs" / "state.md"
(RIGHTS,) = re.findall(r"^ACL SETUSER gateway on >PASSWORD (.*)$", DOCS.read_text(), re.MULTILINE)
CLUSTER_RIGHTS = f"{RIGHTS} +cluster|slots +asking"
SENTINEL_RIGHTS = "-@all +sentinel|masters"


@pytest.fixture(params=sorted(PROGRAMS))
def program(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def running(program: str) -> Iterator[Server]:
    with server(program, port=free_port()) as made:
        yield made


async def every_call(store: StateStore) -> None:
    """All that a store can do."""
    await store.put("a", b"1", 60.0, 0.0)
    await store.put_all({f"many/{n}": b"2" for n in range(40)}, 60.0, 0.0)
    assert await store.get("a", 0.0) == b"1"
    assert len(await store.scan("many/", 0.0)) == 40
    assert await store.add("spent", 7, 60.0, 0.0)
    assert await store.acquire("poll", "one", 60.0, 0.0)
    assert await store.acquire("poll", "one", 60.0, 0.0)
    await store.release("poll", "one")
    assert "one" in await store.exchange("load", "one", b"1", 60.0, 0.0)
    await store.leave("load", "one")


async def test_over_tcp_in_a_numbered_database(running: Server) -> None:
    async with store_at(f"redis://127.0.0.1:{running.port}/3") as store:
        await every_call(store)
    assert running.ask("DBSIZE") == 0
    with running.raw(db=3) as client:
        assert client.dbsize() > 40
    async with store_at(f"unix://{running.socket}?db=3") as store:
        assert await store.get("a", 0.0) == b"1"


async def test_a_user_needs_few_rights(running: Server) -> None:
    running.ask("ACL", "SETUSER", "gateway", "reset", "on", ">s3cret", *RIGHTS.split())
    keys = {"username": "gateway", "password_env": "ANY"}
    async with store_at(running.url, lambda: Passwords("s3cret"), **keys) as store:
        await every_call(store)
    # Nor may it touch what others keep.
    async with store_at(running.url, lambda: Passwords("s3cret"), prefix="other", **keys) as store:
        assert (await failure_of(store.put("a", b"1", 60.0, 0.0))).cause == "denied"
        room = store.exchange("load", "one", b"1", 60.0, 0.0)
        assert (await failure_of(room)).cause == "denied"


async def test_and_needs_each_of_them(running: Server) -> None:
    for right in (right for right in RIGHTS.split() if right.startswith("+")):
        rights = [other for other in RIGHTS.split() if other != right]
        running.ask("ACL", "SETUSER", "gateway", "reset", "on", ">s3cret", *rights)
        keys = {"username": "gateway", "password_env": "ANY"}
        async with store_at(running.url, lambda: Passwords("s3cret"), **keys) as store:
            assert (await failure_of(every_call(store))).cause == "denied", right


@asynccontextmanager
async def tls_in_front(server: Server, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port at which TLS ends before ``server``, whose own may not know it."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(65_536):
                writer.write(some)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_unix_connection(str(server.socket))
        await asyncio.gather(carry(reader, ahead), carry(behind, writer))

    front = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    async with front:
        yield front.sockets[0].getsockname()[1]


@pytest.fixture
def authority() -> Authority:
    return Authority()


def terms(authority: Authority, folder: Path, *names: str) -> ssl.SSLContext:
    """A server's, that wants a certificate of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(*names).write(folder, "redis"))
    context.load_verify_locations(authority.write(folder))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_both_sides_prove_who_they_are(authority: Authority, tmp_path: Path) -> None:
    ca, strangers = authority.write(tmp_path), Authority().write(tmp_path, "strangers")
    cert, key = authority.issue("gateway").write(tmp_path, "gateway")
    own = {"cert_file": cert, "key_file": key}
    context = terms(authority, tmp_path, "127.0.0.1", "redis.internal")
    with server() as behind:
        async with tls_in_front(behind, context) as port:
            async with store_at(f"rediss://127.0.0.1:{port}", ca_file=ca, **own) as store:
                await every_call(store)
            # Without a certificate; for a name that the server's is not for; by an unknown signer.
            async with store_at(f"rediss://127.0.0.1:{port}", ca_file=ca) as store:
                assert (await failure_of(store.get("a", 0.0))).cause in ("tls", "unreachable")
            async with store_at(f"rediss://localhost:{port}", ca_file=ca, **own) as store:
                assert (await failure_of(store.get("a", 0.0))).cause == "tls"
            async with store_at(f"rediss://127.0.0.1:{port}", ca_file=strangers, **own) as store:
                assert (await failure_of(store.get("a", 0.0))).cause == "tls"
            async with store_at(f"rediss://127.0.0.1:{port}", **own) as store:
                assert (await failure_of(store.get("a", 0.0))).cause == "tls"


async def test_a_handshake_may_take_longer_than_an_answer(
    authority: Authority, tmp_path: Path
) -> None:
    ca = authority.write(tmp_path)
    cert, key = authority.issue("gateway").write(tmp_path, "gateway")
    context = terms(authority, tmp_path, "127.0.0.1")
    # Two round trips; by TLS 1.3 it is the one for the connection, which costs nothing here.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with server() as behind:
        async with tls_in_front(behind, context) as port, asyncio.TaskGroup() as group:
            (far,) = free_ports(1)
            relay = group.create_task(Relay(far, port, rtt_ms=60.0).serve())
            own = {"ca_file": ca, "cert_file": cert, "key_file": key}
            async with store_at(f"rediss://127.0.0.1:{far}", timeout_ms=100.0, **own) as store:
                await eventually(lambda: store.put("a", b"1", 60.0, 0.0))
                await every_call(store)
            relay.cancel()


@pytest.mark.skipif("redis" not in PROGRAMS, reason="LOUD: no redis-server, whose own TLS is tried")
async def test_tls_of_redis_itself(authority: Authority, tmp_path: Path) -> None:
    ca = authority.write(tmp_path)
    cert, key = authority.issue("127.0.0.1").write(tmp_path, "redis")
    port = free_port()
    files = ("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca)
    with server("redis", "--tls-port", str(port), *files):
        url = f"rediss://127.0.0.1:{port}"
        async with store_at(url, ca_file=ca, cert_file=cert, key_file=key) as store:
            await every_call(store)
        async with store_at(url, ca_file=ca) as store:
            await failure_of(store.get("a", 0.0))


async def test_another_master_takes_over(program: str) -> None:
    with watched(program) as fleet:
        async with store_at(fleet.url) as store:
            await every_call(store)
            token = await store.acquire("poll", "one", 60.0, 0.0)
            until(lambda: fleet.replica.ask("GET", "carbon-router:value:a"), "it is replicated")
            fleet.master.kill()
            await failure_of(store.put("a", b"2", 60.0, 0.0))
            await eventually(lambda: store.put("a", b"3", 60.0, 0.0))
            assert fleet.replica.ask("GET", "carbon-router:value:a") == b"13"
            assert await store.acquire("poll", "one", 60.0, 0.0) >= token


async def test_a_master_that_hangs_and_comes_back_is_no_master_any_more() -> None:
    with watched() as fleet:
        async with store_at(fleet.url, timeout_ms=50.0) as store:
            await eventually(lambda: store.put("a", b"1", 60.0, 0.0))
            fleet.master.pause()
            try:
                await failure_of(store.put("a", b"2", 60.0, 0.0))
                await eventually(lambda: store.put("a", b"3", 60.0, 0.0))
            finally:
                fleet.master.resume()
            until(lambda: fleet.master.ask("ROLE")[0] == b"slave", "it has become a replica")
            await eventually(lambda: store.put("a", b"4", 60.0, 0.0))
            assert fleet.replica.ask("GET", "carbon-router:value:a") == b"14"


async def test_no_sentinel_answers() -> None:
    async with store_at("redis+sentinel://127.0.0.1:1,127.0.0.1:2/fleet") as store:
        assert (await failure_of(store.get("a", 0.0))).cause == "unreachable"


async def test_sentinels_have_users_of_their_own() -> None:
    with watched() as fleet:
        for one, user, password, rights in (
            (fleet.master, "gateway", "s3cret", RIGHTS),
            *((sentinel, "watcher", "other", SENTINEL_RIGHTS) for sentinel in fleet.sentinels),
        ):
            one.ask("ACL", "SETUSER", user, "reset", "on", f">{password}", *rights.split())
        keys = {
            "username": "gateway", "password_env": "ANY", "sentinel_username": "watcher",
            "sentinel_password_env": "ANY",
        }  # fmt: skip
        async with store_at(fleet.url, lambda: Passwords("s3cret", "other"), **keys) as store:
            await every_call(store)
        async with store_at(fleet.url, lambda: Passwords("s3cret", "wrong"), **keys) as store:
            assert (await failure_of(store.get("a", 0.0))).cause == "denied"


async def test_a_service_that_the_sentinels_do_not_know() -> None:
    with watched() as fleet:
        async with store_at(fleet.url.replace("/fleet", "/other")) as store:
            assert (await failure_of(store.get("a", 0.0))).cause == "cluster_down"


@pytest.fixture
def nodes(program: str) -> Iterator[Cluster]:
    with cluster(program) as made:
        yield made


async def test_a_cluster_keeps_a_part_on_each_node(nodes: Cluster) -> None:
    for node in nodes.nodes:
        rights = CLUSTER_RIGHTS.split()
        node.ask("ACL", "SETUSER", "gateway", "reset", "on", ">s3cret", *rights)
    keys = {"username": "gateway", "password_env": "ANY"}
    async with store_at(nodes.url, lambda: Passwords("s3cret"), **keys) as store:
        await every_call(store)
        await store.put_all({f"k/{n}": b"%d" % n for n in range(900)}, 60.0, 0.0)
        found = await store.scan("k/", 0.0)
        assert found == {f"k/{n}": b"%d" % n for n in range(900)}
    assert min(nodes.ask("DBSIZE")) > 200


async def test_one_address_is_enough_to_find_a_cluster(nodes: Cluster) -> None:
    async with store_at(f"redis+cluster://127.0.0.1:{nodes.nodes[2].port}") as store:
        await every_call(store)


async def test_slots_that_move_take_their_keys_along(nodes: Cluster) -> None:
    async with store_at(nodes.url) as store:
        assert await store.add("spent", 5, 600.0, 0.0) == 5
        await store.exchange("load", "one", b"1", 600.0, 0.0)
        for key in (b"carbon-router:count:spent", b"carbon-router:room:load"):
            for _ in nodes.move(key):
                # At each step of the move, and with the client's old view of it.
                assert await store.add("spent", 0, 600.0, 0.0) == 5
                assert "one" in await store.exchange("load", "two", b"2", 600.0, 0.0)


async def test_what_is_left_of_a_cluster_goes_on(nodes: Cluster) -> None:
    for node in nodes.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    async with store_at(nodes.url, timeout_ms=50.0) as store:
        names = [f"k{n}" for n in range(30)]
        for name in names:
            await eventually(lambda name=name: store.put(name, b"1", 600.0, 0.0))
        nodes.nodes[0].pause()
        try:
            lost = [name for name in names if not await _answers(store, name)]
            assert 0 < len(lost) < len(names)
            # Those of the others, again and again.
            for name in set(names) - set(lost):
                assert await eventually(lambda name=name: store.get(name, 0.0)) == b"1"
        finally:
            nodes.nodes[0].resume()
        for name in names:
            assert await eventually(lambda name=name: store.get(name, 0.0)) == b"1"


async def _answers(store: StateStore, name: str) -> bool:
    try:
        return bool(await store.get(name, 0.0))
    except StateStoreError:
        return False
