"""What `contract.Backend` promises, held against every implementation over real sockets."""

import asyncio
import contextlib
import gc
import math
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from router.backends.oip.backend import ChannelOptions, GrpcBackend
from router.backends.openai.backend import HttpBackend
from router.contract import Probe
from router.errors import (
    UpstreamError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from tests.backends.oip.upstreams import soon, tcp_server, unused, upstream
from tests.backends.openai.upstreams import CHAT, http_upstream
from tests.fakes.secure import ReachedAlike, server_tls


class World(NamedTuple):
    """One protocol: how its backend and its servers are made.

    ``call``: metadata of a usual call. ``event``: a message of a stream that says a text.
    ``ready``, ``unready``: what is answered to probes; ``unknown``: the status of a page that
    there is not. ``hop``: fields that stay behind. ``broken``: what servers do that do not speak
    it. ``cut``: what half a stream is.
    """

    backend: Callable[[], Any]
    upstream: Callable[[], Any]
    call: tuple[tuple[str, str], ...]
    event: Callable[[bytes], bytes]
    ready: bytes
    unready: tuple[bytes, ...]
    unknown: Any
    hop: tuple[tuple[str, str], ...]
    broken: tuple[dict[str, Any], ...]
    cut: type[UpstreamError]


RESET = {"reset": True}
GRPC = World(
    GrpcBackend,
    upstream,
    (),
    bytes,
    b"\x08\x01",
    (b"", b"\xff"),
    grpc.StatusCode.UNIMPLEMENTED,
    (("user-agent", "caller"), ("te", "trailers"), ("grpc-timeout", "1H"), (":path", "/x")),
    (
        RESET,
        {"data": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
        {"data": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff" * 100},
        {"data": b"\x00\x00\x12\x04\x00", "reset": True},
    ),
    UpstreamFaultError,
)
HTTP = World(
    HttpBackend,
    http_upstream,
    CHAT,
    lambda text: b"data: %b\n\n" % text,
    b'{"object":"list","data":[{"id":"llama"}]}',
    (),
    404,
    (("te", "trailers"), ("host", "h"), ("connection", "x-one"), ("x-one", "1"), ("expect", "x")),
    (
        RESET,
        {"data": b"SSH-2.0-OpenSSH_9.2\r\n"},
        {"data": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"},
        {"data": b"HTTP/1.1 200 OK\r\nconte", "reset": True},
    ),
    UpstreamLostError,
)
IMPLEMENTATIONS = {
    "grpc": GRPC,
    "grpc-2-channels": GRPC._replace(
        backend=lambda: GrpcBackend(ChannelOptions(channels_per_endpoint=2))
    ),
    "http": HTTP,
    "grpc-tls": GRPC._replace(
        backend=lambda: GrpcBackend(access=ReachedAlike()),
        upstream=lambda: upstream(tls=server_tls()),
    ),
    "http-tls": HTTP._replace(
        backend=lambda: HttpBackend(access=ReachedAlike()),
        upstream=lambda: http_upstream(tls=server_tls()),
    ),
}
FOREVER = math.inf


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def world(request):
    return request.param


@pytest.fixture
async def backend(world):
    made = world.backend()
    yield made
    await made.close()


def answering(payload, trailers=(), initial=()):
    async def handler(_, context):
        if initial:
            await context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailers)
        return payload

    return handler


def streaming(*messages, trailers=()):
    async def handler(_, context):
        context.set_trailing_metadata(trailers)
        for message in messages:
            await context.write(message)

    return handler


async def collect(stream):
    return [message async for message in stream]


async def test_unary_carries_bytes_and_metadata_both_ways(world, backend):
    report = ("endpoint-load-metrics", "TEXT request_cost.energy_j=1")
    async with world.upstream() as server:
        # As an answer of either protocol may begin.
        back = b"{\x00\xffback"
        server.unary = answering(back, (report,), (("i", "2"),))
        metadata = (("ce-type", "t"), ("x-origin", "eu"))
        sent = b"\xff\x00sent"
        reply = await soon(backend.unary(server.endpoint, sent, (*world.call, *metadata), FOREVER))
        payload, seen, remaining_s = server.seen[0]
    assert (reply.payload, payload, remaining_s) == (back, sent, None)
    assert report in reply.trailers
    assert ("i", "2") in reply.initial_metadata
    assert set(metadata) <= set(seen)


async def test_what_belongs_to_one_hop_stays_there(world, backend):
    async with world.upstream() as server:
        server.unary = answering(b"")
        await soon(backend.unary(server.endpoint, b"", world.hop, FOREVER))
        _, seen, remaining_s = server.seen[0]
    assert remaining_s is None
    assert not set(world.hop) & set(seen)


async def test_a_server_that_hangs_is_a_timeout_and_its_work_is_cancelled(world, backend):
    async with world.upstream() as server:
        server.unary = server.hang
        with pytest.raises(UpstreamTimeoutError):
            await soon(backend.unary(server.endpoint, b"", world.call, 0.05))
        await soon(server.cancelled.wait())


async def test_cancelling_a_unary_call_cancels_it_upstream(world, backend):
    async with world.upstream() as server:
        server.unary = server.hang
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(backend.unary(server.endpoint, b"", world.call, FOREVER))
            await soon(server.started.wait())
            call.cancel()
        await soon(server.cancelled.wait())
        assert call.cancelled()


async def test_a_server_that_does_not_speak_the_protocol_is_not_reached_or_lost(world, backend):
    broken = (UpstreamUnreachedError, UpstreamLostError)
    for behaviour in world.broken:
        async with tcp_server(**behaviour) as endpoint:
            with pytest.raises(broken):
                await soon(backend.unary(endpoint, b"x", world.call, 15.0))
            with pytest.raises(broken):
                await soon(collect(backend.stream(endpoint, b"x", world.call, 15.0)))
            assert await soon(backend.probe(endpoint, 15.0)) is Probe.REFUSED


async def test_nobody_there_is_a_connection_refused(world, backend):
    endpoint = unused()
    with pytest.raises(UpstreamUnreachedError) as caught:
        await soon(backend.unary(endpoint, b"", world.call, 15.0))
    assert caught.value.refused
    assert endpoint.name in str(caught.value)


@contextlib.contextmanager
def no_descriptors():
    """While it runs this process can open nothing more, whatever it closes meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Standard streams have these three; poll() takes no more descriptors than the limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Path(os.devnull).open("rb").close()
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_what_the_gateway_itself_lacks_to_connect_is_blamed_on_nobody(world, backend):
    """The server is well; to take it out would be wrong, however often that is tried."""
    async with world.upstream() as server:
        with no_descriptors():
            with pytest.raises(UpstreamUnreachedError) as caught:
                await soon(backend.unary(server.endpoint, b"", world.call, 15.0))
            probed = await soon(backend.probe(server.endpoint, 15.0))
    assert not caught.value.refused
    assert "too many open files" in str(caught.value).lower()
    assert probed is Probe.UNKNOWN


async def test_a_mute_server_is_a_timeout(world, backend):
    async with tcp_server(hold=True) as endpoint:
        with pytest.raises(UpstreamTimeoutError):
            await soon(backend.unary(endpoint, b"", world.call, 0.05))


@pytest.mark.parametrize("texts", [(), (b"a",), (b"a", b"", b"\xff" * 100_000)])
async def test_a_stream_has_any_number_of_answers(world, backend, texts):
    async with world.upstream() as server:
        messages = [world.event(text) for text in texts]
        report = ("endpoint-load-metrics", "TEXT request_cost.energy_j=1")
        server.stream = streaming(*messages, trailers=(report,))
        metadata = (*world.call, ("x-origin", "eu"))
        stream = backend.stream(server.endpoint, b"ask", metadata, FOREVER)
        assert stream.trailers() == stream.initial_metadata() == ()
        assert b"".join(await soon(collect(stream))) == b"".join(messages)
        assert report in stream.trailers()
        stream.cancel()
        stream.cancel()
        payloads, seen, _ = server.seen[0]
    assert payloads == [b"ask"]
    assert ("x-origin", "eu") in seen


async def test_half_a_stream_is_a_fault_after_the_half(world, backend):
    async with world.upstream() as server:

        async def half(_, context):
            await context.write(one)
            await context.write(two)
            await server.hang()

        one, two = map(world.event, (b"1", b"2"))
        server.stream = half
        got = []
        with pytest.raises(world.cut):
            async for message in backend.stream(server.endpoint, b"", world.call, FOREVER):
                got.append(message)
                if b"".join(got) == one + two:
                    await soon(server.started.wait())
                    await server.stop()
    assert b"".join(got) == one + two


async def test_a_stream_that_hangs_is_a_timeout(world, backend):
    async with world.upstream() as server:
        server.stream = server.hang
        with pytest.raises(UpstreamTimeoutError):
            await soon(collect(backend.stream(server.endpoint, b"", world.call, 0.05)))
        await soon(server.cancelled.wait())


async def test_cancelling_a_stream_cancels_it_upstream(world, backend):
    async with world.upstream() as server:
        server.stream = server.hang
        async with asyncio.TaskGroup() as tasks:
            stream = backend.stream(server.endpoint, b"", world.call, FOREVER)
            reading = tasks.create_task(collect(stream))
            await soon(server.started.wait())
            reading.cancel()
        await soon(server.cancelled.wait())
        assert reading.cancelled()


async def test_leaving_a_stream_early_cancels_it_upstream(world, backend):
    async with world.upstream() as server:

        async def one_then_hang(_, context):
            await context.write(world.event(b"1"))
            await server.hang()

        server.stream = one_then_hang
        answers = aiter(backend.stream(server.endpoint, b"", world.call, FOREVER))
        assert await soon(anext(answers)) == world.event(b"1")
        await soon(server.started.wait())
        await soon(answers.aclose())
        await soon(server.cancelled.wait())


async def probes(backend, endpoint, timeout_s=15.0):
    """What both probes say; they must agree."""
    server = await soon(backend.probe(endpoint, timeout_s))
    model = await soon(backend.probe_model(endpoint, "llama", "", timeout_s))
    assert server is model
    return server


async def test_a_probe_tells_what_the_server_says(world, backend):
    async with world.upstream() as server:
        server.unary = answering(world.ready)
        assert await probes(backend, server.endpoint) is Probe.READY
        for said in world.unready:
            server.unary = answering(said)
            assert await probes(backend, server.endpoint) is Probe.NOT_READY


async def test_a_probe_that_the_server_does_not_know_says_that_it_lives(world, backend):
    async with world.upstream() as server:

        async def refuse(_, context):
            await context.abort(world.unknown, "no")

        server.unary = refuse
        assert await probes(backend, server.endpoint) is Probe.UNKNOWN


async def test_a_probe_without_an_answer_is_silence_and_without_a_connection_refused(
    world, backend
):
    async with world.upstream() as server:
        server.unary = server.hang
        assert await probes(backend, server.endpoint, 0.05) is Probe.SILENT
    assert await probes(backend, unused()) is Probe.REFUSED


async def test_a_reset_gives_up_what_hangs_at_one_endpoint_and_connects_anew(world, backend):
    async with world.upstream() as frozen, world.upstream() as other:
        frozen.unary = frozen.stream = other.unary = frozen.hang
        async with asyncio.TaskGroup() as tasks:
            hanging = [
                tasks.create_task(
                    failure(backend.unary(frozen.endpoint, b"", world.call, FOREVER))
                ),
                tasks.create_task(
                    failure(collect(backend.stream(frozen.endpoint, b"", world.call, 15)))
                ),
            ]
            untouched = tasks.create_task(
                failure(backend.unary(other.endpoint, b"", world.call, FOREVER))
            )
            while len(frozen.seen) + len(other.seen) < 3:
                await asyncio.sleep(0.001)
            await soon(backend.reset(frozen.endpoint))
            assert [type(await one) for one in hanging] == [UpstreamLostError] * 2
            assert not untouched.done()
            frozen.unary = answering(world.ready)
            assert await soon(backend.probe(frozen.endpoint, 15.0)) is Probe.READY
            untouched.cancel()


async def test_closing_ends_calls_in_flight_with_an_error_not_a_cancellation(world, backend):
    async with world.upstream() as server:
        server.unary = server.stream = server.hang
        async with asyncio.TaskGroup() as tasks:
            stream = backend.stream(server.endpoint, b"", world.call, FOREVER)
            calls = [
                tasks.create_task(failure(collect(stream))),
                tasks.create_task(
                    failure(backend.unary(server.endpoint, b"", world.call, FOREVER))
                ),
            ]
            await soon(server.started.wait())
            while len(server.seen) < 2:
                await asyncio.sleep(0.001)
            await soon(backend.close())
        assert [type(call.result()) for call in calls] == [UpstreamLostError] * 2
        with pytest.raises(UpstreamUnreachedError):
            await backend.unary(server.endpoint, b"", world.call, FOREVER)


async def failure(awaitable):
    try:
        await soon(awaitable)
    except UpstreamError as error:
        return error
    return None


def open_sockets():
    links = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)


async def test_closing_leaves_no_sockets_and_no_tasks(world):
    async def round_trip():
        async with world.upstream() as server, tcp_server(reset=True) as broken:
            server.unary = answering(b"{}")
            backend = world.backend()
            for _ in range(3):
                server.stream = None
                await soon(backend.unary(server.endpoint, b"", world.call, FOREVER))
                server.stream = streaming(world.event(b"1"))
                await soon(collect(backend.stream(server.endpoint, b"", world.call, FOREVER)))
                await failure(backend.unary(broken, b"", world.call, 15.0))
            await backend.close()

    await round_trip()  # what gRPC opens once and keeps
    tasks = len(asyncio.all_tasks())
    before = open_sockets()
    for _ in range(5):
        await round_trip()
    gc.collect()
    async with asyncio.timeout(20.0):
        while open_sockets() > before:
            await asyncio.sleep(0.01)  # gRPC closes its sockets on threads of its own
    assert len(asyncio.all_tasks()) == tasks
