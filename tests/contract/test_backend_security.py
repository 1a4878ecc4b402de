"""TLS and keys towards endpoints, held against every `contract.Backend` over real sockets."""

import asyncio
import datetime
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import grpc
import pytest

from router.backends.oip.backend import GrpcBackend
from router.backends.openai.backend import HttpBackend
from router.contract import Probe
from router.errors import (
    UpstreamDeniedError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamUnreachedError,
)
from router.trust.access import AccessTable
from tests.backends.oip.upstreams import soon, upstream
from tests.backends.openai.upstreams import CHAT, http_upstream
from tests.fakes.secure import (
    ReachedAlike,
    authority,
    client_certificate,
    material,
    server_certificate,
    server_tls,
)

KEY = "sk-backend-8d1f2a77c0"
MINE = (("authorization", "Bearer client-key"), ("x-api-key", "client-key"), ("x-origin", "eu"))
HOUR = datetime.timedelta(hours=1)


class World(NamedTuple):
    """One protocol. ``denied``, ``unknown``: how a server says that it does not take a key, and
    that it has no such thing."""

    backend: Callable[..., Any]
    upstream: Callable[..., Any]
    call: tuple[tuple[str, str], ...]
    event: bytes
    ready: bytes
    denied: Any
    unknown: Any


WORLDS = {
    "grpc": World(
        GrpcBackend, upstream, (), b"e", b"\x08\x01",
        grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.NOT_FOUND,
    ),
    "http": World(
        HttpBackend, http_upstream, CHAT, b"data: e\n\n", b'{"data":[{"id":"llama"}]}', 401, 404
    ),
}  # fmt: skip


@pytest.fixture(params=WORLDS.values(), ids=WORLDS)
def world(request):
    return request.param


@pytest.fixture
async def made(world):
    """Builds backends, which are closed again."""
    backends = []

    def build(access):
        backends.append(world.backend(access=access))
        return backends[-1]

    yield build
    for one in backends:
        await one.close()


def answering(payload, trailers=(), initial=()):
    async def handler(_, context):
        if initial:
            await context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailers)
        return payload

    return handler


def refusing(status, text):
    async def handler(_, context):
        await context.abort(status, text)

    return handler


def expired():
    return authority().issue("127.0.0.1", begins=-2 * HOUR, ends=-HOUR)


REFUSALS = {
    "signed by somebody else": (lambda: server_certificate("another authority"), "issuer"),
    "expired": (expired, "expired"),
    "for another host": (lambda: authority().issue("other.example"), "mismatch|Hostname"),
}


@pytest.mark.parametrize(("issue", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_a_certificate_that_is_not_right_is_nobody_reached_and_says_why(
    world, made, issue, words, caplog
):
    async with world.upstream(tls=server_tls(issue())) as server:
        server.unary = answering(world.ready)
        backend = made(ReachedAlike())
        with pytest.raises(UpstreamUnreachedError, match=words) as caught:
            await soon(backend.unary(server.endpoint, b"", world.call, 15.0))
        assert caught.value.refused
        with caplog.at_level(logging.WARNING, "router.trust"):
            for _ in range(3):
                assert await soon(backend.probe(server.endpoint, 15.0)) is Probe.REFUSED
        assert server.seen == []
    (told,) = [record for record in caplog.records if record.name == "router.trust.access"]
    assert told.endpoint == "west-0"


async def test_a_server_that_wants_a_certificate_is_not_reached_without_one(world, made):
    async with world.upstream(tls=server_tls(clients=authority("clients"))) as server:
        server.unary = answering(world.ready)
        for shows in (None, client_certificate("strangers")):
            backend = made(ReachedAlike(shows=shows))
            # Of TLS 1.3 it is only told after the handshake, by servers of asyncio not even then.
            with pytest.raises((UpstreamUnreachedError, UpstreamLostError)):
                await soon(backend.unary(server.endpoint, b"", world.call, 15.0))
            assert server.seen == []
            assert await soon(backend.probe(server.endpoint, 15.0)) is Probe.REFUSED
        backend = made(ReachedAlike(shows=client_certificate("clients")))
        await soon(backend.unary(server.endpoint, b"", world.call, 15.0))
        assert server.peers[-1].spiffe_id == "spiffe://example.org/batch"


async def test_neither_end_falls_back_to_plaintext(world, made):
    async with world.upstream() as plain, world.upstream(tls=server_tls()) as secure:
        plain.unary = secure.unary = answering(world.ready)
        assert await soon(made(ReachedAlike()).probe(plain.endpoint, 15.0)) is Probe.REFUSED
        assert await soon(made(AccessTable()).probe(secure.endpoint, 15.0)) is Probe.REFUSED
        assert plain.seen == secure.seen == []


async def test_a_name_of_its_own_is_what_the_certificate_is_held_against(world, made):
    async with world.upstream(tls=server_tls(authority().issue("llm.internal"))) as server:
        server.unary = answering(world.ready)
        named = ReachedAlike(server_name="llm.internal")
        assert await soon(made(named).probe(server.endpoint, 15.0)) is Probe.READY


async def test_a_name_that_moved_is_still_held_against_its_certificate(world, made):
    for name, answer in (("localhost", Probe.READY), ("other.example", Probe.REFUSED)):
        async with world.upstream(tls=server_tls(authority().issue(name))) as server:
            server.unary = answering(world.ready)
            port = server.endpoint.address.rpartition(":")[2]
            endpoint = replace(server.endpoint, address=f"localhost:{port}")
            backend = made(ReachedAlike())
            await soon(backend.redirect(endpoint.address, ["127.0.0.1"]))
            assert await soon(backend.probe(endpoint, 15.0)) is answer


async def test_a_new_certificate_of_ours_is_shown_and_what_runs_finishes(world, made):
    first, second = client_certificate(), client_certificate()
    released = asyncio.Event()
    async with world.upstream(tls=server_tls(clients=authority())) as server:

        async def slow(_, context):
            await context.write(world.event)
            server.started.set()
            await released.wait()
            await context.write(world.event)

        server.stream, server.unary = slow, answering(world.ready)
        access = ReachedAlike(shows=first)
        backend = made(access)
        async with asyncio.TaskGroup() as tasks:
            stream = backend.stream(server.endpoint, b"{}", world.call, math.inf)
            running = tasks.create_task(collect(stream))
            await soon(server.started.wait())
            access.source.replace(material(second, authority().root))
            renewal = tasks.create_task(backend.renew(server.endpoint.address))
            await asyncio.sleep(0)
            await soon(backend.ask(server.endpoint, QUESTION[world.call], b"", (), 15.0))
            assert not running.done()
            assert not renewal.done()
            released.set()
            assert b"".join(await soon(running)) == world.event * 2
            await soon(renewal)
    shown = [peer.fingerprint for peer in server.peers]
    assert shown[0] != shown[-1]


QUESTION = {(): "ServerReady", CHAT: "GET /health"}


async def collect(stream):
    return [message async for message in stream]


# Keys


async def sent_with(world, backend, metadata=MINE):
    """Header fields of a call, of a stream and of a probe, as a server sees them."""
    async with world.upstream() as server:
        server.unary = answering(world.ready)

        async def stream(_, context):
            await context.write(world.event)

        server.stream = None if world.call else stream
        await soon(backend.unary(server.endpoint, b"{}", (*world.call, *metadata), 15.0))
        await soon(collect(backend.stream(server.endpoint, b"{}", (*world.call, *metadata), 15)))
        await soon(backend.probe(server.endpoint, 15.0))
        return [dict(fields) for _, fields, _ in server.seen]


@pytest.mark.parametrize("header", ["", "x-api-key", "x-own-key"])
async def test_the_key_of_an_endpoint_goes_with_every_request_and_no_clients_does(
    world, made, header
):
    access = plain(key=KEY, header=header)
    *calls, probe = await sent_with(world, made(access))
    wanted = {"authorization": f"Bearer {KEY}"} if not header else {header: KEY}
    for fields in (*calls, probe):
        assert wanted.items() <= fields.items()
        assert "client-key" not in str(fields)
    assert all(fields["x-origin"] == "eu" for fields in calls)


async def test_without_a_key_clients_speak_for_themselves(world, made):
    access = AccessTable()
    *calls, probe = await sent_with(world, made(access))
    assert all(fields["x-api-key"] == "client-key" for fields in calls)
    assert "authorization" not in probe


async def test_a_new_key_is_sent_at_once(world, made):
    access = plain(key=KEY)
    backend = made(access)
    await sent_with(world, backend)
    access.keys.replace(type(access.keys.value)("another-key"))
    calls = await sent_with(world, backend)
    assert {fields["authorization"] for fields in calls} == {"Bearer another-key"}


async def test_a_key_that_is_not_accepted_is_the_endpoints_fault_and_not_its_callers(world, made):
    async with world.upstream() as server:
        server.unary = refusing(world.denied, f"bad key: Bearer {KEY}")
        backend = made(plain(key=KEY))
        with pytest.raises(UpstreamFaultError) as caught:
            await soon(backend.unary(server.endpoint, b"{}", world.call, 15.0))
        assert "this gateway's key" in str(caught.value)
        # A caller's own key is for the caller to mend.
        with pytest.raises(UpstreamDeniedError):
            await soon(made(AccessTable()).unary(server.endpoint, b"{}", world.call, 15.0))


async def test_a_server_that_echoes_the_key_is_not_passed_on(world, made):
    async with world.upstream() as server:
        backend = made(plain(key=KEY))
        server.unary = refusing(world.unknown, f"no such model; you sent Bearer {KEY[:12]}...")
        with pytest.raises(UpstreamDeniedError) as caught:
            await soon(backend.unary(server.endpoint, b"{}", world.call, 15.0))
        assert KEY[:8] not in f"{caught.value} {caught.value.trailers}"
        kept = ("x-kept", "1")
        server.unary = answering(b"{}", (("x-seen", f"Bearer {KEY}"), kept), (("x-key", KEY),))
        reply = await soon(backend.unary(server.endpoint, b"{}", world.call, 15.0))
        assert KEY not in str(reply)
        assert kept in (*reply.initial_metadata, *reply.trailers)


def plain(**named):
    """With a key, without TLS."""
    access = ReachedAlike(**named)
    access._security = {}
    return access
